"""What Kubernetes' own API server has already: others' objects are refused, an earlier version's Applications led over.

No controller runs behind it: an object with a finalizer stays, and shows when it was deleted.
"""

import re
from typing import Any

import pytest

from runner.cluster.bootstrap import CONTROLLER, advice
from runner.cluster.installation import LABEL, OPTIONS, TRACKING, migrate, require_ours
from runner.errors import ClusterError
from tests.support.apiserver import ApiServer

pytestmark = pytest.mark.slow
Object = dict[str, Any]
ARGOCD, RBAC = "/apis/argoproj.io/v1alpha1/namespaces/argocd", "rbac.authorization.k8s.io/v1"
VERSIONS = {
    **dict.fromkeys(("ConfigMap", "Namespace", "Later"), "v1"),
    **dict.fromkeys(("Application", "ApplicationSet", "AppProject"), "argoproj.io/v1alpha1"),
    **dict.fromkeys(("ClusterRole", "Role", "ClusterRoleBinding"), RBAC),
    "Certificate": "cert-manager.io/v1",
}


def make(kind: str, name: str, namespace: str = "", *, ours: bool = True, tracking: str = "", **more: Any) -> Object:
    meta: Object = {"name": name, "labels": {LABEL: "flywheel"} if ours else {"app": "theirs"}}
    meta |= {"namespace": namespace} if namespace else {}
    meta |= {"annotations": {TRACKING: tracking}} if tracking else {}
    return {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": meta, **more}


def unpruned(name: str) -> Object:
    made = make("ConfigMap", name, "flywheel-minio", tracking=f"flywheel-minio:/ConfigMap:flywheel-minio/{name}")
    made["metadata"]["annotations"][OPTIONS] = "Prune=false,Delete=false"
    return made


NEW = [
    make("Application", "flywheel-root", "argocd"),
    make("Application", "flywheel-minio", "argocd"),
    make("ApplicationSet", "flywheel-serving", "argocd"),
    make("AppProject", "flywheel-platform", "argocd"),
    make("Namespace", "flywheel-minio"),
    make("Role", "minio", "flywheel-minio", rules=[]),
    make("ConfigMap", "argocd-cm", "argocd"),
    unpruned("kept"),
    make("Certificate", "model", "flywheel-minio"),
    make("ClusterRole", "flywheel-taken", rules=[]) | {"apiVersion": "rbac.authorization.k8s.io/v1beta1"},  # it has v1
    make("Later", "later"),
    make("Later", "later") | {"apiVersion": "later.io/v1"},
]


@pytest.fixture(scope="module")
def known(api_server: ApiServer) -> ApiServer:
    api_server.know(NEW[:9], ())
    api_server.make_namespaces("argocd", "flywheel-minio", "elsewhere")
    return api_server


@pytest.fixture
def server(known: ApiServer, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    monkeypatch.setenv("KUBECONFIG", str(known.kubeconfig))
    return known


def test_it_is_refused_when_names_are_anothers(server: ApiServer) -> None:
    ours = [obj for obj in NEW if obj["kind"] != "Later"]
    ours[-1] = ours[-1] | {"apiVersion": RBAC}
    server.apply(ours)
    require_ours(NEW)
    server.apply([obj | {"metadata": obj["metadata"] | {"labels": {"app": "theirs"}}} for obj in ours])
    with pytest.raises(ClusterError) as error:
        require_ours(NEW)
    # Neither what is in our namespaces, nor argocd-cm, of which a few keys are set.
    assert sorted(str(error.value).partition("): ")[2].partition(";")[0].split(", ")) == [
        "AppProject flywheel-platform in argocd",
        "Application flywheel-minio in argocd",
        "Application flywheel-root in argocd",
        "ApplicationSet flywheel-serving in argocd",
        "ClusterRole flywheel-taken",
        "Namespace flywheel-minio",
    ]
    for kind in ("applications", "applicationsets", "appprojects"):
        server.ask("DELETE", f"{ARGOCD}/{kind}")


def earlier() -> list[Object]:
    """An installation of before the prefix, with an Application and a project of others beside it."""
    made = make("Application", "serving-dev", "argocd", ours=False, spec={"project": "detector"})
    made["metadata"]["finalizers"] = ["resources-finalizer.argocd.argoproj.io"]
    certificate = "serving-dev:cert-manager.io/Certificate:x/model"
    return [
        make("AppProject", "platform", "argocd"),
        make("AppProject", "default", "argocd"),
        make("AppProject", "theirs", "argocd", ours=False),
        make("Application", "minio", "argocd", spec={}),
        make("Application", "root", "argocd", spec={}),
        made,
        make("Application", "serving-desk", "argocd", ours=False, spec={"project": "theirs"}),
        make("ApplicationSet", "serving", "argocd", spec={}),
        make("Role", "minio", "flywheel-minio", rules=[], tracking=f"minio:{RBAC[:-3]}/Role:flywheel-minio/minio"),
        make("ConfigMap", "model-old", "flywheel-minio", tracking="serving-dev:/ConfigMap:flywheel-minio/model-old"),
        make("Certificate", "model", "flywheel-minio", ours=False, tracking=certificate),
        make("Certificate", "other", "elsewhere", ours=False, tracking=certificate),
        make("ConfigMap", "theirs", "flywheel-minio", ours=False, tracking="minio:/ConfigMap:flywheel-minio/theirs"),
        unpruned("kept"),
        unpruned("left"),  # which this version does not have
        make("ConfigMap", "others", "flywheel-minio", tracking="somebody:/ConfigMap:flywheel-minio/others"),
    ]


def led_over(server: ApiServer) -> tuple[list[str], dict[str, str]]:
    """Migrate; return what was deleted or left to nobody, in its order, and the Applications that track objects now."""
    said: list[str] = []
    migrate(NEW, "kubernetes", said.append)
    assert any("AppProject default in argocd was emptied" in line for line in said)
    paths = [f"/api/v1/namespaces/{name}/configmaps" for name in ("flywheel-minio", "elsewhere")]
    paths += [path.replace("api/v1", "apis/cert-manager.io/v1").replace("configmap", "certificate") for path in paths]
    paths.append(f"/apis/{RBAC}/namespaces/flywheel-minio/roles")
    there = [obj["metadata"] for path in paths for obj in server.items(path)]
    tracked = {meta["name"]: meta["annotations"][TRACKING] for meta in there if TRACKING in meta.get("annotations", {})}
    return re.findall(r"^  (\w+ [\w-]+) in [\w-]+: (?:deleted|of an earlier)", "\n".join(said), re.MULTILINE), tracked


def test_applications_of_before_go_and_what_they_applied_stays_and_is_tracked(server: ApiServer) -> None:
    server.apply(earlier())
    before = {obj["metadata"]["name"]: obj["metadata"].get("annotations", {}).get(TRACKING) for obj in earlier()}
    told, tracked = led_over(server)
    # root first, or it would bring the others back; then what makes Applications.
    applications = ["Application root", "ApplicationSet serving", "Application minio", "Application serving-dev"]
    assert told == [*applications, "AppProject platform", "ConfigMap left"]
    moved = {name: f"flywheel-{before[name]}" for name in ("minio", "model-old", "model")}
    assert tracked == {name: before[name] for name in ("other", "theirs", "kept", "others")} | moved
    left = {kind: server.items(f"{ARGOCD}/{kind}s") for kind in ("application", "appproject")}
    assert [[each["metadata"]["name"] for each in found] for found in left.values()] == [
        *(["serving-desk"], ["default", "theirs"])
    ]
    (serving,) = server.items(f"{ARGOCD}/applicationsets")
    assert serving["metadata"]["finalizers"] == ["orphan"]  # what the garbage collector does to its Applications
    assert led_over(server) == ([], tracked)
    # It was cut off: the Applications are gone.
    server.apply([obj for obj in earlier() if obj["metadata"]["name"] in ("platform", "model-old")])
    assert led_over(server) == (["AppProject platform"], tracked)


def bind(name: str, role: str, *subject: str) -> Object:
    subjects = [{"kind": "ServiceAccount", "namespace": namespace, "name": account} for namespace, account in [subject]]
    ref = {"apiGroup": RBAC[:-3], "kind": "ClusterRole", "name": role}
    return make("ClusterRoleBinding", name, ours=False, roleRef=ref, subjects=subjects)


def test_a_binding_is_named_when_it_lets_the_controller_do_everything(server: ApiServer) -> None:
    little = [bind("a", "view", *CONTROLLER), bind("b", "cluster-admin", "kube-system", CONTROLLER[1])]
    nobodys = bind("d", "cluster-admin", *CONTROLLER)
    del nobodys["subjects"]
    server.apply([*little, bind("c", "gone", *CONTROLLER), nobodys])
    assert advice() == []
    server.apply([bind("upstream", "cluster-admin", *CONTROLLER)])
    assert "kubectl delete clusterrolebinding upstream &&" in advice()[-1]
