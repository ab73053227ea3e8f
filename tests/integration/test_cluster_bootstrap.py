import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import facts as cluster_env
from runner.cluster.bootstrap import PREREQUISITES, bootstrap
from runner.cluster.container_images import PATH as IMAGES
from runner.cluster.first_run import first_run
from runner.cluster.gpu_nodes import WORKER
from runner.errors import ClusterError, ConfigError
from tests.support import gitops
from tests.support.apiserver import ApiServer
from tests.support.forks import make_fork, push
from tests.support.processes import meanwhile, until

ALPHA, V1 = "argoproj.io/v1alpha1", "operators.coreos.com/v1"
SHARED = {key: gitops.SAMPLE[key] for key in ("REPO_URL", "PLATFORM_REVISION", "DETECTOR_REVISION", "GIT_CIDRS")}
Said = list[str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that the tests share: each goes on with what the one before has brought."""
    with closing(ApiServer(tmp_path_factory.mktemp("server"))) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fork; kubectl is logged in to `server` where the test has one."""
    if "server" in request.fixturenames:
        monkeypatch.setenv("KUBECONFIG", str(request.getfixturevalue("server").kubeconfig))
    return make_fork(tmp_path, gitops.SAMPLE, monkeypatch)


def an_object(version: str, kind: str, name: str = "any", **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


def build_images(folder: Path) -> None:
    (folder / IMAGES).write_text((folder / IMAGES).read_text().replace("0" * 64, "1" * 64))


def versions(server: ApiServer, *kinds: str) -> dict[str, str]:
    listed = json.loads(server.kubectl("get", ",".join(kinds), "-A", "-o", "json").stdout)["items"]
    return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in listed}


@pytest.mark.slow
def test_argocd_is_there_when_openshift_is_bootstrapped_twice(server: ApiServer, folder: Path) -> None:
    said: Said = []

    def olm() -> None:
        """Bring the kinds of OpenShift GitOps once it is asked for."""
        until(lambda: any("waiting for applications.argoproj.io" in line for line in said), 300)
        kinds = [an_object(ALPHA, kind) for kind in ("Application", "ApplicationSet", "AppProject")]
        server.know([*kinds, an_object("argoproj.io/v1beta1", "ArgoCD")], ())

    with pytest.raises(ClusterError, match="gitops/bootstrap/operator"):  # there is no kind Subscription
        bootstrap(folder, "openshift", print, patience_s=1, pause_s=0.2)
    server.know([an_object("operators.coreos.com/v1alpha1", "Subscription"), an_object(V1, "OperatorGroup")], ())
    server.make_namespaces("openshift-config-managed")
    with pytest.raises(ClusterError, match=r"1 s for applications\.argoproj\.io, "):
        bootstrap(folder, "openshift", print, patience_s=1, pause_s=0.2)
    with meanwhile(olm):
        bootstrap(folder, "openshift", said.append, patience_s=300, pause_s=0.5)
    assert [line for line in said if "Secret git in flywheel-pipelines" in line]
    kinds = ["applications.argoproj.io", "appprojects.argoproj.io", "argocds.argoproj.io"]
    kinds += ["namespaces", "clusterroles", "subscriptions"]
    before = versions(server, *kinds)
    assert {"Application/flywheel-root", "AppProject/flywheel-platform", "ArgoCD/flywheel"} <= before.keys()
    root = server.ask("GET", f"/apis/{ALPHA}/namespaces/flywheel-gitops/applications/flywheel-root")
    assert root["spec"]["source"]["path"] == "gitops/argocd/overlays/openshift"
    again: Said = []
    bootstrap(folder, "openshift", again.append, patience_s=60, pause_s=0.5)
    assert versions(server, *kinds) == before
    assert not [line for line in again if "waiting" in line]


@pytest.mark.slow
def test_what_is_missing_is_named_when_kubernetes_is_not_prepared(server: ApiServer, folder: Path) -> None:
    cluster_env.merge(folder / cluster_env.PATH, gitops.OTHER | SHARED)
    push(folder)
    with pytest.raises(ConfigError, match="flywheel-runner, flywheel-serving, flywheel-minio"):
        bootstrap(folder, "kubernetes", print)
    build_images(folder)
    push(folder)
    with pytest.raises(ClusterError, match=r"the cluster lacks .*Tekton Pipelines"):
        bootstrap(folder, "kubernetes", print)
    singular = {"applications": "Application", "applicationsets": "ApplicationSet", "appprojects": "AppProject"}
    for plural, _, group in (name.partition(".") for name in PREREQUISITES):
        version = ALPHA if group == "argoproj.io" else f"{group}/v1"
        server.know([an_object(version, singular.get(plural, plural[:-1].title()))], ())
    server.make_namespaces("argocd", "cert-manager")
    settings = an_object("v1", "ConfigMap", "argocd-cm", data={"url": "https://argocd.example.org"})
    server.ask("POST", "/api/v1/namespaces/argocd/configmaps", settings)
    bootstrap(folder, "kubernetes", print)
    kept = server.ask("GET", "/api/v1/namespaces/argocd/configmaps/argocd-cm")["data"]
    assert kept["url"] == "https://argocd.example.org"
    assert "hs.status" in kept["resource.customizations.health.argoproj.io_Application"]


FASTER = {"STORAGE_CLASS": "faster"}
MORE = "gitops/argocd/base/à new one.yaml"


@pytest.mark.parametrize(
    ("values", "pushed", "file", "message"),
    [
        ({"STORAGE_CLASS": "REPLACE-ME"}, "", "", "STORAGE_CLASS is still REPLACE-ME"),
        ({"GIT_CIDRS": "192.0.2.0/25"}, "", "", r"git-addresses\.yaml: has other addresses"),
        ({}, "", str(WORKER), r"worker\.yaml: still REPLACE-ME"),
        (FASTER, "", "", r"cluster\.env differs from sample-reviewed of https://"),
        (FASTER, "sample-trunk", "", r"cluster\.env differs from sample-reviewed"),
        (FASTER, "sample-reviewed", "", r"cluster\.env differs from sample-trunk"),
        ({}, "", MORE, f"{MORE} differs from sample-reviewed"),
        ({"PLATFORM_REVISION": "sample-trunk"}, "sample-trunk", MORE, f"{MORE} differs from sample-trunk"),
        ({"PLATFORM_REVISION": "v9"}, "sample-trunk", "", "v9 cannot be fetched from https://"),
    ],
)
def test_nothing_is_applied_when_argocd_would_read_something_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], pushed: str, file: str, message: str
) -> None:
    """Values of cluster.env are changed and pushed to a branch, then a file is as it ships, or is new."""
    monkeypatch.setenv("PATH", without_kubectl())
    cluster_env.merge(folder / cluster_env.PATH, values)
    if pushed:
        push(folder, pushed)
    if file:
        shipped = gitops.PROJECT / file
        (folder / file).write_text(shipped.read_text() if shipped.exists() else "kind: Application\n")
    with pytest.raises(ConfigError, match=message):
        bootstrap(folder, "openshift", print)
    build_images(folder)
    with pytest.raises(ConfigError):
        first_run(folder, print)


def without_kubectl() -> str:
    """Return the folder of git alone, so that nothing could be applied."""
    git = shutil.which("git")
    assert git
    return str(Path(git).parent) if not shutil.which("kubectl", path=str(Path(git).parent)) else "/usr/lib/git-core"


def test_refused_when_the_platform_is_another_or_no_image_is_built(folder: Path) -> None:
    with pytest.raises(ConfigError, match="PLATFORM is openshift, but kubernetes"):
        bootstrap(folder, "kubernetes", print)
    with pytest.raises(ConfigError, match="no digest of flywheel-runner, "):
        first_run(folder, print)
