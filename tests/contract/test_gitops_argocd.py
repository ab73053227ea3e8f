"""Argo CD may do what it must and no more, in the right order, and takes nothing away that people would miss."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from tests.contract.test_gitops_references import PLATFORMS, objects
from tests.support import gitops
from tests.support.apiserver import plural

PROJECTS = ("flywheel-platform", "flywheel-detector")
READ, WRITE = ("get", "list", "watch"), ("create", "update", "patch", "delete")
ROUTE_HOST = ("route.openshift.io", "routes/custom-host")  # a Route may name its host: a right of its own, not a kind
CONTROLLERS = {  # namespace and ServiceAccount of Argo CD's controller
    "openshift": ("flywheel-gitops", "flywheel-argocd-application-controller"),
    "kubernetes": ("argocd", "argocd-application-controller"),
}
Resource = tuple[str, str]  # group, resource
Right = tuple[str, str, str]  # namespace (`*`: any), group, resource
Rule = dict[str, list[str]]


def kind_of(obj: gitops.Manifest) -> tuple[str, str]:
    return obj["apiVersion"].rpartition("/")[0], obj["kind"]


def bootstrapped(platform: str, *kinds: str) -> list[gitops.Manifest]:
    return list(gitops.leaf(f"bootstrap/root/overlays/{platform}").of_kind(*kinds))


def project(name: str, platform: str = "openshift") -> gitops.Manifest:
    found = gitops.leaf(f"argocd/overlays/{platform}").of_kind("AppProject")
    return next(obj for obj in found if obj["metadata"]["name"] == name)


def allowed(name: str, field: str) -> set[tuple[str, str]]:
    return {(item["group"], item["kind"]) for item in project(name)["spec"][field]}


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_allows_the_kinds_and_the_namespaces_that_it_applies(name: str) -> None:
    kinds = {
        (obj["kind"] in gitops.CLUSTER_WIDE, kind_of(obj)) for platform in PLATFORMS for obj in objects(platform, name)
    }
    for field, wide in (("clusterResourceWhitelist", True), ("namespaceResourceWhitelist", False)):
        assert allowed(name, field) == {kind for cluster_wide, kind in kinds if cluster_wide == wide}
    for platform in PLATFORMS:
        there = {obj["metadata"].get("namespace") for obj in objects(platform, name)} - {None}
        specs = [application["spec"] for application in gitops.applications(platform)]
        there |= {spec["destination"]["namespace"] for spec in specs if spec["project"] == name}
        destinations = project(name, platform)["spec"]["destinations"]
        assert {item["server"] for item in destinations} == {"https://kubernetes.default.svc"}
        more = {item["namespace"] for item in destinations} - there
        assert there <= {item["namespace"] for item in destinations}
        if platform == "openshift":
            assert more == ({"cert-manager"} if name == "flywheel-platform" else set())


def test_the_default_project_allows_nothing_and_stays_when_the_argocd_is_ours() -> None:
    """Argo CD makes it at a start alone, and an Application whose project is gone syncs no more."""
    default = project("default")
    assert default["spec"] == {"sourceRepos": [], "destinations": [], "clusterResourceWhitelist": []}
    assert default["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
    others = [obj["metadata"]["name"] for obj in objects("kubernetes") if obj["kind"] == "AppProject"]
    assert "default" not in others  # there, Argo CD is other people's


def singles(rule: Rule) -> set[tuple[str, ...]]:
    """Return group, resource, verb and name (empty: of any name) of all that a rule allows."""
    return set(product(rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""])))


def rules(platform: str = "openshift") -> Iterator[tuple[str, str, Rule]]:
    """Yield namespace (`*`: any), role and each rule of what bootstrap lets the controller do."""
    roles = {
        (obj["metadata"].get("namespace"), obj["metadata"]["name"]): obj["rules"]
        for obj in bootstrapped(platform, "Role", "ClusterRole")
    }
    for obj in bootstrapped(platform, "RoleBinding", "ClusterRoleBinding"):
        if CONTROLLERS[platform] in [(each["namespace"], each["name"]) for each in obj["subjects"]]:
            where, (kind, name) = obj["metadata"].get("namespace"), (obj["roleRef"]["kind"], obj["roleRef"]["name"])
            for rule in roles[where if kind == "Role" else None, name]:
                yield where or "*", name, rule


def bound(role: str) -> set[str]:
    return {namespace for namespace, name, _ in rules() if name == role}


def given(role: str) -> set[tuple[str, ...]]:
    return {single for _, name, rule in rules() if name == role for single in singles(rule)}


def written(role: str) -> set[Resource]:
    return {(group, resource) for group, resource, verb, name in given(role) if verb in WRITE and not name}


def held(platform: str, verb: str) -> set[Right]:
    return {
        (namespace, group, resource)
        for namespace, _, rule in rules(platform)
        for group, resource, its, name in singles(rule)
        if its == verb and not name
    }


def needed(platform: str) -> set[Right]:
    """Return the kinds that the Applications of a platform apply, with the namespace of each."""
    found = [(obj["metadata"].get("namespace", "*"), *kind_of(obj)) for obj in objects(platform, *PROJECTS)]
    return {(namespace, group, plural(kind)) for namespace, group, kind in found}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_controller_may_write_and_see_all_that_its_applications_apply(platform: str) -> None:
    """In Argo CD's namespace a Role of upstream's manifests, or of the operator, gives the kinds of argoproj.io.

    Argo CD watches whole clusters: a kind that it may list in some namespaces alone is no longer pruned.
    """
    own = CONTROLLERS[platform][0]
    wanted = {right for right in needed(platform) if right[:2] != (own, "argoproj.io")}
    for verb in WRITE:
        may = held(platform, verb)
        assert sorted(right for right in wanted if not {right, ("*", *right[1:])} & may) == [], verb
    for verb in READ:
        may = held(platform, verb)
        assert sorted(right for right in needed(platform) if ("*", *right[1:]) not in may) == [], verb
        assert "secrets" not in {resource for _, _, resource in may}


def test_the_controller_may_write_nothing_else() -> None:
    required = {right for platform in PLATFORMS for right in needed(platform) if right[1] != "argoproj.io"}
    serve = written("flywheel-argocd-serve") - {ROUTE_HOST}
    assert serve == {
        (group, plural(kind)) for group, kind in allowed("flywheel-detector", "namespaceResourceWhitelist")
    }
    ours = {right[1:] for right in required if right[0].startswith("flywheel-")}
    assert written("flywheel-argocd-work") - {ROUTE_HOST} | serve == ours
    inside = {namespace for platform in PLATFORMS for namespace, _, _ in rules(platform)} - {"*"}
    inside |= {namespace for namespace, _ in CONTROLLERS.values()}
    assert written("flywheel-argocd-apply") == {right[1:] for right in required if right[0] not in inside}


def test_nothing_that_runs_a_pod_may_be_written_outside_of_our_namespaces() -> None:
    """Or the controller could run as any account of any namespace, a cluster administrator's too."""
    for namespace, group, resource in {right for each in PLATFORMS for verb in WRITE for right in held(each, verb)}:
        runs = group in ("", "apps", "batch", "tekton.dev") and resource not in ("namespaces", "configmaps")
        grants = group == "rbac.authorization.k8s.io"
        assert namespace.startswith("flywheel-") or not (runs or grants), (namespace, group, resource)


