"""The first day, on Kubernetes' own API server, a MinIO with TLS and a real Git remote.

No node is there: the test writes the statuses that controllers would, and stands for the tunnel to a pod.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import tunnel as cluster_tunnel
from runner.cluster.container_images import PATH as IMAGES
from runner.cluster.first_run import await_served, first_run
from runner.errors import ClusterError, ConfigError, StoreError
from runner.release.pin import Pin, read_pin, write_pin
from tests.support import gitops
from tests.support.apiserver import ApiServer
from tests.support.forks import make_fork, push
from tests.support.pictures import BOX, encoded, gradient
from tests.support.processes import meanwhile, until
from tests.support.projects import git
from tests.support.s3 import S3, serving_s3
from tests.support.trees import zip_tree

pytestmark = pytest.mark.slow
NAMESPACE, BUCKET, SERVICE = "flywheel-pipelines", "flyingthings", "minio.flywheel-minio.svc"
RUNS = f"/apis/tekton.dev/v1/namespaces/{NAMESPACE}/pipelineruns"
VALUES = gitops.SAMPLE | {
    **{"REPO_URL": "https://git.example.com/vision/flywheel.git", "APPS_DOMAIN": "apps.example.com"},
    **{"PLATFORM_REVISION": "platform", "DETECTOR_REVISION": "main"},
    **{"STORE_URI": f"s3://{BUCKET}", "STORE_ENDPOINT": f"https://{SERVICE}:9000"},
}
KEY = "models/flyingthings/1/manifest.json"
MODEL = f"s3://{BUCKET}/{KEY}"
Said = list[str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with serving_s3("minio", tmp_path_factory.mktemp("minio"), tls=[SERVICE]) as server:
        server.client().make_bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def server(api_server: ApiServer, store: S3) -> ApiServer:
    """Knows Tekton's kinds; has what people, the service CA and the Job credentials bring."""
    template = next(gitops.leaf("pipelines/overlays/openshift").of_kind("TriggerTemplate"))
    kinds = ("Pipeline", "PipelineRun", "TaskRun")
    api_server.know([*({"apiVersion": "tekton.dev/v1", "kind": kind} for kind in kinds), template], ())
    api_server.make_namespaces(NAMESPACE, "flywheel-dev", "flywheel-baseline")
    user = {"AWS_ACCESS_KEY_ID": store.user, "AWS_SECRET_ACCESS_KEY": store.password}
    secrets = {"git": {"token": "x"}, "store": user, "store-publisher": user}
    made: list[Any] = [an_object("v1", "Secret", name, stringData=data) for name, data in secrets.items()]
    made.append(an_object("v1", "ConfigMap", "store-ca", data={"service-ca.crt": store.certificate.read_text()}))
    made += [an_object("tekton.dev/v1", "Pipeline", "retrain"), template]
    api_server.apply(made)
    return api_server


def an_object(version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"namespace": NAMESPACE, "name": name}, **content}


