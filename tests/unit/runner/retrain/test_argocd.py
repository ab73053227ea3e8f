"""What pin tells Argo CD, to a server that checks it as Argo CD does."""

import hashlib
import hmac
import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from runner.retrain.argocd import CA, SECRET, URL, send_push
from tests.support.answering import Handler, answering
from tests.support.certificates import certificate

COMMIT = "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"
NAME = "aviation/flyingthings"
PAGE = f"https://github.com/{NAME}"
KEY = "what Argo CD and we know"
EVENTS: list[dict[str, Any]] = []


class ArgoCD(Handler):
    """Takes signed pushes and keeps what they say in EVENTS."""

    def do_POST(self) -> None:  # noqa: N802
        body = self.body()
        signature = f"sha256={hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()}"
        is_right = self.path == "/api/webhook" and self.headers["X-Hub-Signature-256"] == signature
        if is_right and self.headers["X-GitHub-Event"] == "push":
            EVENTS.append(json.loads(body))
        self.answer(
            200 if is_right else 400, b"" if is_right else b"Webhook processing failed: HMAC verification failed"
        )


@pytest.fixture(scope="module")
def environment_of_pin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the Task knows of a running Argo CD, whose certificate signs itself and is no authority."""
    folder = tmp_path_factory.mktemp("argocd")
    files, key = certificate(folder, "localhost", more=("basicConstraints=critical,CA:FALSE",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files, key)
    with answering(ArgoCD, context) as port:
        yield {URL: f"https://localhost:{port}/api/webhook", SECRET: KEY, CA: files.read_text()}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({URL: ""}, URL),
        ({SECRET: ""}, SECRET),
        ({SECRET: "another"}, "400: Webhook processing failed"),
        ({CA: ""}, "certificate verify failed"),
        ({CA: "no certificate"}, "https://localhost"),
        ({URL: "http://localhost:1/api/webhook"}, "expected https"),
        ({URL: "https://localhost:1/api/webhook"}, "refused"),
    ],
)
def test_argocd_is_told_when_it_can_be_and_knows_the_key(
    environment_of_pin: dict[str, str], changes: dict[str, str], reason: str
) -> None:
    EVENTS.clear()
    said = send_push(f"{PAGE}.git", "main", COMMIT, ["dvc.lock"], environment_of_pin | changes)
    assert (COMMIT[:12] in said) is not bool(reason)
    assert reason in said
    commits = [{"id": COMMIT, "added": [], "removed": [], "modified": ["dvc.lock"]}]
    repository = {"html_url": PAGE, "full_name": NAME}
    event = {"ref": "refs/heads/main", "after": COMMIT, "repository": repository, "commits": commits}
    assert list(EVENTS) == ([] if reason else [event])
