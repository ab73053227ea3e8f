"""The first day, against Kubernetes' own API server, the cluster's MinIO and a real Git remote.

No node is there: the test does what Tekton, Argo CD and a kubelet would, and stands for the tunnel to a pod.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import tunnel as cluster_tunnel
from runner.cluster.container_images import PATH as IMAGES
from runner.cluster.first_run import first_run
from runner.cluster.start import fill
from runner.errors import ClusterError, ConfigError, StoreError
from runner.release.pin import Pin, read_pin, write_pin
from tests.integration.test_baseline import weights
from tests.support import gitops
from tests.support.apiserver import ApiServer
from tests.support.forks import make_fork, push
from tests.support.pictures import BOX, encoded, gradient
from tests.support.projects import Run
from tests.support.stores import SERVICE, Cluster

pytestmark = pytest.mark.slow
NAMESPACE = "flywheel-pipelines"
VALUES = gitops.SAMPLE | {
    "REPO_URL": "https://git.example.com/vision/flywheel.git",
    "PLATFORM_REVISION": "platform",
    "DETECTOR_REVISION": "main",
    "STORE_URI": "s3://flyingthings",
    "STORE_ENDPOINT": f"https://{SERVICE}:9000",
    "APPS_DOMAIN": "apps.example.com",
}
MODEL = "s3://flyingthings/models/flyingthings/1/manifest.json"
first_run_quickly = partial(first_run, patience_s=60, pause_s=0.2)
Said = list[str]
# kubectl, but that a tunnel ends where TUNNEL says: the API server has no pod to connect to.
CLIENT = """#!/bin/sh
case " $* " in *" port-forward "*) echo "Forwarding from $TUNNEL -> 9000"; exec sleep 600;; esac
exec {kubectl} "$@"
"""


@pytest.fixture(scope="module")
def template() -> gitops.Manifest:
    """What a push is made a run with."""
    return next(gitops.leaf("pipelines/overlays/openshift").of_kind("TriggerTemplate"))


@pytest.fixture(scope="module")
def server(cluster: Cluster, template: gitops.Manifest) -> ApiServer:
    """Knows Tekton's kinds; has what people and the service CA bring."""
    kinds = ("Pipeline", "PipelineRun", "TaskRun")
    cluster.server.know([*({"apiVersion": "tekton.dev/v1", "kind": kind} for kind in kinds), template], ())
    meta = {"namespace": NAMESPACE}
    made = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta | {"name": "git"}, "stringData": {"token": "x"}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta | {"name": "store-ca"},
            "data": {"service-ca.crt": cluster.ca.read_text()},
        },
    ]
    done = cluster.server.apply(made)
    assert done.returncode == 0, done.stderr
    return cluster.server


