"""What Kubernetes' own API server says to gitops/ on OpenShift: it takes all from Argo CD's controller, and no more.

The platform without OpenShift is applied by the real controller, in tests/cluster/.
"""

import copy
import functools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_gitops_workloads import TEMPLATES, pod
from tests.support import gitops
from tests.support.apiserver import ApiServer

NAMESPACE, ACCOUNT = "flywheel-gitops", "flywheel-argocd-application-controller"
CONTROLLER = f"--as=system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
A_ROLE: dict[str, Any] = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}


class Cluster:
    """What OpenShift applies, filled in, and the API server that is asked about it."""

    def __init__(self, root: Path, server: ApiServer) -> None:
        self.server = server
        self.leaf = functools.cache(lambda path: gitops.render(path, root).objects)

    def objects(self, project: str | None = None) -> list[gitops.Manifest]:
        """Return what a project, or all of the platform, applies: each object once, and namespaces first."""
        applied = [path for path, its in gitops.applied("openshift").items() if project in (None, its)]
        return self.rendered(*(path for path in applied if path not in ("gpu/overlays/fixed", "gpu/overlays/none")))

    def rendered(self, *paths: str) -> list[gitops.Manifest]:
        objects = [obj for path in paths for obj in self.leaf(path)]
        found = {(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]): obj for obj in objects}
        return sorted(found.values(), key=lambda obj: obj["kind"] != "Namespace")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that knows the kinds of OpenShift and has its operators' namespaces, bootstrapped by hand."""
    folder = tmp_path_factory.mktemp("openshift")
    root = gitops.copy_with(gitops.SAMPLE, folder)
    with closing(ApiServer(folder)) as server:
        it = Cluster(root, server)
        objects = it.objects()
        server.know(objects, gitops.CLUSTER_WIDE)
        namespaces = {obj["metadata"].get("namespace") for obj in objects} - {None}
        others = sorted(name for name in namespaces if not name.startswith("flywheel-"))
        server.make_namespaces(*others)
        server.apply(it.rendered("bootstrap/root/overlays/openshift"))
        server.apply(own())
        yield it


def own() -> list[gitops.Manifest]:
    """What the operator gives Argo CD's controller of its own kinds."""
    meta = {"name": ACCOUNT, "namespace": NAMESPACE}
    kinds = ["applications", "applicationsets", "appprojects"]
    verbs = ["create", "get", "list", "watch", "update", "patch", "delete"]
    rules = [{"apiGroups": ["argoproj.io"], "resources": kinds, "verbs": verbs}]
    subjects = [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}]
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT}
    binding = A_ROLE | {"kind": "RoleBinding", "metadata": meta}
    return [A_ROLE | {"metadata": meta, "rules": rules}, binding | {"roleRef": ref, "subjects": subjects}]


@pytest.mark.slow
def test_every_object_is_taken_when_the_controller_applies_it(cluster: Cluster) -> None:
    """With the rights that bootstrap gives, and no other than those over Argo CD's own kinds."""
    for project in ("flywheel-platform", "flywheel-detector"):
        objects = cluster.objects(project)
        done = cluster.server.apply(objects, CONTROLLER)
        assert len(done.stdout.splitlines()) == len(objects)
        cluster.server.apply(objects, CONTROLLER)


@pytest.mark.slow
def test_no_warning_is_given_when_objects_are_taken(cluster: Cluster) -> None:
    """A warning is a deprecated version, an unknown field, or a pod that the namespace's security level refuses."""
    done = cluster.server.apply(cluster.objects(), "--dry-run=server")
    assert [line for line in done.stderr.splitlines() if line.startswith("Warning")] == []


@pytest.mark.slow
def test_every_pod_is_admitted_when_its_namespace_is_restricted(cluster: Cluster) -> None:
    pods = [standing_alone(obj) for obj in cluster.objects() if obj["kind"] in TEMPLATES]
    assert len(pods) > 5
    cluster.server.apply(pods, "--dry-run=server")
    privileged = copy.deepcopy(pods[0])
    del privileged["spec"]["securityContext"]
    done = cluster.server.apply([privileged], "--dry-run=server", refused=True)
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


def role(name: str, namespace: str, verb: str, **more: Any) -> gitops.Manifest:
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": [verb]} | more
    return A_ROLE | {"metadata": {"name": name, "namespace": namespace}, "rules": [rule]}


@pytest.mark.slow
def test_the_api_server_refuses_when_the_controller_reaches_for_more(cluster: Cluster) -> None:
    kinds = [("Secret", "v1"), ("Pod", "v1"), ("ConfigMap", "v1"), ("Deployment", "apps/v1"), ("CronJob", "batch/v1")]
    objects: list[gitops.Manifest] = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": f"a-{kind.lower()}", "namespace": "kube-system"}}
        for kind, version in kinds
    ]
    objects += [
        role("read-every-secret", "flywheel-dev", "get"),
        role("elsewhere", "kube-system", "create"),
        role("another-secret", "flywheel-dev", "get", resourceNames=["model-api"]),
        A_ROLE | {"kind": "ClusterRole", "metadata": {"name": "flywheel-argocd-apply"}, "rules": []},  # its own rights
    ]
    admin = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subjects = [{"kind": "ServiceAccount", "name": "model", "namespace": "flywheel-dev"}]
    meta = {"name": "an-administrator", "namespace": "flywheel-dev"}
    objects.append(A_ROLE | {"kind": "RoleBinding", "metadata": meta, "roleRef": admin, "subjects": subjects})
    cluster.server.apply([role("its-own", "flywheel-dev", "create")], CONTROLLER, "--dry-run=server")
    done = cluster.server.apply(objects, CONTROLLER, "--dry-run=server", refused=True)
    assert done.stdout == ""
    forbidden = [line for line in done.stderr.splitlines() if "forbidden" in line]
    names = [obj["metadata"]["name"] for obj in objects]
    assert [name for name in names if not any(f'"{name}"' in line for line in forbidden)] == []
