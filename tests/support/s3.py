"""Real S3 servers on loopback: MinIO, which `make minio` installs, and rclone, which comes with the extra `dev`."""

import contextlib
import os
import secrets
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from minio import Minio
from minio.credentials import StaticProvider
from minio.error import MinioException
from minio.minioadmin import MinioAdmin
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from tests.support.certificates import certificate
from tests.support.processes import free_port, program, start, stop

NAMES = ("minio", "rclone")


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

    def start(self) -> Self:
        """Begin, on a free port the first time."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        env = os.environ | self._settings()
        self.process = start(self._command(), self.folder / "log", self._answers, cwd=self.folder, env=env)
        return self

    def stop(self, *, kill: bool = False) -> None:
        """End it; `kill` gives it no time to finish anything."""
        stop(self.process, kill=kill)
        self.process = None

    def _answers(self) -> bool:
        try:
            self.client(retries=False).list_buckets()
        except (MinioException, HTTPError):
            return False
        return True

    def client(self, *, retries: bool = True) -> Minio:
        """A bare client of the root user."""
        tls = self.certificate.exists()
        trust = str(self.certificate) if tls else None
        pool = PoolManager(retries=None if retries else False, timeout=10, ca_certs=trust)
        return Minio(urlsplit(self.url).netloc, self.user, self.password, secure=tls, http_client=pool)

    def certify(self, *names: str) -> None:
        """Make a certificate of its own, for more names than its address; it speaks TLS from the next start on."""
        made, key = certificate(self.certificate.parent, "127.0.0.1", *names)
        key.rename(self.certificate.with_name("private.key"))
        made.rename(self.certificate)

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
def serving_s3(name: str, folder: Path, tls: Sequence[str] | None = None) -> Iterator[S3]:
    """A server of one of NAMES until the block ends; `tls`: MinIO speaks it, under these names too."""
    remedy = {"minio": "run `make minio`, which needs Go", "rclone": "run `make setup`"}
    server = S3(name, folder, program(name, remedy[name]))
    if tls is not None:
        server.certify(*tls)
    try:
        yield server.start()
    finally:
        server.stop()
