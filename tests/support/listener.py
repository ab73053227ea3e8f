"""Tekton Triggers' own sink on loopback, with its own interceptors and an EventListener of ours."""

import hashlib
import hmac
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import urllib3
import yaml

from tests.support.gitops import Manifest
from tests.support.processes import program, stop

SECRET = "what GitHub and we know"
LABELS_SECRET = "what Label Studio and we know"
REPORTS_SECRET = "what model servers and we know"


def tekton_program() -> str:
    """Return Tekton's code as a program; skip without it, but in CI fail."""
    return program("tekton", "`make tekton` builds it (needs Go)")


def signature(body: bytes, secret: str = SECRET) -> str:
    """Return what GitHub sends beside a body that it signs."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


@dataclass
class Listener:
    """The sink, and where it writes what it creates."""

    port: int
    output: IO[str]
    log: Path

    def deliver(self, payload: dict[str, Any] | bytes, **headers: str | None) -> list[Manifest]:
        """Send a webhook as GitHub does and return the PipelineRuns that came of it.

        A header can be replaced, or left out with None.
        """
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sent: dict[str, str | None] = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-Hub-Signature-256": signature(body),
        }
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        given = {name: value for name, value in sent.items() if value is not None}
        # urllib3 sends headers that are none too, such as "Bearer " without a token.
        answer = urllib3.request("POST", f"http://127.0.0.1:{self.port}/", body=body, headers=given, timeout=30)
        assert answer.status == 202 or 400 <= answer.status < 500, answer.data
        created: list[Manifest] = json.loads(self.output.readline())["created"]
        return created


@contextmanager
def listening(rendered: list[Manifest], folder: Path) -> Iterator[Listener]:
    known = {"webhook": SECRET, "label-studio-webhook": LABELS_SECRET, "feedback-webhook": REPORTS_SECRET}
    secrets = [
        {
            **{"apiVersion": "v1", "kind": "Secret", "stringData": {"secret": secret}},
            "metadata": {"name": name, "namespace": "flywheel-pipelines"},
        }
        for name, secret in known.items()
    ]
    file = folder / "rendered.yaml"
    file.write_text(yaml.safe_dump_all([*rendered, *secrets]), encoding="utf-8")
    with (folder / "listener.log").open("wb") as log:
        process = subprocess.Popen(
            [tekton_program(), "listen", str(file)], stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout
        try:
            yield Listener(json.loads(process.stdout.readline())["port"], process.stdout, folder / "listener.log")
        finally:
            stop(process)
            process.stdout.close()