@pytest.fixture
def fork(tmp_path: Path, server: ApiServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fork whose images are built, and no run or server of another test."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    for kind in ("pipelinerun", "pipeline", "triggertemplate"):
        server.kubectl("delete", kind, "--all", "-n", NAMESPACE)
    for environment in ("dev", "baseline"):
        server.kubectl("delete", "deployment", "--all", "-n", f"flywheel-{environment}")
    clone = make_fork(tmp_path, VALUES, run, monkeypatch, "params.yaml", "conf")
    (clone / IMAGES).write_text((clone / IMAGES).read_text().replace("0" * 64, "1" * 64))
    push(clone, run, "main", "platform")
    return clone


@pytest.fixture
def installed(server: ApiServer, fork: Path, template: gitops.Manifest) -> Path:
    """A fork whose pipeline Argo CD has applied."""
    meta = {"namespace": NAMESPACE, "name": "retrain"}
    done = server.apply([{"apiVersion": "tekton.dev/v1", "kind": "Pipeline", "metadata": meta}, template])
    assert done.returncode == 0, done.stderr
    return fork


class Controllers(threading.Thread):
    """What Tekton and Argo CD do with what they find, driven by the lines that the command prints."""

    def __init__(self, server: ApiServer, fork: Path, run: Run, said: Said, *, status: str, pins: bool) -> None:
        super().__init__(daemon=True)
        self.server, self.fork, self._run, self.said = server, fork, run, said
        self.status, self.pins = status, pins
        self.start()

    def run(self) -> None:
        """Run the pipeline to its end, and roll out what it pinned."""
        name = self.await_line(r"PipelineRun ([a-z0-9-]+):")
        if self.pins:
            write_pin(self.fork, "dev", Pin(MODEL, "0" * 64, "1", head(self.fork), "0.918"))
            push(self.fork, self._run, "main")
        condition = {"type": "Succeeded", "status": self.status, "reason": "Any", "message": f"Done: {self.status}"}
        self.patch("pipelinerun", name, NAMESPACE, {"conditions": [condition]})
        if self.pins:
            self.roll_out("dev")
            self.roll_out("baseline")

    def roll_out(self, environment: str) -> None:
        """Apply an environment's Deployment once it is missed, and bring its pods up once they are."""
        if (pin := read_pin(self.fork, environment)) is None:
            return
        namespace = f"flywheel-{environment}"
        self.await_line(f"waiting for Deployment model in {namespace}, which")
        self.server.apply([*gitops.render(f"serving/overlays/{environment}").of_kind("Deployment")])  # an older pin
        self.await_line(rf"waiting for {pin.uri} in {namespace}, which Argo CD reads")
        rendered = gitops.render(f"serving/overlays/{environment}", self.fork / "gitops")
        done = self.server.apply([*rendered.of_kind("Deployment")])
        assert done.returncode == 0, done.stderr
        self.await_line(f"waiting for the pods of {namespace}: 0 of 1 serve {pin.uri}")
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        self.patch("deployment", "model", namespace, counts | {"observedGeneration": 2}, "--subresource=status")

    def patch(self, kind: str, name: str, namespace: str, status: dict[str, Any], *how: str) -> None:
        """Say how an object is."""
        content = json.dumps({"status": status})
        done = self.server.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", content, *how)
        assert done.returncode == 0, done.stderr

    def await_line(self, pattern: str) -> str:
        """Wait until a line was printed; return what its group matched."""
        while not (found := [match for line in self.said if (match := re.match(pattern, line))]):
            time.sleep(0.1)
        return found[-1][found[-1].re.groups]


def runs(server: ApiServer) -> list[dict[str, Any]]:
    listed = server.kubectl("get", "pipelineruns", "-n", NAMESPACE, "-o", "json")
    found: list[dict[str, Any]] = json.loads(listed.stdout)["items"]
    return found


def head(fork: Path) -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=fork, capture_output=True, text=True, check=True
    ).stdout.strip()


