"""Store and model server as the cluster runs them: the rendered pods as processes, with TLS, on loopback."""

from __future__ import annotations

import io
import os
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from minio import Minio
from minio.error import S3Error
from urllib3 import PoolManager

from tests import s3
from tests.gitops import Manifest, render
from tests.kube import Kube, certificate
from tests.pods import ACCOUNT, Data, Pod, config_maps, pod_of

BUCKET = "flyingthings"
USERS = ("runner", "labels", "server-dev", "server-staging", "server-prod", "server-baseline")


@dataclass
class Cluster:
    """MinIO behind TLS as gitops/minio says, and the Secrets that gitops/credentials made.

    Attributes:
        folder: for pods.
        port: of S3.
        secrets: by namespace and name.
        minio: the objects of gitops/minio, for OpenShift.
        ca: the certificate to trust.
        process: MinIO.
    """

    folder: Path
    port: int
    secrets: dict[tuple[str, str], Data]
    minio: list[Manifest]
    ca: Path
    process: subprocess.Popen[bytes]

    def of(self, namespace: str) -> dict[str, Data]:
        """Return the Secrets of a namespace."""
        return {name: data for (where, name), data in self.secrets.items() if where == namespace}

    def pod(self, objects: list[Manifest], kind: str, name: str, namespace: str, **changes: str) -> Pod:
        """Make a pod that finds MinIO here instead of in flywheel-minio."""
        known = config_maps(objects) | {"store-ca": {"service-ca.crt": self.ca.read_text()}}
        here = {"AWS_ENDPOINT_URL": f"https://localhost:{self.port}"} | changes
        folder = self.folder / f"{namespace}-{name}"
        return Pod(pod_of(objects, kind, name), known, self.of(namespace), folder, here)

    def client(self, user: str) -> Minio:
        """Return a client of one of USERS, or of root."""
        secret = self.secrets["flywheel-minio", "minio-root" if user == "root" else f"store-user-{user}"]
        name, password = (secret[key] for key in (secret if user == "root" else sorted(secret)))
        pool = PoolManager(ca_certs=str(self.ca), retries=False, timeout=10)
        return Minio(f"localhost:{self.port}", name, password, secure=True, http_client=pool)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    secrets = made_secrets(folder)
    objects = render("minio/overlays/openshift").objects
    ca, key = certificate(folder / "ca", "localhost", "minio.flywheel-minio.svc")
    own = {name: data for (where, name), data in secrets.items() if where == "flywheel-minio"}
    own["minio-tls"] = {"tls.crt": ca.read_text(), "tls.key": key.read_text()}
    pod = Pod(pod_of(objects, "StatefulSet", "minio"), config_maps(objects), own, folder / "minio")
    ports = free_port(), free_port()
    command = " ".join(pod.command()).replace(":9000", f"127.0.0.1:{ports[0]}").replace(":9001", f"127.0.0.1:{ports[1]}")
    pod.mounts()["/data"].mkdir(exist_ok=True)
    with s3.program("minio") as program, (folder / "minio.log").open("wb") as log:
        process = subprocess.Popen([program, *command.split()], env=pod.environment(), stdout=log, stderr=log)
        try:
            probed = pod.container["readinessProbe"]["httpGet"]
            await_url(f"https://localhost:{ports[0]}{probed['path']}", ca)
            yield Cluster(folder, ports[0], secrets, objects, ca, process)
        finally:
            process.terminate()
            process.wait(20)
