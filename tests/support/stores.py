"""The store as the cluster runs it: rendered pods as processes, with TLS, on loopback."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minio import Minio
from urllib3 import PoolManager

from tests.support.apiserver import ApiServer
from tests.support.certificates import certificate
from tests.support.gitops import PROJECT, Manifest, render
from tests.support.pods import Data, Pod, config_maps, pod_of
from tests.support.s3 import free_port, program_of
from tests.support.secret_job import SecretJob

BUCKET = "flyingthings"
SERVICE = "minio.flywheel-minio.svc"


@dataclass
class Cluster:
    """MinIO as gitops/minio runs it, and the Secrets that gitops/credentials makes.

    Attributes:
        folder: for pods.
        port: of S3.
        secrets: by namespace and name.
        ca: the certificate to trust; it is for localhost and the Service's name, not for 127.0.0.1.
        server: the API server that has the Secrets.
    """

    folder: Path
    port: int
    secrets: dict[tuple[str, str], Data]
    ca: Path
    server: ApiServer

    def pod(self, objects: list[Manifest], kind: str, name: str, **changes: str) -> Pod:
        """Make a pod that finds MinIO here instead of in flywheel-minio."""
        namespace = next(obj for obj in objects if obj["kind"] == kind)["metadata"]["namespace"]
        known = config_maps(objects) | {"store-ca": {"service-ca.crt": self.ca.read_text()}}
        own = {secret: data for (where, secret), data in self.secrets.items() if where == namespace}
        here = {"AWS_ENDPOINT_URL": f"https://localhost:{self.port}"} | changes
        return Pod(pod_of(objects, kind, name), known, own, self.folder / f"{namespace}-{name}", here)

    def client(self, user: str) -> Minio:
        """Return a client of a user of the store, or of `root`."""
        name = "minio-root" if user == "root" else f"store-user-{user}"
        secret = self.secrets["flywheel-minio", name]
        keys = ("user", "password") if user == "root" else ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        pool = PoolManager(ca_certs=str(self.ca), retries=False, timeout=10)
        return Minio(f"localhost:{self.port}", *(secret[key] for key in keys), secure=True, http_client=pool)

    def store_init(self, source: Path) -> str:
        """Run the Job store-init as it is, which clones a repository at its tag platform-1; return what it prints."""
        changes = {"REPO_URL": source.as_uri(), "REVISION": "platform-1"}
        pod = self.pod(render("minio/overlays/openshift").objects, "Job", "store-init", **changes)
        pod.folder = self.folder / f"store-init-{time.monotonic_ns()}"
        done = pod.run()
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster's store until the block ends, without bucket and users."""
    (folder / "apiserver").mkdir()
    job = SecretJob(folder / "apiserver")
    try:
        done = job.run()
        assert done.returncode == 0, done.stderr
        secrets = job.secrets()
        ca, key = certificate(folder / "ca", "localhost", SERVICE)
        objects = render("minio/overlays/openshift").objects
        own = {name: data for (where, name), data in secrets.items() if where == "flywheel-minio"}
        own["minio-tls"] = {"tls.crt": ca.read_text(), "tls.key": key.read_text()}
        pod = Pod(pod_of(objects, "StatefulSet", "minio"), config_maps(objects), own, folder / "minio")
        pod.mounts()
        port, console = free_port(), free_port()
        swapped = {":9000": f"127.0.0.1:{port}", ":9001": f"127.0.0.1:{console}"}
        command = [program_of("minio"), *(swapped.get(word, word) for word in pod.command())]
        with (folder / "minio.log").open("wb") as log:
            environment = pod.environment() | {"HOME": str(folder)}  # as root it would write into the real one
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                _await(f"https://localhost:{port}{pod.container['readinessProbe']['httpGet']['path']}", ca)
                yield Cluster(folder, port, secrets, ca, job.server)
            finally:
                process.terminate()
                process.wait(20)
    finally:
        job.stop()


def tagged(folder: Path) -> Path:
    """Make a bare clone of this repository whose HEAD has the tag platform-1."""
    subprocess.run(["git", "clone", "--quiet", "--bare", PROJECT, folder], check=True)
    subprocess.run(["git", "-C", folder, "tag", "platform-1", "HEAD"], check=True)
    return folder


def _await(url: str, ca: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, context=ssl.create_default_context(cafile=str(ca)), timeout=5).close()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return
