"""A model server in a process of its own, for tests that must see what a client sees."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT
from tests.support.processes import free_port, start, stop

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
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, data: bytes, *, filename: str = "a.jpg", **headers: str) -> Answer:
        return self.post_form(path, [("file", filename, data)], **headers)

    @property
    def url(self) -> str:
        """Its root, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def post_form(self, path: str, parts: Sequence[tuple[str, str | None, bytes]], **headers: str) -> Answer:
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.ask("POST", path, form(parts), kind | {key.replace("_", "-"): it for key, it in headers.items()})

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

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
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{given}\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    until: str = "/readyz",
    flags: Sequence[str] = (),
    within: Sequence[str] = (),
    files: str = "",
    port: str = "",
    **environment: str,
) -> Iterator[Server]:
    """A server with these settings and flags, which answers at `until`; its log and scratch are in the folder.

    `within`: a command that runs its command. `files`: how many it may have open; empty: as many as this process.
    `port`: empty: a free one.
    """
    log, temporary = folder / "server.log", folder / "tmp"
    temporary.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    settings = {"DRAIN_SECONDS": "0.2", "WORKERS": "2", "TMPDIR": str(temporary)} | environment
    server = Server(int(port or free_port()), log)
    limits = ("prlimit", f"--nofile={files}") if files else ()
    uvicorn = (sys.executable, "-m", "uvicorn", "serving.app:create_app", "--factory", "--port", str(server.port))
    command, env = (*within, *limits, *uvicorn, *flags), os.environ | settings
    server.process = start(command, log, lambda: server.get(until).status == 200, cwd=PROJECT, env=env)
    try:
        yield server
    finally:
        stop(server.process)
