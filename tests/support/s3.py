"""Real S3 servers on loopback: MinIO, which `make minio` installs, and rclone, which comes with the extra `dev`."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio import Minio
from minio.credentials import StaticProvider
from minio.error import MinioException
from minio.minioadmin import MinioAdmin
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flywheel" / "bin"
NAMES = ("minio", "rclone")
_READY_SECONDS = 30


@dataclass
class S3:
    """A server that runs until it is stopped, and again after `start`: same port, same data, same user."""

    name: str
    folder: Path
    program: str
    port: int = 0
    user: str = field(default_factory=lambda: f"root{secrets.token_hex(6)}")
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What AWS_ENDPOINT_URL is."""
        return f"{'https' if self.certificate.exists() else 'http'}://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """What CA_BUNDLE is, where the server speaks TLS: MinIO does when it finds this file."""
        return self.folder / "certs" / "public.crt"

    @property
    def data(self) -> Path:
        """The folder of its buckets."""
        return self.folder / "data"

    def start(self) -> S3:
        """Begin, on a free port the first time; return when it answers."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                env=os.environ | self._settings(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(MinioException, HTTPError):
                self.client(retries=False).list_buckets()
                return self
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"{self.name} does not answer: {(self.folder / 'log').read_text()[-3000:]}")

    def stop(self, *, kill: bool = False) -> None:
        """End it; `kill` gives it no time to finish anything."""
        if self.process is None:
            return
        (self.process.kill if kill else self.process.terminate)()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def client(self, *, retries: bool = True) -> Minio:
        """A bare client of the root user."""
        tls = self.certificate.exists()
        trust = str(self.certificate) if tls else None
        pool = PoolManager(retries=None if retries else False, timeout=10, ca_certs=trust)
        return Minio(urlsplit(self.url).netloc, self.user, self.password, secure=tls, http_client=pool)

    def certify(self) -> None:
        """Make a certificate of its own, so that it speaks TLS from the next start on."""
        self.certificate.parent.mkdir(parents=True, exist_ok=True)
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
        files = ["-keyout", str(self.certificate.with_name("private.key")), "-out", str(self.certificate)]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files]
        subprocess.run(command, check=True, capture_output=True)

    def admin(self) -> MinioAdmin:
        """A client of MinIO's administration."""
        provider = StaticProvider(self.user, self.password)
        return MinioAdmin(endpoint=urlsplit(self.url).netloc, credentials=provider, secure=False)

    def environment(self, bucket: str) -> dict[str, str]:
        """What names a bucket to us, to DVC and to the model server, as the root user."""
        environment = {
            "STORE_URI": f"s3://{bucket}",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.user,
            "AWS_SECRET_ACCESS_KEY": self.password,
        }
        return environment | ({"CA_BUNDLE": str(self.certificate)} if self.certificate.exists() else {})

    def bucket(self) -> dict[str, str]:
        """Make a bucket of its own; return its environment."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().make_bucket(name)
        return self.environment(name)

    def _command(self) -> list[str]:
        address = f"127.0.0.1:{self.port}"
        if self.name == "minio":
            certificates = str(self.folder / "certs")
            return [self.program, "server", "--quiet", "--certs-dir", certificates, "--address", address, "data"]
        return [self.program, "serve", "s3", "--config", str(self.folder / "conf"), "--addr", address, str(self.data)]

    def _settings(self) -> dict[str, str]:
        if self.name == "minio":
            return {
                "MINIO_ROOT_USER": self.user,
                "MINIO_ROOT_PASSWORD": self.password,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            }
        return {"RCLONE_AUTH_KEY": f'"{self.user},{self.password}"', "RCLONE_CACHE_DIR": str(self.folder / "cache")}


@contextlib.contextmanager
def serving_s3(name: str, folder: Path) -> Iterator[S3]:
    """A server of one of NAMES until the block ends."""
    server = S3(name, folder, program_of(name))
    try:
        yield server.start()
    finally:
        server.stop()


def program_of(name: str) -> str:
    """Return the path of one of NAMES; skips where it is missing, but fails in CI."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), str(CACHE)])
    if program := shutil.which(name, path=folders):
        return program
    remedy = "run `make minio`, which needs Go" if name == "minio" else "run `make setup`"
    message = f"the S3 tests need {name}: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """Return a port on loopback that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
