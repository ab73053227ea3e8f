"""Real S3 servers on loopback: MinIO of `make minio`; rclone and SeaweedFS, which come with the extra `dev`."""

import contextlib
import io
import os
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
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

from runner.store.s3 import S3Store
from tests.support.certificates import certificate
from tests.support.processes import Restartable, free_port, program, start

NAMES = ("minio", "rclone", "seaweedfs")
Use = Callable[[dict[str, str]], S3Store]  # lets the environment name a bucket


@dataclass
class S3(Restartable):
    """A server of one of NAMES, on a free port."""

    name: str
    folder: Path
    program: str
    port: int = 0
    inner_ports: dict[str, int] = field(default_factory=dict)  # of SeaweedFS' parts
    user: str = field(default_factory=lambda: f"root{secrets.token_hex(6)}")
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

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
        return self.folder / "data"

    def start(self) -> Self:
        self.data.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        address = f"127.0.0.1:{self.port}"
        if self.name == "minio":
            command = ["server", "--quiet", "--certs-dir", str(self.folder / "certs"), "--address", address, "data"]
            env = {"MINIO_ROOT_USER": self.user, "MINIO_ROOT_PASSWORD": self.password}
            env |= {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        elif self.name == "seaweedfs":
            command, env = self._seaweedfs(), {"AWS_ACCESS_KEY_ID": self.user, "AWS_SECRET_ACCESS_KEY": self.password}
            env |= {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}  # a bucket has volumes of its own
        else:
            command = ["serve", "s3", "--config", str(self.folder / "conf"), "--addr", address, str(self.data)]
            env = {"RCLONE_AUTH_KEY": f'"{self.user},{self.password}"', "RCLONE_CACHE_DIR": str(self.folder / "cache")}
        log, env = self.folder / "log", os.environ | env
        self.process = start([self.program, *command], log, self._answers, cwd=self.folder, env=env)
        return self

    def _seaweedfs(self) -> list[str]:
        for part in ("master", "volume", "filer", "s3"):
            for name in (f"{part}.port", f"{part}.port.grpc"):
                self.inner_ports.setdefault(name, free_port())
        ports = [f"-{name}={port}" for name, port in (self.inner_ports | {"s3.port": self.port}).items()]
        local = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=data", "-volume.max=0", "-master.volumeSizeLimitMB=64"]
        off = ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        return ["-logtostderr=true", "server", *local, *ports, *off, "-s3", "-s3.iam.readOnly=false"]

    def _answers(self) -> bool:
        try:
            self.client(retries=False).list_buckets()
        except (MinioException, HTTPError):
            return False
        return True

    def client(self, *, retries: bool = True) -> Minio:
        tls = self.certificate.exists()
        trust = str(self.certificate) if tls else None
        pool = PoolManager(retries=None if retries else False, timeout=10, ca_certs=trust)
        return Minio(urlsplit(self.url).netloc, self.user, self.password, secure=tls, http_client=pool)

    def admin(self) -> MinioAdmin:
        provider = StaticProvider(self.user, self.password)
        return MinioAdmin(endpoint=urlsplit(self.url).netloc, credentials=provider, secure=False)

    def put(self, bucket: str, key: str, content: bytes, **metadata: str) -> None:
        """Write an object as the root user."""
        self.client().put_object(bucket, key, io.BytesIO(content), len(content), metadata=metadata)

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


@contextlib.contextmanager
def serving_s3(name: str, folder: Path, tls: Sequence[str] | None = None) -> Iterator[S3]:
    """A server of one of NAMES until the block ends; `tls`: MinIO speaks it, under these names too."""
    remedy = "run `make minio`, which needs Go" if name == "minio" else "run `make setup`"
    server = S3(name, folder, program("weed" if name == "seaweedfs" else name, remedy))
    if tls is not None:
        made, key = certificate(server.certificate.parent, "127.0.0.1", *tls)
        key.rename(server.certificate.with_name("private.key"))
        made.rename(server.certificate)
    try:
        yield server.start()
    finally:
        server.stop()