def test_the_controller_may_grant_what_our_roles_grant_bind_others_by_name_and_serve_where_we_do() -> None:
    ours = [obj for each in PLATFORMS for obj in objects(each, "flywheel-platform")]
    roles = [obj for obj in ours if obj["kind"].endswith("Role")]
    assert given("flywheel-argocd-grant") == {one for role in roles for rule in role["rules"] for one in singles(rule)}
    assert bound("flywheel-argocd-grant") >= {role["metadata"]["namespace"] for role in roles if role["kind"] == "Role"}
    others = [obj for obj in ours if obj["kind"] == "RoleBinding" and obj["roleRef"]["kind"] == "ClusterRole"]
    rights = {("rbac.authorization.k8s.io", "clusterroles", "bind", obj["roleRef"]["name"]) for obj in others}
    assert given("flywheel-argocd-pull") == rights
    assert bound("flywheel-argocd-pull") == {obj["metadata"]["namespace"] for obj in others}
    destinations = project("flywheel-detector")["spec"]["destinations"]
    assert bound("flywheel-argocd-serve") == {item["namespace"] for item in destinations}


def test_our_argocd_manages_the_cluster_and_leaves_out_kinds_that_it_may_not_list() -> None:
    """Else one Forbidden stops every Application: Argo CD reads the whole cluster first."""
    (settings,) = bootstrapped("kubernetes", "ConfigMap")
    assert settings["data"]["resource.respectRBAC"] == "normal"
    (argocd,) = bootstrapped("openshift", "ArgoCD")
    assert argocd["spec"]["controller"]["respectRBAC"] == "normal"
    assert argocd["spec"]["defaultClusterScopedRoleDisabled"] is True
    (subscription,) = gitops.leaf("bootstrap/operator").of_kind("Subscription")
    environment = {each["name"]: each["value"] for each in subscription["spec"]["config"]["env"]}
    name, namespace = argocd["metadata"]["name"], argocd["metadata"]["namespace"]
    assert namespace in environment["ARGOCD_CLUSTER_CONFIG_NAMESPACES"].split(",")
    assert CONTROLLERS["openshift"] == (namespace, f"{name}-argocd-application-controller")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_rights_and_root_are_not_the_controllers_to_change(platform: str) -> None:
    """What it applies by itself must not widen what it may do."""
    applied = gitops.leaf(f"argocd/overlays/{platform}").objects
    assert {obj["kind"] for obj in applied} == {"AppProject", "Application", "ApplicationSet"}
    assert "flywheel-root" not in {obj["metadata"]["name"] for obj in applied}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_application_is_patient_and_careful_when_it_syncs(platform: str) -> None:
    for application in gitops.applications(platform):
        policy = application["spec"]["syncPolicy"]
        assert policy["retry"]["limit"] >= 20
        assert policy["retry"]["refresh"] is True  # or the commit that mends a failing sync waits for its last try
        assert policy["retry"]["backoff"]["maxDuration"] == "3m"
        assert {"ServerSideApply=true", "RespectIgnoreDifferences=true"} <= set(policy["syncOptions"])
        if application["spec"]["project"] == "flywheel-platform":
            assert policy["automated"] == {"prune": True, "selfHeal": True}
            assert "SkipDryRunOnMissingResource=true" in policy["syncOptions"]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_sync_does_not_wait_for_claims_that_nothing_mounts(platform: str) -> None:
    """With PruneLast it would, for ever, whenever it prunes: an unmounted claim is Pending, which is not Healthy."""
    leaves, with_claims = {f"gitops/{leaf.path}": leaf for leaf in gitops.leaves()}, set()
    for application in gitops.applications(platform):
        leaf = leaves.get(application["spec"]["source"]["path"].replace("REPLACE-ME", platform))
        claims = {obj["metadata"]["name"] for obj in leaf.of_kind("PersistentVolumeClaim")} if leaf else set()
        mounted = str([obj["spec"] for obj in leaf.of_kind("Deployment", "StatefulSet")]) if leaf else ""
        if any(f"'claimName': '{name}'" not in mounted for name in claims):
            with_claims.add(application["metadata"]["name"])
            assert "PruneLast=true" not in application["spec"]["syncPolicy"]["syncOptions"]
    assert with_claims == {"flywheel-pipelines"}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_prod_is_synced_by_hand_when_the_others_are_not(platform: str) -> None:
    (serving,) = gitops.leaf(f"argocd/overlays/{platform}").of_kind("ApplicationSet")
    template = serving["spec"]["template"]["spec"]
    assert "automated" not in template["syncPolicy"]
    assert serving["spec"]["templatePatch"].startswith(
        '{{- if ne .path.basename "prod" }}\nspec:\n  syncPolicy:\n    automated:'
    )
    assert template["project"] == "flywheel-detector"
    assert serving["spec"]["goTemplateOptions"] == ["missingkey=error"]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_waves_follow_what_needs_what(platform: str) -> None:
    wave = {
        obj["metadata"]["name"].removeprefix("flywheel-"): int(
            obj["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]
        )
        for obj in gitops.leaf(f"argocd/overlays/{platform}").of_kind("Application", "ApplicationSet")
    }
    order = {
        "openshift": [
            *("nfd-operator nfd gpu-policy gpu", "gpu-operator gpu-policy"),
            *("pipelines-operator pipelines", "builds credentials"),
        ],
        "kubernetes": ["internal-ca minio"],
    }
    for line in ("namespaces credentials minio label-studio", "minio serving", *order[platform]):
        waves = [wave[name] for name in line.split()]
        assert waves == sorted(set(waves)), line
    # Argo CD's own check of Applications is gone since 1.8; without one, a wave does not wait for the one before.
    settings = gitops.strings(bootstrapped(platform, "ArgoCD", "ConfigMap"))
    assert any("hs.status = obj.status.health.status" in text for text in settings)


@pytest.mark.parametrize("kind", ["Namespace", "PersistentVolumeClaim", "ArgoCD"])
def test_it_stays_when_it_is_no_longer_in_git(kind: str) -> None:
    found = [obj for leaf in gitops.leaves() for obj in leaf.of_kind(kind)]
    assert found
    for obj in found:
        options = obj["metadata"]["annotations"]["argocd.argoproj.io/sync-options"].split(",")
        assert {"Prune=false", "Delete=false"} <= set(options), obj["metadata"]["name"]


#: Objects of which a cluster has one, with that name; whoever has one already leaves ours out.
ONE_ALONE = {
    *("ArgoCD", "ClusterAutoscaler", "ClusterPolicy", "NodeFeatureDiscovery", "OperatorGroup", "Subscription"),
    *("Namespace/nvidia-gpu-operator", "Namespace/openshift-gitops-operator", "Namespace/openshift-nfd"),
    *("AppProject/default", "ConfigMap/argocd-cm"),
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_object_says_whose_it_is_when_it_lies_among_others(platform: str) -> None:
    for obj in objects(platform):
        kind, name, namespace = obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace", "")
        shared = not namespace.startswith("flywheel-") or namespace == "flywheel-gitops"
        if shared and not {kind, f"{kind}/{name}"} & ONE_ALONE:
            assert name.startswith("flywheel-"), f"{kind}/{name}"
        if f"{kind}/{name}" != "ConfigMap/argocd-cm":  # bootstrap knows ours by the label
            assert obj["metadata"]["labels"]["app.kubernetes.io/part-of"] == "flywheel", f"{kind}/{name}"


def test_a_gpu_node_comes_from_zero_and_goes_when_the_autoscaler_counts_it() -> None:
    """tests/integration/openshift holds against OpenShift's controllers what they read of it."""
    found = {obj["kind"]: obj for obj in gitops.leaf("gpu/overlays/autoscaled").objects}
    machines: dict[str, Any] = found["MachineSet"]
    template = machines["spec"]["template"]["spec"]
    scaler, autoscaler = (found[kind]["spec"] for kind in ("MachineAutoscaler", "ClusterAutoscaler"))
    label = template["metadata"]["labels"]["cluster-api/accelerator"]
    (gpus,) = autoscaler["resourceLimits"]["gpus"]
    assert (gpus["type"], gpus["min"], gpus["max"]) == (label, 0, 1)
    expected = machines["metadata"]["annotations"]["capacity.cluster-autoscaler.kubernetes.io/labels"]
    assert f"cluster-api/accelerator={label}" in expected.split(",")
    assert {"key": "nvidia.com/gpu", "effect": "NoSchedule"} in template["taints"]
    assert (machines["spec"]["replicas"], scaler["minReplicas"], scaler["maxReplicas"]) == (0, 0, 1)
    assert scaler["scaleTargetRef"]["name"] == machines["metadata"]["name"]
    assert (autoscaler["scaleDown"]["enabled"], autoscaler["scaleDown"]["unneededTime"]) == (True, "10m")
    (quota,) = gitops.leaf("gpu/overlays/none").of_kind("ResourceQuota")
    assert quota["spec"]["hard"] == {"requests.nvidia.com/gpu": "0"}
    gpu = next(one for one in gitops.applications("openshift") if one["metadata"]["name"] == "flywheel-gpu")
    (ignored,) = gpu["spec"]["ignoreDifferences"]  # what the cluster writes
    assert ignored["kind"] == "MachineSet"
    assert {"/spec/replicas", "/spec/template/spec/providerSpec/value/ami"} <= set(ignored["jsonPointers"])


def test_gitops_has_an_owner_when_a_pull_request_touches_it() -> None:
    lines = (gitops.PROJECT / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    owned = {words[0]: words[1:] for words in (line.split() for line in lines if line and not line.startswith("#"))}
    assert owned["/gitops/"] and owned["/CODEOWNERS"]
    # The one file there that the retrain loop's bot changes.
    assert owned["/gitops/serving/environments/dev/model.env"] == []
