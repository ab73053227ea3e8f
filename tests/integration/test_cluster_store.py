"""Store and model server as the cluster runs them: the rendered pods as processes, with TLS, on loopback."""

from __future__ import annotations

import hashlib
import io
import shutil
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

from tests.certificates import certificate
from tests.conftest import PROJECT
from tests.gitops import GITOPS, Manifest, render
from tests.pods import Data, Pod, config_maps, pod_of
from tests.s3 import free_port, program_of
from tests.secret_job import SecretJob
from tests.servers import running

BUCKET = "flyingthings"
pytestmark = pytest.mark.slow


@dataclass
class Cluster:
    """MinIO as gitops/minio runs it, and the Secrets that gitops/credentials makes.

    Attributes:
        folder: for pods.
        port: of S3.
        secrets: by namespace and name.
        ca: the certificate to trust.
    """

    folder: Path
    port: int
    secrets: dict[tuple[str, str], Data]
    ca: Path

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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    secrets = made_secrets(folder / "apiserver")
    ca, key = certificate(folder / "ca", "localhost", "minio.flywheel-minio.svc")
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
            await_answer(f"https://localhost:{port}{pod.container['readinessProbe']['httpGet']['path']}", ca)
            yield Cluster(folder, port, secrets, ca)
        finally:
            process.terminate()
            process.wait(20)


def made_secrets(folder: Path) -> dict[tuple[str, str], Data]:
    """Run the Job of gitops/credentials; return what it made."""
    folder.mkdir()
    job = SecretJob(folder)
    try:
        done = job.run()
        assert done.returncode == 0, done.stderr
        return job.secrets()
    finally:
        job.stop()


def await_answer(url: str, ca: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, context=ssl.create_default_context(cafile=str(ca)), timeout=5).close()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="module")
def runs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the Job store-init printed, run twice as it is: it clones this repository at a tag."""
    source = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "clone", "--quiet", "--bare", PROJECT, source], check=True)
    subprocess.run(["git", "-C", source, "tag", "platform-1", "HEAD"], check=True)
    printed = []
    for number in range(2):
        changes = {"REPO_URL": source.as_uri(), "REVISION": "platform-1"}
        pod = cluster.pod(render("minio/overlays/openshift").objects, "Job", "store-init", **changes)
        pod.folder = cluster.folder / f"store-init-{number}"
        done = pod.run()
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        printed.append(done.stdout)
    return printed


def test_nothing_changed_when_the_job_runs_again(runs: list[str], cluster: Cluster) -> None:
    first, second = runs
    assert "bucket: made" in first
    assert first.count("made, policy given") == 6, first
    assert "bucket: there already" in second
    assert second.count(": as before") == 6
    assert not any(word in second for word in ("made", "policy set", "policy given", "password changed", "written"))
    assert cluster.client("root").get_bucket_versioning(BUCKET).status == "Enabled"
    secret = cluster.secrets["flywheel-minio", "store-user-runner"]["AWS_SECRET_ACCESS_KEY"]
    assert secret not in first + second


def read(client: Minio, key: str) -> None:
    client.get_object(BUCKET, key).close()


def write(client: Minio, key: str) -> None:
    client.put_object(BUCKET, key, io.BytesIO(b"x"), 1)


def list_(client: Minio, key: str) -> None:
    list(client.list_objects(BUCKET, key, recursive=True))


def remove(client: Minio, key: str) -> None:
    client.remove_object(BUCKET, key)


PARTS = ("datasets", "models", "runs", "captures/dev", "captures/prod")
MAY = {
    "runner": {(do, part) for do in (read, write, list_) for part in PARTS},
    "labels": {(read, "datasets"), (list_, "datasets")}
    | {(do, f"captures/{environment}") for do in (read, list_) for environment in ("dev", "prod")},
    "server-dev": {(read, "models"), (write, "captures/dev")},
    "server-prod": {(read, "models"), (write, "captures/prod")},
    "server-baseline": {(read, "models")},
}


@pytest.mark.parametrize("user", MAY)
def test_only_its_own_when_a_user_tries_everything(user: str, cluster: Cluster, runs: list[str]) -> None:
    assert runs
    root, client = cluster.client("root"), cluster.client(user)
    for part in PARTS:
        write(root, f"{part}/kept/x")
    did = set()
    for do in (read, write, list_, remove):
        for part in PARTS:
            try:
                do(client, f"{part}/kept/x")
                did.add((do, part))
            except S3Error as error:
                assert error.code == "AccessDenied", error
    assert did == MAY[user]
    with pytest.raises(S3Error, match="AccessDenied"):
        client.make_bucket("another")


def test_a_pinned_model_served_when_the_overlay_is_run(
    tmp_path: Path, cluster: Cluster, runs: list[str], bright_model: Path, shade: Callable[..., bytes]
) -> None:
    assert runs
    data = bright_model.read_bytes()
    key = "models/bright/1/model.onnx"
    cluster.client("runner").put_object(BUCKET, key, io.BytesIO(data), len(data))
    shutil.copytree(GITOPS, tmp_path / "gitops")
    pin = f"MODEL_URI=s3://{BUCKET}/{key}\nMODEL_SHA256={hashlib.sha256(data).hexdigest()}\nMODEL_VERSION=1\n"
    (tmp_path / "gitops/serving/overlays/dev/model.env").write_text(pin)
    objects = render("serving/overlays/dev", tmp_path / "gitops").objects
    pod = cluster.pod(objects, "Deployment", "model", DRAIN_SECONDS="0")
    api_key = {"X-API-Key": cluster.secrets["flywheel-dev", "model-api"]["key"]}
    with running(tmp_path, **pod.environment()) as server:
        answer = server.post("/detect", shade(0, 64, 64))
        assert answer.status == 200
        assert answer.json()["model"]["version"] == "1"
        form = [("request_id", None, answer.json()["request_id"].encode()), ("verdict", None, b"missed")]
        assert server.post_form("/feedback", [*form]).status == 401
        assert server.get("/metrics").status == 401
        assert server.post_form("/feedback", [*form], **api_key).status in (200, 201, 202)
        assert b"flywheel_ready 1.0" in server.get("/metrics", **api_key).body
    kept = cluster.client("labels").list_objects(BUCKET, "captures/dev/model/1/", recursive=True)
    assert {str(item.object_name).partition(".")[2] for item in kept} == {"feedback.json", "jpg", "json"}
