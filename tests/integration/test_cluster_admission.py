"""What Kubernetes' own API server says to gitops/: it takes every object from Argo CD's controller, and no more."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_gitops_workloads import TEMPLATES, pod
from tests.support import gitops
from tests.support.apiserver import ApiServer

CONTROLLERS = {
    "openshift": "--as=system:serviceaccount:flywheel-gitops:flywheel-argocd-application-controller",
    "kubernetes": "--as=system:serviceaccount:argocd:argocd-application-controller",
}
A_ROLE = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}


class Cluster:
    """What a platform applies, filled in, and the API server that is asked about it."""

    def __init__(self, platform: str, root: Path, server: ApiServer) -> None:
        self.platform, self.root, self.server = platform, root, server

    def objects(self, project: str | None = None) -> list[gitops.Manifest]:
        """Return what a project, or all of the platform, applies: each object once, and namespaces first."""
        modes = {"openshift": "gpu/overlays/autoscaled", "kubernetes": "gpu/overlays/none"}
        applied = [path for path, its in gitops.applied(self.platform).items() if project in (None, its)]
        paths = [path for path in applied if not path.startswith("gpu/") or path == modes[self.platform]]
        return self.rendered(*paths)

    def rendered(self, *paths: str) -> list[gitops.Manifest]:
        """Return the objects of some leaves."""
        objects = [obj for path in paths for obj in gitops.render(path, self.root).objects]
        found = {(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]): obj for obj in objects}
        return sorted(found.values(), key=lambda obj: obj["kind"] != "Namespace")


@pytest.fixture(scope="module", params=["openshift", "kubernetes"])
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cluster(platform: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that knows the kinds of a platform and has its operators' namespaces, bootstrapped by hand."""
    folder = tmp_path_factory.mktemp(platform)
    values = {"openshift": gitops.SAMPLE, "kubernetes": gitops.OTHER}[platform]
    root = gitops.copy_with(values, folder)
    server = ApiServer(folder)
    try:
        it = Cluster(platform, root, server)
        objects = it.objects()
        server.know(objects, gitops.CLUSTER_WIDE)
        namespaces = {obj["metadata"].get("namespace") for obj in objects} - {None}
        others = sorted(name for name in namespaces if not name.startswith("flywheel-"))
        taken(server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in others]))
        taken(server.apply(it.rendered(f"bootstrap/root/overlays/{platform}")))
        taken(server.apply(own(platform)))
        yield it
    finally:
        server.stop()


def own(platform: str) -> list[gitops.Manifest]:
    """What gives Argo CD's controller its own kinds: upstream's manifests, or the operator."""
    namespace, account = CONTROLLERS[platform].split(":")[-2:]
    meta = {"name": "argocd-application-controller", "namespace": namespace}
    kinds = ["applications", "applicationsets", "appprojects"]
    verbs = ["create", "get", "list", "watch", "update", "patch", "delete"]
    rules = [{"apiGroups": ["argoproj.io"], "resources": kinds, "verbs": verbs}]
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": meta["name"]}
    binding = {"apiVersion": A_ROLE["apiVersion"], "kind": "RoleBinding", "metadata": meta}
    return [A_ROLE | {"metadata": meta, "rules": rules}, binding | {"roleRef": ref, "subjects": subjects}]


def taken(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_every_object_is_taken_when_the_controller_applies_it(cluster: Cluster) -> None:
    """With the rights that bootstrap gives, and no other than those over Argo CD's own kinds."""
    controller = CONTROLLERS[cluster.platform]
    for project in ("flywheel-platform", "flywheel-detector"):
        objects = cluster.objects(project)
        done = taken(cluster.server.apply(objects, controller))
        assert len(done.stdout.splitlines()) == len(objects)
        taken(cluster.server.apply(objects, controller))


@pytest.mark.slow
def test_no_warning_is_given_when_objects_are_taken(cluster: Cluster) -> None:
    """A warning is a deprecated version, an unknown field, or a pod that the namespace's security level refuses."""
    done = taken(cluster.server.apply(cluster.objects(), "--dry-run=server"))
    assert [line for line in done.stderr.splitlines() if line.startswith("Warning")] == []


@pytest.mark.slow
def test_every_pod_is_admitted_when_its_namespace_is_restricted(cluster: Cluster) -> None:
    pods = [standing_alone(obj) for obj in cluster.objects() if obj["kind"] in TEMPLATES]
    assert len(pods) > 5
    taken(cluster.server.apply(pods, "--dry-run=server"))
    privileged = copy.deepcopy(pods[0])
    del privileged["spec"]["securityContext"]
    done = cluster.server.apply([privileged], "--dry-run=server")
    assert 'violates PodSecurity "restricted' in done.stderr


def standing_alone(owner: gitops.Manifest) -> gitops.Manifest:
    """Return the pod that a Deployment, a StatefulSet or a Job would make."""
    template = pod(owner, "")
    spec = copy.deepcopy(template.spec)
    claims = [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", ())]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    spec["volumes"] = [*spec.get("volumes", ()), *volumes]
    meta = {"name": f"{owner['metadata']['name']}-pod", "namespace": owner["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta | {"labels": template.labels}, "spec": spec}


def role(namespace: str, *verbs: str, resource: str = "secrets", names: tuple[str, ...] = ()) -> dict[str, Any]:
    rule: dict[str, Any] = {"apiGroups": [""], "resources": [resource], "verbs": list(verbs)}
    meta = {"name": "more", "namespace": namespace}
    return A_ROLE | {"metadata": meta, "rules": [rule | ({"resourceNames": list(names)} if names else {})]}


def workload(version: str, kind: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "kube-system"}}


CLUSTER_ADMIN = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "more", "namespace": "flywheel-dev"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "model", "namespace": "flywheel-dev"}],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(CLUSTER_ADMIN, id="cluster-admin"),
        pytest.param(role("flywheel-dev", "get"), id="read-every-secret"),
        pytest.param(role("kube-system", "create"), id="elsewhere"),
        pytest.param(role("flywheel-dev", "get", names=("model-api",)), id="another-secret"),
        pytest.param(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "kube-system"}}, id="secret"
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "kube-system"}}, id="pod"
        ),
        pytest.param(workload("apps/v1", "Deployment"), id="deployment"),
        pytest.param(workload("batch/v1", "CronJob"), id="cron-job"),
        pytest.param(workload("v1", "ConfigMap"), id="config-map"),
        pytest.param(
            A_ROLE | {"kind": "ClusterRole", "metadata": {"name": "flywheel-argocd-apply"}, "rules": []},
            id="own-rights",
        ),
    ],
)
def test_the_api_server_refuses_when_the_controller_reaches_for_more(cluster: Cluster, refused: dict[str, Any]) -> None:
    controller = CONTROLLERS[cluster.platform]
    done = cluster.server.apply([refused], controller, "--dry-run=server")
    assert done.returncode != 0
    assert "forbidden" in done.stderr
    taken(cluster.server.apply([role("flywheel-dev", "create")], controller, "--dry-run=server"))