def by_command(fork: Path, cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with a client whose tunnels end at MinIO."""
    client = fork.parent / "bin" / "kubectl"
    if not client.exists():
        client.parent.mkdir()
        client.write_text(CLIENT.replace("{kubectl}", str(shutil.which("kubectl"))))
        client.chmod(0o755)
        client.with_name("oc").symlink_to(client)
    path = f"{client.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "TUNNEL": f"127.0.0.1:{cluster.port}"}
    command = [sys.executable, "-m", "runner", "first-run", *arguments]
    return subprocess.run(command, cwd=fork, env=environment, capture_output=True, text=True, check=False)


def printed(text: str) -> list[str]:
    """Return lines with what differs from run to run put the same."""
    masked = re.sub(r"retrain-[a-z0-9]{5}", "retrain-xxxxx", re.sub(r"\(\d+ s\)", "(0 s)", text))
    return [re.sub(r"\b[0-9a-f]{12}\b", "0" * 12, line).strip() for line in masked.splitlines()]


def test_dev_and_baseline_serve_when_a_dataset_and_a_baseline_are_given(
    project: Path,
    installed: Path,
    cluster: Cluster,
    server: ApiServer,
    template: gitops.Manifest,
    inits: list[str],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert inits
    monkeypatch.setattr(cluster_tunnel, "tunnel", lambda *_: nullcontext(f"127.0.0.1:{cluster.port}"))
    dataset, files = installed.parent / "flyingthings.zip", {"classes.txt": b"airplane\nhelicopter\n"}
    for number in range(6):
        files |= {f"images/{number}.jpg": encoded(gradient(40 + number)), f"labels/{number}.txt": BOX.encode()}
    with zipfile.ZipFile(dataset, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    given = ("--dataset", str(dataset), "--baseline", str(weights(project, installed.parent, "yolo11n.yaml")))
    first = by_command(installed, cluster, *given)
    assert first.returncode == 1, first.stdout + first.stderr
    there = {str(item.object_name) for item in cluster.client("root").list_objects("flyingthings", recursive=True)}
    assert {"models/yolo11n/1/manifest.json", "models/yolo11n/1/model.onnx"} <= there
    (key,) = (key for key in there if key.startswith("datasets/flyingthings/"))
    assert f"store:{key}" in (installed / "params.yaml").read_text()
    assert runs(server) == []  # nothing trains before it is on the branch

    command = first.stderr.splitlines()[-1].strip()
    done = subprocess.run(command, shell=True, cwd=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    by_push = fill(template, {"revision": head(installed)})
    by_push["metadata"]["namespace"] = NAMESPACE
    assert server.kubectl("create", "-f", "-", stdin=by_push).returncode == 0  # the webhook's
    said: Said = []
    model = MODEL.removeprefix("s3://flyingthings/")
    cluster.client("root").put_object("flyingthings", model, io.BytesIO(b"{}"), 2)  # as publish does
    controllers = Controllers(server, installed, run, said, status="True", pins=True)
    first_run_quickly(installed, said.append)
    controllers.join()
    assert len(runs(server)) == 1

    readme = (gitops.GITOPS / "README.md").read_text().partition("$ make first-run DATASET")[2].partition("\n\n")[0]
    shown = [line.strip() for line in readme.splitlines()[1:]]
    known = [*printed(first.stdout + first.stderr + "\n".join(said)), f"$ {command}", "$ make first-run", "…"]
    assert [line for line in shown if printed(line)[0] not in known] == []
    assert sum(line != "…" for line in shown) > 10

    again: Said = []
    first_run_quickly(installed, again.append)
    baseline = read_pin(installed, "baseline")
    assert baseline is not None
    assert [line for line in again if not line.startswith("dev is pinned to a model of ")] == [
        f"dev serves {MODEL}: https://flywheel-dev.apps.example.com",
        f"baseline serves {baseline.uri}: https://flywheel-baseline.apps.example.com",
    ]
    assert len(runs(server)) == 1
    twice = by_command(installed, cluster, *given[:2])  # the same again is nothing
    assert twice.returncode == 0, twice.stderr
    assert "params.yaml names this version already" in twice.stdout


def test_one_run_is_started_when_nobody_did(
    installed: Path, cluster: Cluster, server: ApiServer, run: Run, inits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inits
    monkeypatch.setattr(cluster_tunnel, "tunnel", lambda *_: nullcontext(f"127.0.0.1:{cluster.port}"))
    said: Said = []
    controllers = Controllers(server, installed, run, said, status="False", pins=False)
    with pytest.raises(ClusterError, match=r"^PipelineRun retrain-\w+ failed: .*Done: False"):
        first_run_quickly(installed, said.append)
    controllers.join()
    (failed,) = runs(server)
    params = {each["name"]: each["value"] for each in failed["spec"]["params"]}
    assert params["revision"] == head(installed)

    unpinned = r"is through, but main does not pin dev to its model: "
    for count in (2, 3):  # whoever comes again has mended the cause of what ended before
        said = []
        controllers = Controllers(server, installed, run, said, status="True", pins=False)
        with pytest.raises(ClusterError, match=unpinned):
            first_run_quickly(installed, said.append)
        controllers.join()
        assert len(runs(server)) == count


def test_what_is_missing_is_named_when_argocd_has_not_applied_it(fork: Path) -> None:
    with pytest.raises(ClusterError, match="Pipeline retrain, which Argo CD applies did not come in 0 s; look at the"):
        first_run(fork, print, patience_s=0, pause_s=0.1)


def test_nothing_is_trained_when_the_branch_has_other_inputs(installed: Path, server: ApiServer) -> None:
    params = installed / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(
        ConfigError, match=r"^params\.yaml differs from main of https://.*\n  git add params\.yaml && git"
    ):
        first_run_quickly(installed, print)
    assert runs(server) == []


def test_the_store_is_refused_when_its_certificate_is_of_another(
    cluster: Cluster, server: ApiServer, monkeypatch: pytest.MonkeyPatch, inits: list[str]
) -> None:
    assert inits
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    there_is_none = r'^service/minio in flywheel-minio is not to be reached: .*"minio" not found'
    with pytest.raises(ClusterError, match=there_is_none), cluster_tunnel.opened(VALUES, "store"):
        pass
    monkeypatch.setattr(cluster_tunnel, "tunnel", lambda *_: nullcontext(f"127.0.0.1:{cluster.port}"))
    with cluster_tunnel.opened(VALUES, "store") as store:
        assert store.exists("store.json")
    other = VALUES | {"STORE_ENDPOINT": "https://other.flywheel-minio.svc:9000"}
    with cluster_tunnel.opened(other, "store") as store, pytest.raises(StoreError, match="no trust in https://127"):
        store.exists("store.json")
    no_key = "Secret nobody in flywheel-pipelines has no key for the store"
    with pytest.raises(ClusterError, match=no_key), cluster_tunnel.opened(VALUES, "nobody"):
        pass
