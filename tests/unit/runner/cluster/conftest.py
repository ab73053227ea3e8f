"""A cluster that kubectl is logged in to: a server on loopback that answers as clusters do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import program

Answers = dict[str, Any]  # path → object, list of objects, or the HTTP status of a refusal
REFUSALS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 503: "ServiceUnavailable"}


class Cluster:
    """A server that answers the GETs of `answers` and says NotFound to every other one."""

    def __init__(self) -> None:
        cluster = self
        self.answers: Answers = {"/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.4"}}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = cluster.answers.get(self.path.partition("?")[0], 404)
                if isinstance(found, list):
                    found = {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": found}
                status = found if isinstance(found, int) else 200
                if isinstance(found, int):
                    reason = REFUSALS[found]
                    found = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": found}
                    found["message"] = f"{self.path} {reason}"
                body = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def kubeconfig(self, path: Path) -> Path:
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        named = {"name": "it", "cluster": {"server": url}}
        context = {"name": "it", "context": {"cluster": "it", "user": "me"}}
        user = {"name": "me", "user": {"token": "nothing"}}
        path.write_text(
            json.dumps({"clusters": [named], "contexts": [context], "users": [user], "current-context": "it"})
        )
        return path

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster that kubectl is logged in to; a test sets its answers."""
    program("kubectl", "install it")
    running = Cluster()
    monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setenv("HOME", str(tmp_path))  # where kubectl keeps what it read
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield running
    running.stop()
