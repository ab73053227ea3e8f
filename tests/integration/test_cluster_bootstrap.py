"""The commands that bring Flywheel to a cluster, run against Kubernetes' own API server and a real Git remote."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import facts as cluster_env
from runner.cluster.bootstrap import PREREQUISITES, bootstrap
from runner.cluster.container_images import PATH as IMAGES
from runner.cluster.container_images import unbuilt_images
from runner.cluster.first_run import first_run
from runner.cluster.installation import migrate, require_ours
from runner.errors import ClusterError, ConfigError
from tests.support import gitops
from tests.support.apiserver import ApiServer
from tests.support.forks import make_fork, push
from tests.support.projects import Run

Said = list[str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that tests share; each looks at its own part of it."""
    running = ApiServer(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def folder(tmp_path: Path, run: Run, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fork; kubectl is logged in to `server` where the test has one."""
    if "server" in request.fixturenames:
        monkeypatch.setenv("KUBECONFIG", str(request.getfixturevalue("server").kubeconfig))
    return make_fork(tmp_path, gitops.SAMPLE, run, monkeypatch)


def named(group: str, kind: str) -> dict[str, Any]:
    return {"apiVersion": f"{group}/v1alpha1", "kind": kind}


def olm(server: ApiServer, said: Said) -> None:
    """Do what OLM does once it is asked for OpenShift GitOps: bring its kinds."""
    while not any("waiting for applications.argoproj.io" in line for line in said):
        time.sleep(0.1)
    kinds = [named("argoproj.io", kind) for kind in ("Application", "ApplicationSet", "AppProject")]
    server.know([*kinds, {"apiVersion": "argoproj.io/v1beta1", "kind": "ArgoCD"}], ())


def versions(server: ApiServer, kinds: str) -> dict[str, str]:
    listed = json.loads(server.kubectl("get", kinds, "-A", "-o", "json").stdout)["items"]
    return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in listed}


@pytest.mark.slow
def test_argocd_is_there_when_openshift_is_bootstrapped_twice(server: ApiServer, folder: Path) -> None:
    subscription = [named("operators.coreos.com", "Subscription")]
    server.know([*subscription, {"apiVersion": "operators.coreos.com/v1", "kind": "OperatorGroup"}], ())
    server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "openshift-config-managed"}}])
    said: Said = []
    thread = threading.Thread(target=olm, args=(server, said), daemon=True)
    thread.start()
    bootstrap(folder, "openshift", said.append, patience_s=60, pause_s=0.5)
    thread.join()
    assert "waiting for applications.argoproj.io, which OpenShift GitOps brings (0 s)" in said
    assert any("Secret git in flywheel-pipelines" in line for line in said)
    kinds = "applications.argoproj.io,appprojects.argoproj.io,argocds.argoproj.io,namespaces,clusterroles,subscriptions"
    before = versions(server, kinds)
    assert {"Application/flywheel-root", "AppProject/flywheel-platform", "ArgoCD/flywheel"} <= before.keys()
    root = json.loads(server.kubectl("get", "application/flywheel-root", "-n", "flywheel-gitops", "-o", "json").stdout)
    assert root["spec"]["source"]["path"] == "gitops/argocd/overlays/openshift"
    again: Said = []
    bootstrap(folder, "openshift", again.append, patience_s=60, pause_s=0.5)
    assert versions(server, kinds) == before
    assert not [line for line in again if "waiting" in line]


@pytest.mark.slow
def test_what_is_missing_is_named_when_kubernetes_is_not_prepared(server: ApiServer, folder: Path, run: Run) -> None:
    values = gitops.OTHER | {key: gitops.SAMPLE[key] for key in ("REPO_URL", "PLATFORM_REVISION", "DETECTOR_REVISION")}
    cluster_env.merge(folder / cluster_env.PATH, values)
    push(folder, run)
    with pytest.raises(ConfigError, match="flywheel-runner, flywheel-serving, flywheel-minio"):
        bootstrap(folder, "kubernetes", print)
    (folder / IMAGES).write_text((folder / IMAGES).read_text().replace("0" * 64, "1" * 64))
    push(folder, run)
    with pytest.raises(ClusterError, match=r"the cluster lacks .*Tekton Pipelines.*; gitops/README.md"):
        bootstrap(folder, "kubernetes", print)
    kinds = {name: name.partition(".") for name in PREREQUISITES}
    singular = {"applications": "Application", "applicationsets": "ApplicationSet", "appprojects": "AppProject"}
    for plural, _, group in kinds.values():
        version = "v1alpha1" if group == "argoproj.io" else "v1"
        server.know([{"apiVersion": f"{group}/{version}", "kind": singular.get(plural, plural[:-1].title())}], ())
    for name in ("argocd", "cert-manager"):
        server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}])
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    server.apply([settings | {"data": {"url": "https://argocd.example.org"}}], "--field-manager=installer")
    bootstrap(folder, "kubernetes", print)
    kept = json.loads(server.kubectl("get", "configmap/argocd-cm", "-n", "argocd", "-o", "json").stdout)["data"]
    assert kept["url"] == "https://argocd.example.org"
    assert "hs.status" in kept["resource.customizations.health.argoproj.io_Application"]


@pytest.mark.slow
def test_an_earlier_installation_is_led_over_when_kubernetes_is_bootstrapped(
    server: ApiServer, folder: Path, run: Run
) -> None:
    """On a cluster that the test before has prepared."""
    values = gitops.OTHER | {key: gitops.SAMPLE[key] for key in ("REPO_URL", "PLATFORM_REVISION", "DETECTOR_REVISION")}
    cluster_env.merge(folder / cluster_env.PATH, values)
    (folder / IMAGES).write_text((folder / IMAGES).read_text().replace("0" * 64, "1" * 64))
    push(folder, run)
    ours = {"app.kubernetes.io/part-of": "flywheel"}
    meta = {"namespace": "argocd", "labels": ours}
    tracked = {"argocd.argoproj.io/tracking-id": "pipelines:/ConfigMap:flywheel-pipelines/retrain"}
    retrain = {"name": "retrain", "namespace": "flywheel-pipelines", "labels": ours, "annotations": tracked}
    finalizers = ["resources-finalizer.argocd.argoproj.io"]
    before = [
        named("argoproj.io", "AppProject") | {"metadata": {**meta, "name": "platform"}},
        named("argoproj.io", "Application") | {"metadata": {**meta, "name": "root", "finalizers": finalizers}},
        named("argoproj.io", "Application") | {"metadata": {**meta, "name": "pipelines", "finalizers": finalizers}},
        named("argoproj.io", "ApplicationSet") | {"metadata": {**meta, "name": "serving"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": retrain},
    ]
    assert server.apply(before).returncode == 0
    there = server.kubectl("get", "configmap/retrain", "-n", "flywheel-pipelines", "-o", "jsonpath={.metadata.uid}")
    said: Said = []
    bootstrap(folder, "kubernetes", said.append)
    names = versions(server, "applications.argoproj.io,applicationsets.argoproj.io,appprojects.argoproj.io").keys()
    assert "Application/flywheel-root" in names
    assert not {"Application/root", "Application/pipelines", "AppProject/platform"} & names
    gone = server.kubectl("get", "applicationset/serving", "-n", "argocd", "-o", "jsonpath={.metadata.finalizers}")
    assert gone.stdout == '["orphan"]'  # the garbage collector, which is not here, takes it away
    kept = json.loads(server.kubectl("get", "configmap/retrain", "-n", "flywheel-pipelines", "-o", "json").stdout)
    assert kept["metadata"]["uid"] == there.stdout
    assert kept["metadata"]["annotations"] == {
        "argocd.argoproj.io/tracking-id": "flywheel-pipelines:/ConfigMap:flywheel-pipelines/retrain"
    }
    theirs = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": []}
    server.kubectl("delete", "clusterrole", "flywheel-trigger")
    server.apply([theirs | {"metadata": {"name": "flywheel-trigger"}}])
    with pytest.raises(ClusterError, match="ClusterRole flywheel-trigger; nothing was applied"):
        bootstrap(folder, "kubernetes", print)
    server.kubectl("delete", "clusterrole", "flywheel-trigger")


@pytest.mark.slow
def test_anothers_is_named_when_other_kinds_are_unknown(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    role: dict[str, Any] = {"kind": "ClusterRole", "metadata": {"name": "flywheel-taken"}, "rules": []}
    assert server.apply([role | {"apiVersion": "rbac.authorization.k8s.io/v1"}]).returncode == 0
    later: dict[str, Any] = {"kind": "Later", "metadata": {"name": "any"}}
    objects = [later | {"apiVersion": "later.io/v1"}, later | {"apiVersion": "apps/v1"}]
    objects.append(role | {"apiVersion": "rbac.authorization.k8s.io/v1beta1"})  # the server has v1
    with pytest.raises(ClusterError, match="ClusterRole flywheel-taken; nothing was applied"):
        require_ours(objects)
    migrate(objects, "kubernetes", print)
    server.kubectl("delete", "clusterrole", "flywheel-taken")


@pytest.mark.slow
def test_the_operator_is_named_when_it_does_not_come(tmp_path: Path, folder: Path, monkeypatch: Any) -> None:
    own = ApiServer(Path(shutil.copytree(tmp_path / "remote", tmp_path / "own")))
    try:
        monkeypatch.setenv("KUBECONFIG", str(own.kubeconfig))
        with pytest.raises(
            ClusterError, match=r"gitops/bootstrap/operator was not applied as a whole: .*run this again"
        ):
            bootstrap(folder, "openshift", print, patience_s=1, pause_s=0.2)  # no OLM: no kind Subscription
        kinds = [named("operators.coreos.com", "Subscription"), {"apiVersion": "operators.coreos.com/v1"}]
        own.know([kinds[0], kinds[1] | {"kind": "OperatorGroup"}], ())
        with pytest.raises(ClusterError, match=r"1 s for applications.argoproj.io, which .*; look at the"):
            bootstrap(folder, "openshift", print, patience_s=1, pause_s=0.2)
    finally:
        own.stop()


def unfilled(folder: Path, run: Run) -> None:
    path = folder / cluster_env.PATH
    path.write_text(path.read_text().replace("AWS_AMI=ami-0fedcba9876543210", "AWS_AMI=REPLACE-ME"))


def changed(folder: Path, run: Run) -> None:
    cluster_env.merge(folder / cluster_env.PATH, {"STORAGE_CLASS": "faster"})


def pushed_to_main_alone(folder: Path, run: Run) -> None:
    changed(folder, run)
    push(folder, run, gitops.SAMPLE["DETECTOR_REVISION"])


def pushed_to_platform_alone(folder: Path, run: Run) -> None:
    changed(folder, run)
    push(folder, run, gitops.SAMPLE["PLATFORM_REVISION"])


def another_manifest(folder: Path, run: Run) -> None:
    (folder / "gitops/argocd/base/more.yaml").write_text("kind: Application\n")


def no_such_revision(folder: Path, run: Run) -> None:
    cluster_env.merge(folder / cluster_env.PATH, {"PLATFORM_REVISION": "v9"})
    push(folder, run)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unfilled, "1 to mend:\n  AWS_AMI is still REPLACE-ME"),
        (changed, r"cluster.env differs from sample-reviewed of https://.*; commit and push it"),
        (pushed_to_main_alone, "cluster.env differs from sample-reviewed"),
        (pushed_to_platform_alone, "cluster.env differs from sample-trunk"),
        (another_manifest, "gitops/argocd/base/more.yaml differs from sample-reviewed"),
        (no_such_revision, "v9 cannot be fetched from https://.*: push it, or correct REPO_URL"),
    ],
)
def test_nothing_is_applied_when_argocd_would_read_something_else(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path, Run], None], message: str
) -> None:
    monkeypatch.setenv("PATH", without_kubectl())
    spoil(folder, run)
    with pytest.raises(ConfigError, match=message):
        bootstrap(folder, "openshift", print)
    (folder / IMAGES).write_text((folder / IMAGES).read_text().replace("0" * 64, "1" * 64))
    with pytest.raises(ConfigError):
        first_run(folder, print)


def without_kubectl() -> str:
    """Return the folder of git alone, so that nothing could be applied."""
    git = shutil.which("git")
    assert git
    return str(Path(git).parent) if not shutil.which("kubectl", path=str(Path(git).parent)) else "/usr/lib/git-core"


def test_nothing_is_applied_when_the_platform_is_another(folder: Path) -> None:
    with pytest.raises(ConfigError, match="PLATFORM is openshift, but kubernetes was asked for"):
        bootstrap(folder, "kubernetes", print)


def test_images_are_asked_for_when_none_is_built(folder: Path) -> None:
    assert "flywheel-serving" in unbuilt_images(folder / IMAGES)
    with pytest.raises(ConfigError, match="flywheel-runner, flywheel-serving, flywheel-minio"):
        first_run(folder, print)
