"""Store and model server as the cluster runs them: the rendered pods as processes, with TLS, on loopback."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from minio import Minio
from minio.error import S3Error

from tests.support.gitops import GITOPS, render
from tests.support.servers import running
from tests.support.stores import BUCKET, Cluster

pytestmark = pytest.mark.slow


def test_nothing_changed_when_the_job_runs_again(inits: list[str], cluster: Cluster) -> None:
    first, second = inits
    assert "bucket: made" in first
    assert first.count("made, policy given") == 7, first
    assert "bucket: there already" in second
    assert second.count(": as before") == 7
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


SAVED = ("rclone copy --metadata store:", "rclone copy --metadata backup/")
PARTS = ("datasets", "models", "runs", "captures/dev", "captures/prod")
MAY = {
    "runner": {(do, part) for do in (read, list_) for part in PARTS} | {(write, "datasets")},
    "publisher": {(do, part) for do in (read, list_) for part in PARTS} | {(write, "models"), (write, "runs")},
    "labels": {(read, "datasets"), (list_, "datasets")}
    | {(do, f"captures/{environment}") for do in (read, list_) for environment in ("dev", "prod")},
    "server-dev": {(read, "models"), (write, "captures/dev")},
    "server-prod": {(read, "models"), (write, "captures/prod")},
    "server-baseline": {(read, "models")},
}


@pytest.mark.parametrize("user", MAY)
def test_only_its_own_when_a_user_tries_everything(user: str, cluster: Cluster, inits: list[str]) -> None:
    assert inits
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
    tmp_path: Path, cluster: Cluster, inits: list[str], bright_model: Path, shade: Callable[..., bytes]
) -> None:
    assert inits
    data = bright_model.read_bytes()
    key = "models/bright/1/model.onnx"
    cluster.client("publisher").put_object(BUCKET, key, io.BytesIO(data), len(data))
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


def test_every_object_comes_back_when_a_backup_is_restored(tmp_path: Path, cluster: Cluster, inits: list[str]) -> None:
    """The commands are those of gitops/README.md; a bucket of its own stands for the fresh installation."""
    assert inits
    text = (GITOPS / "README.md").read_text(encoding="utf-8").partition("**The store.**")[2].partition("snapshots")[0]
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    saving, restoring = (next(n for n, line in enumerate(lines) if line.startswith(what)) for what in SAVED)
    root, runner = cluster.client("root"), cluster.secrets["flywheel-minio", "store-user-runner"]
    write(root, "datasets/kept/ä b.zip")
    root.put_object(BUCKET, "models/kept/1/x", io.BytesIO(b"x"), 1, metadata={"sha256": "0" * 64})
    root.make_bucket("restored")
    owner = cluster.secrets["flywheel-minio", "minio-root"]
    as_root = {"AWS_ACCESS_KEY_ID": owner["user"], "AWS_SECRET_ACCESS_KEY": owner["password"]}
    store = {"AWS_ENDPOINT_URL": f"https://localhost:{cluster.port}", "CA_BUNDLE": str(cluster.ca)}
    for commands, keys in ((lines[: saving + 1], runner), ([*lines[:saving], lines[restoring]], as_root)):
        script = "\n".join(commands).replace(f"/flyingthings store:{BUCKET}", "/flyingthings store:restored")
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | store | keys
        done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def found(bucket: str) -> dict[str, tuple[object, ...]]:
        names = [str(item.object_name) for item in root.list_objects(bucket, recursive=True)]
        stats = {name: root.stat_object(bucket, name) for name in names}
        return {n: (it.size, (it.metadata or {}).get("x-amz-meta-sha256")) for n, it in stats.items()}

    assert found("restored") == found(BUCKET)
    assert {"datasets/kept/ä b.zip", "models/kept/1/x"} <= found(BUCKET).keys()
