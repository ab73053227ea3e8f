"""A model server in a process of its own, for tests that must see what a client sees."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT

BOUNDARY = "of-the-form"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, data: bytes, *, name: str = "file", filename: str = "a.jpg", **headers: str) -> Answer:
        return self.post_form(path, [(name, filename, data)], **headers)

    def post_form(self, path: str, parts: Sequence[tuple[str, str | None, bytes]], **headers: str) -> Answer:
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.ask("POST", path, form(parts), kind | {key.replace("_", "-"): it for key, it in headers.items()})

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def lines(self) -> list[dict[str, Any]]:
        """What it logged; each line must be a JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def form(parts: Sequence[tuple[str, str | None, bytes]]) -> bytes:
    """A multipart body of (name, file name or None, data)."""
    body = b""
    for name, filename, data in parts:
        given = "" if filename is None else f'; filename="{filename}"'
        body += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{given}\r\n\r\n'.encode() + data + b"\r\n"
        )
    return body + f"--{BOUNDARY}--\r\n".encode()


@contextlib.contextmanager
def running(folder: Path, *, until: str = "/readyz", **environment: str) -> Iterator[Server]:
    """A server with these settings, until the block ends.

    Args:
        folder: for its log and its temporary files.
        until: what must answer before the block begins.
        environment: its settings, by their names as environment variables.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    log = folder / "server.log"
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    settings = {"DRAIN_SECONDS": "0.2", "WORKERS": "2", "TMPDIR": str(temporary)} | environment
    command = (sys.executable, "-m", "uvicorn", "serving.app:create_app", "--factory", "--port", str(port))
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=os.environ | settings, stdout=stream, stderr=subprocess.STDOUT
        )
    server = Server(port, process, log)
    try:
        _wait(server, until)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Server, path: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError):
            if server.get(path).status == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"the server is not ready: {server.log.read_text()}")
