"""A cluster that kubectl is logged in to: a server on loopback that answers as clusters do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering import Handler, answering
from tests.support.processes import program

Answers = dict[str, Any]  # path → object, list of objects, text, or the HTTP status of a refusal
REFUSALS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 503: "ServiceUnavailable"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """The answers to GETs of the cluster that kubectl is logged in to; every other path is NotFound."""
    program("kubectl", "install it")
    answers: Answers = {"/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.4"}}

    class ApiServer(Handler):
        def do_GET(self) -> None:  # noqa: N802
            found, status = answers.get(self.path.partition("?")[0], 404), 200
            if isinstance(found, list):
                found = {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": found}
            if isinstance(found, int):
                status, reason = found, REFUSALS[found]
                found = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status}
                found["message"] = f"{self.path} {reason}"
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.answer(status, body, Content_Type="application/json")

    with answering(ApiServer) as port:
        log_in(tmp_path, monkeypatch, port)
        yield answers


def log_in(folder: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Log kubectl in to a port of loopback."""
    config = {
        "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
        "users": [{"name": "me", "user": {"token": "nothing"}}],
        "current-context": "it",
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setenv("HOME", str(folder))  # where kubectl keeps what it read
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
