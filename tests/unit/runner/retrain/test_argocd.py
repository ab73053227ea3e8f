"""What pin tells Argo CD, to a server that checks it as Argo CD does."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from runner.forge.github import remote_of
from runner.retrain.argocd import CA, SECRET, URL, event, tell
from tests.support.certificates import certificate

COMMIT = "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"
REPOSITORY = "https://github.com/aviation/flyingthings.git"
KEY = "what Argo CD and we know"


class ArgoCD:
    """Takes signed pushes and keeps what they say."""

    def __init__(self, folder: Path) -> None:
        self.events: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signature = f"sha256={hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()}"
                is_right = self.path == "/api/webhook" and self.headers["X-Hub-Signature-256"] == signature
                if is_right and self.headers["X-GitHub-Event"] == "push":
                    outer.events.append(json.loads(body))
                self.send_response(200 if is_right else 400)
                self.end_headers()
                self.wfile.write(b"" if is_right else b"Webhook processing failed: HMAC verification failed")

        files, key = certificate(folder, "localhost", more=("basicConstraints=critical,CA:FALSE",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files, key)
        self.ca = files.read_text()  # argocd-server's own certificate signs itself, and is no authority
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_port}/api/webhook"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def environment(self, **changes: str) -> dict[str, str]:
        return {URL: self.url, SECRET: KEY, CA: self.ca} | changes


@pytest.fixture(scope="module")
def argocd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgoCD]:
    made = ArgoCD(tmp_path_factory.mktemp("argocd"))
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def test_argocd_is_told_when_it_knows_the_key(argocd: ArgoCD, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CA_BUNDLE", raising=False)
    said = tell(REPOSITORY, "main", COMMIT, ["dvc.lock"], argocd.environment())
    assert said == f"Argo CD was told of {COMMIT[:12]}"
    assert argocd.events[-1] == event("https://github.com/aviation/flyingthings", "main", COMMIT, ["dvc.lock"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({URL: ""}, URL),
        ({SECRET: ""}, SECRET),
        ({SECRET: "another"}, "400: Webhook processing failed"),
        ({CA: ""}, "certificate verify failed"),
        ({CA: "no certificate"}, "https://localhost"),
        ({URL: "http://localhost:1/api/webhook"}, "expected https"),
        ({URL: "https://localhost:1/api/webhook"}, "refused"),
    ],
)
def test_it_is_only_said_when_argocd_cannot_be_told(
    argocd: ArgoCD, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], reason: str
) -> None:
    monkeypatch.delenv("CA_BUNDLE", raising=False)
    before = list(argocd.events)
    said = tell(REPOSITORY, "main", COMMIT, [], argocd.environment(**changes))
    assert said.startswith("Argo CD was not told")
    assert reason in said
    assert argocd.events == before


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/aviation/flyingthings.git",
        "https://github.com/aviation/flyingthings",
        "https://git.example.com:3000/aviation/flyingthings.git",
        "https://git.example.com/aviation/flyingthings.git",
        "ssh://git@git.example.com:2222/aviation/flyingthings.git",
        "git@github.com:aviation/flyingthings.git",
    ],
)
@pytest.mark.parametrize("branch", ["main", "feature/x"])
def test_the_applications_repository_is_that_of_the_event(
    monkeypatch: pytest.MonkeyPatch, url: str, branch: str
) -> None:
    """The comparison is Argo CD's: util/webhook/webhook.go, getURLRegex and ParseRevision."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    told = event(remote_of(url).page, branch, COMMIT, [])
    page = urlsplit(told["repository"]["html_url"])
    user = r"[\w\.][\w\.-]{0,30}[\w\.\$-]?"
    host, path = re.escape(page.hostname or ""), re.escape(page.path[1:])
    assert re.search(rf"(?i)^((https?|ssh)://)?({user}@)?((alt)?ssh\.)?{host}(:\d+)?[:/]{path}(\.git)?$", url)
    assert told["ref"].split("/", 2)[-1] == branch