@pytest.fixture
def fork(tmp_path: Path, server: ApiServer, store: S3, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fork whose images are built and whose pipeline Argo CD has applied, and no run or model of another test."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    monkeypatch.setattr(cluster_tunnel, "tunnel", lambda *_: nullcontext(f"127.0.0.1:{store.port}"))
    server.ask("DELETE", RUNS)
    for environment in ("dev", "baseline"):
        server.ask("DELETE", f"/apis/apps/v1/namespaces/flywheel-{environment}/deployments")
    store.client().remove_object(BUCKET, KEY)
    clone = make_fork(tmp_path, VALUES, monkeypatch, "params.yaml", "conf", "dvc.yaml")
    (clone / IMAGES).write_text((clone / IMAGES).read_text().replace("0" * 64, "1" * 64))
    push(clone, "main", "platform")
    return clone


def first_run_quickly(fork: Path, said: Said, **given: Any) -> None:
    first_run(fork, said.append, patience_s=60, pause_s=0.5, **given)


def end(server: ApiServer, status: str) -> None:
    """Wait for a PipelineRun that has not ended, and end it as Tekton does."""
    name = until(lambda: [each["metadata"]["name"] for each in server.items(RUNS) if "status" not in each])[0]
    condition = {"type": "Succeeded", "status": status, "reason": "Any", "message": f"Done: {status}"}
    server.ask("PATCH", f"{RUNS}/{name}", {"status": {"conditions": [condition]}})


def roll_out(server: ApiServer, fork: Path, environment: str, ready: int = 1) -> None:
    """Apply an environment's Deployment as Argo CD does, with so many Pods of the newest generation."""
    (deployment,) = gitops.render(f"serving/overlays/openshift/{environment}", fork / "gitops").of_kind("Deployment")
    server.apply([deployment])
    path = f"/apis/apps/v1/namespaces/flywheel-{environment}/deployments/model"
    generation = server.ask("GET", path)["metadata"]["generation"]
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), ready)
    server.ask("PATCH", f"{path}/status", {"status": counts | {"observedGeneration": generation}})


def test_dataset_and_baseline_wait_for_a_push_when_they_are_given(
    fork: Path, server: ApiServer, store: S3, bright_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export itself is test_baseline.py's; a zip with torch's names stands for the weights."""
    files = {"classes.txt": b"airplane\nhelicopter\n"}
    for number in range(6):
        files |= {f"images/{number}.jpg": encoded(gradient(40 + number)), f"labels/{number}.txt": BOX.encode()}
    dataset, weights = fork.parent / "flyingthings.zip", fork.parent / "yolo11n.pt"
    zip_tree(dataset, files)
    zip_tree(weights, {"archive/data.pkl": b"", "archive/version": b"3"})
    monkeypatch.setattr(
        "runner.stages.export.export.export_stock", lambda _, __, out, **___: out.write_bytes(bright_model.read_bytes())
    )
    monkeypatch.setattr("runner.stages.offline.ultralytics_offline", lambda _: None)
    said: Said = []
    with pytest.raises(
        ConfigError, match=r"^\S*baseline/model\.env, params\.yaml differ from main of https://"
    ) as error:
        first_run_quickly(fork, said, dataset=str(dataset), baseline=weights)
    there = {str(item.object_name) for item in store.client().list_objects(BUCKET, recursive=True)}
    assert {"models/yolo11n/1/manifest.json", "models/yolo11n/1/model.onnx"} <= there
    (key,) = (key for key in there if key.startswith("datasets/flyingthings/") and key.endswith(".jsonl"))
    assert f"store:{key}" in (fork / "params.yaml").read_text()
    assert server.items(RUNS) == []  # nothing trains before it is on the branch

    command = str(error.value).splitlines()[-1].strip()
    done = subprocess.run(command, shell=True, cwd=fork, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    baseline = read_pin(fork, "baseline")
    assert baseline is not None
    roll_out(server, fork, "baseline")
    with meanwhile(lambda: end(server, "True")), pytest.raises(ClusterError, match="main does not pin dev"):
        first_run_quickly(fork, said, dataset=str(dataset))  # the same again is nothing


def test_dev_serves_when_a_run_ends_well(fork: Path, server: ApiServer, store: S3) -> None:
    def pin() -> None:
        until(lambda: server.items(RUNS))
        write_pin(fork, "dev", Pin(MODEL, "0" * 64, "1", git(fork, "rev-parse", "HEAD"), "0.918"))
        push(fork, "main")
        store.put(BUCKET, KEY, b"{}")  # as publish does
        roll_out(server, fork, "dev")
        end(server, "True")

    said: Said = []
    with meanwhile(pin):
        first_run_quickly(fork, said)
    served = f"dev serves {MODEL}: https://flywheel-dev.apps.example.com"
    assert said[-1] == served
    (trained,) = server.items(RUNS)
    assert [line for line in said if trained["metadata"]["name"] in line]
    again: Said = []
    first_run_quickly(fork, again)
    assert again[-1] == served
    store.client().remove_object(BUCKET, KEY)
    with meanwhile(lambda: end(server, "True")), pytest.raises(ClusterError, match="main does not pin dev"):
        first_run_quickly(fork, again)
    assert len(server.items(RUNS)) == 2


def test_one_run_is_started_when_nobody_did(fork: Path, server: ApiServer) -> None:
    with meanwhile(lambda: end(server, "False")), pytest.raises(ClusterError, match=r"^PipelineRun .*Done: False"):
        first_run_quickly(fork, [])
    (failed,) = server.items(RUNS)
    assert {"name": "revision", "value": git(fork, "rev-parse", "HEAD")} in failed["spec"]["params"]
    with meanwhile(lambda: end(server, "True")), pytest.raises(ClusterError, match="main does not pin dev"):
        first_run_quickly(fork, [])  # whoever comes again has mended the cause of what ended before
    assert len(server.items(RUNS)) == 2


def test_what_is_missing_is_named_when_argocd_has_not_applied_it(fork: Path, server: ApiServer) -> None:
    path = f"/apis/tekton.dev/v1/namespaces/{NAMESPACE}/pipelines"
    server.ask("DELETE", f"{path}/retrain")
    try:
        with pytest.raises(ClusterError, match=r"0 s for Pipeline retrain, "):
            first_run(fork, print, patience_s=0, pause_s=0.1)
    finally:
        server.ask("POST", path, an_object("tekton.dev/v1", "Pipeline", "retrain"))


def test_nothing_is_trained_when_the_branch_has_other_inputs(fork: Path, server: ApiServer) -> None:
    params = fork / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(ConfigError, match=r"^params\.yaml differs from main of https://.*\n  git add params\.yaml &&"):
        first_run_quickly(fork, [])
    assert server.items(RUNS) == []


def test_a_model_is_served_when_every_pod_is_new_and_ready(fork: Path, server: ApiServer) -> None:
    def lacking(uri: str = MODEL) -> str:
        with pytest.raises(ClusterError, match=r"^waited 0 s for ") as error:
            await_served("dev", uri, print, patience_s=0, pause_s=0)
        return str(error.value)

    write_pin(fork, "dev", Pin(MODEL, "0" * 64, "1", git(fork, "rev-parse", "HEAD"), "0.918"))
    assert "Deployment model in flywheel-dev" in lacking()
    roll_out(server, fork, "dev", ready=0)
    assert re.search(rf"the pods of flywheel-dev: 0 of \d serve {MODEL}", lacking())
    roll_out(server, fork, "dev")
    await_served("dev", MODEL, print, patience_s=0, pause_s=0)
    assert "another in flywheel-dev" in lacking("another")
    changes = {"spec": {"template": {"metadata": {"annotations": {"a": "new generation"}}}}}
    server.ask("PATCH", "/apis/apps/v1/namespaces/flywheel-dev/deployments/model", changes)
    assert "0 of 1" in lacking()


def test_refused_when_its_certificate_is_another(server: ApiServer, store: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    no_service = r"^service/minio in flywheel-minio"
    with pytest.raises(ClusterError, match=no_service), cluster_tunnel.opened(VALUES, "store"):
        pass
    monkeypatch.setattr(cluster_tunnel, "tunnel", lambda *_: nullcontext(f"127.0.0.1:{store.port}"))
    with cluster_tunnel.opened(VALUES, "store") as opened:
        assert not opened.exists("any")
    other = VALUES | {"STORE_ENDPOINT": "https://other.flywheel-minio.svc:9000"}
    with cluster_tunnel.opened(other, "store") as opened, pytest.raises(StoreError, match=r"https://127\.0\.0\.1"):
        opened.exists("any")
    with pytest.raises(ClusterError, match=f"Secret nobody in {NAMESPACE}"), cluster_tunnel.opened(VALUES, "nobody"):
        pass
