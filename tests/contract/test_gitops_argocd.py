"""Argo CD may do what it must and no more, in the right order, and takes nothing away that people would miss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import gitops

PLATFORMS = ("openshift", "kubernetes")
WRITE = ["create", "update", "patch", "delete"]
ROUTE_HOST = ("route.openshift.io", "routes/custom-host")  # a Route may name its host: a right of its own, not a kind
CONTROLLERS = {  # namespace and ServiceAccount of Argo CD's controller
    "openshift": ("flywheel-gitops", "flywheel-argocd-application-controller"),
    "kubernetes": ("argocd", "argocd-application-controller"),
}
Kind = tuple[str, str]  # group, kind


def group_of(obj: gitops.Manifest) -> str:
    return str(obj["apiVersion"].rpartition("/")[0])


def plural(kind: str) -> str:
    """Return the resource of a kind, as English and Kubernetes form it."""
    name = kind.lower()
    return name[:-1] + "ies" if name.endswith("y") else name + "es" if name.endswith(("s", "x", "ch")) else name + "s"


def objects_of(project: str) -> Iterator[tuple[str, gitops.Manifest]]:
    """Yield what the Applications of a project apply, on any platform, with the leaf that holds it."""
    paths = {path for platform in PLATFORMS for path, its in gitops.applied(platform).items() if its == project}
    for path in sorted(paths):
        for obj in gitops.leaf(path).objects:
            yield path, obj


def project(name: str, platform: str = "openshift") -> dict[str, Any]:
    found = gitops.leaf(f"argocd/overlays/{platform}").of_kind("AppProject")
    spec: dict[str, Any] = next(obj for obj in found if obj["metadata"]["name"] == name)["spec"]
    return spec


def allowed(name: str, field: str) -> set[Kind]:
    return {(item["group"], item["kind"]) for item in project(name)[field]}


@pytest.mark.parametrize(
    ("kind", "expected"), [("NetworkPolicy", "networkpolicies"), ("Ingress", "ingresses"), ("Job", "jobs")]
)
def test_a_resource_is_named_when_its_kind_is_given(kind: str, expected: str) -> None:
    assert plural(kind) == expected


@pytest.mark.parametrize("name", ["flywheel-platform", "flywheel-detector"])
def test_the_kinds_of_a_project_are_those_it_applies(name: str) -> None:
    kinds = {(group_of(obj), obj["kind"], gitops.is_cluster_wide(obj)) for _, obj in objects_of(name)}
    assert allowed(name, "clusterResourceWhitelist") == {kind[:2] for kind in kinds if kind[2]}
    assert allowed(name, "namespaceResourceWhitelist") == {kind[:2] for kind in kinds if not kind[2]}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", ["flywheel-platform", "flywheel-detector"])
def test_the_namespaces_of_a_project_are_those_it_applies_to(name: str, platform: str) -> None:
    paths = [path for path, its in gitops.applied(platform).items() if its == name]
    there = {obj["metadata"].get("namespace") for path in paths for obj in gitops.leaf(path).objects} - {None}
    there |= {
        application["spec"]["destination"]["namespace"]
        for application in gitops.applications(platform)
        if application["spec"]["project"] == name
    }
    destinations = project(name, platform)["destinations"]
    assert {item["server"] for item in destinations} == {"https://kubernetes.default.svc"}
    assert there <= {item["namespace"] for item in destinations}
    if platform == "openshift":
        elsewhere = {"cert-manager"} if name == "flywheel-platform" else set()
        assert {item["namespace"] for item in destinations} - there == elsewhere


def test_the_default_project_allows_nothing_when_the_argocd_is_ours() -> None:
    spec = project("default")
    assert spec == {"sourceRepos": [], "destinations": [], "clusterResourceWhitelist": []}


def test_the_default_project_is_left_alone_when_argocd_is_other_peoples() -> None:
    for path in gitops.applied("kubernetes"):
        assert "default" not in {obj["metadata"]["name"] for obj in gitops.leaf(path).of_kind("AppProject")}


Right = tuple[str, str, str]  # namespace (`*`: any), group, resource


def rules_of(obj: gitops.Manifest, verb: str) -> Iterator[tuple[str, str]]:
    """Yield group and resource of what a Role or ClusterRole allows with a verb."""
    for rule in obj["rules"]:
        if verb in rule["verbs"] and "resourceNames" not in rule:
            yield from ((group, resource) for group in rule["apiGroups"] for resource in rule["resources"])


def held(platform: str, verb: str) -> set[Right]:
    """Return what bootstrap lets the controller do, over all of its bindings."""
    leaf = gitops.leaf(f"bootstrap/root/overlays/{platform}")
    roles = {
        (obj["metadata"].get("namespace"), obj["metadata"]["name"]): obj for obj in leaf.of_kind("Role", "ClusterRole")
    }
    found = set[Right]()
    for obj in leaf.of_kind("RoleBinding", "ClusterRoleBinding"):
        if CONTROLLERS[platform] not in [(each["namespace"], each["name"]) for each in obj["subjects"]]:
            continue
        where = obj["metadata"].get("namespace")
        role = roles[where if obj["roleRef"]["kind"] == "Role" else None, obj["roleRef"]["name"]]
        found |= {(where or "*", *right) for right in rules_of(role, verb)}
    return found


def needed(platform: str) -> set[Right]:
    """Return the kinds that the Applications of a platform apply, with the namespace of each."""
    paths = [path for path, its in gitops.applied(platform).items() if its]
    objects = [obj for path in paths for obj in gitops.leaf(path).objects]
    return {
        ("*" if gitops.is_cluster_wide(obj) else obj["metadata"]["namespace"], group_of(obj), plural(obj["kind"]))
        for obj in objects
    }


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_controller_may_write_all_that_its_applications_apply(platform: str) -> None:
    """In Argo CD's namespace a Role of upstream's manifests, or of the operator, gives the kinds of argoproj.io."""
    own = CONTROLLERS[platform][0]
    wanted = {right for right in needed(platform) if right[0] != own}
    for verb in WRITE:
        may = held(platform, verb)
        lacking = {right for right in wanted if right not in may and ("*", *right[1:]) not in may}
        assert sorted(lacking) == [], verb
    assert all(group == "argoproj.io" for namespace, group, _ in needed(platform) if namespace == own)


def test_the_controller_may_write_nothing_else() -> None:
    ours = {right[1:] for platform in PLATFORMS for right in needed(platform) if right[0].startswith("flywheel-")}
    ours = {(group, resource) for group, resource in ours if group != "argoproj.io"}
    work = {right for verb in WRITE for right in rules_of(of_name("flywheel-argocd-work"), verb)}
    serve = {right for verb in WRITE for right in rules_of(of_name("flywheel-argocd-serve"), verb)}
    assert (work | serve) - {ROUTE_HOST} == ours
    both = allowed("flywheel-detector", "namespaceResourceWhitelist")
    assert serve - {ROUTE_HOST} == {(group, plural(kind)) for group, kind in both}
    anywhere = {right for verb in WRITE for right in rules_of(of_name("flywheel-argocd-apply"), verb)}
    elsewhere = {right[1:] for platform in PLATFORMS for right in needed(platform) if right[0] not in bound_anywhere()}
    assert anywhere == elsewhere - {right for right in elsewhere if right[0] == "argoproj.io"}


def test_nothing_that_runs_a_pod_may_be_written_outside_of_our_namespaces() -> None:
    """Or the controller could run as any account of any namespace, a cluster administrator's too."""
    for platform in PLATFORMS:
        for verb in WRITE:
            for namespace, group, resource in held(platform, verb):
                runs = group in ("", "apps", "batch", "tekton.dev") and resource not in ("namespaces", "configmaps")
                grants = group == "rbac.authorization.k8s.io"
                assert namespace.startswith("flywheel-") or not (runs or grants), (namespace, group, resource)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_controller_sees_every_kind_that_it_applies_but_no_secret(platform: str) -> None:
    """Argo CD watches whole clusters: a kind that it may list in some namespaces alone is no longer pruned."""
    for verb in ("get", "list", "watch"):
        seen = held(platform, verb)
        assert sorted(right for right in needed(platform) if ("*", *right[1:]) not in seen) == []
        assert not [right for right in seen if right[2] == "secrets"]


def of_name(name: str) -> gitops.Manifest:
    roles = gitops.leaf("bootstrap/root/overlays/openshift").of_kind("ClusterRole")
    return next(role for role in roles if role["metadata"]["name"] == name)


def bound_anywhere() -> set[str]:
    """Return the namespaces in which a RoleBinding gives the controller what it writes there, and Argo CD's own."""
    leaves = [gitops.leaf(f"bootstrap/root/overlays/{platform}") for platform in PLATFORMS]
    found = {obj["metadata"]["namespace"] for leaf in leaves for obj in leaf.of_kind("RoleBinding")}
    return found | {namespace for namespace, _ in CONTROLLERS.values()}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_kinds_that_may_not_be_listed_are_left_out_when_argocd_watches(platform: str) -> None:
    """Else one Forbidden stops every Application: Argo CD reads the whole cluster first."""
    objects = gitops.leaf(f"bootstrap/root/overlays/{platform}").objects
    settings = next(
        obj for obj in objects if obj["kind"] == {"openshift": "ArgoCD", "kubernetes": "ConfigMap"}[platform]
    )
    if platform == "kubernetes":
        assert settings["data"]["resource.respectRBAC"] == "normal"
    else:
        assert settings["spec"]["controller"]["respectRBAC"] == "normal"
        assert settings["spec"]["defaultClusterScopedRoleDisabled"] is True


def test_the_operator_lets_our_argocd_manage_the_cluster() -> None:
    (subscription,) = gitops.leaf("bootstrap/operator").of_kind("Subscription")
    (argocd,) = gitops.leaf("bootstrap/root/overlays/openshift").of_kind("ArgoCD")
    settings = {each["name"]: each["value"] for each in subscription["spec"]["config"]["env"]}
    assert argocd["metadata"]["namespace"] in settings["ARGOCD_CLUSTER_CONFIG_NAMESPACES"].split(",")
    assert CONTROLLERS["openshift"] == (
        argocd["metadata"]["namespace"],
        f"{argocd['metadata']['name']}-argocd-application-controller",
    )


def test_the_controller_may_grant_what_our_roles_grant_and_no_more() -> None:
    def single(rule: dict[str, Any]) -> set[tuple[str, str, str, str]]:
        names = rule.get("resourceNames", [""])
        return {
            (g, r, v, n) for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"] for n in names
        }

    roles = [obj for path, obj in objects_of("flywheel-platform") if obj["kind"] in ("Role", "ClusterRole")]
    needed = {one for role in roles for rule in role["rules"] for one in single(rule)}
    held = {one for rule in rights("flywheel-argocd-grant") for one in single(rule)}
    assert held == needed
    assert bound("flywheel-argocd-grant") >= {role["metadata"]["namespace"] for role in roles if role["kind"] == "Role"}


def test_the_controller_may_bind_roles_that_are_not_ours_by_name_and_where_we_do() -> None:
    bindings = [obj for _, obj in objects_of("flywheel-platform") if obj["kind"] == "RoleBinding"]
    others = [obj for obj in bindings if obj["roleRef"]["kind"] == "ClusterRole"]
    (rule,) = rights("flywheel-argocd-pull")
    assert (rule["resources"], rule["verbs"]) == (["clusterroles"], ["bind"])
    assert set(rule["resourceNames"]) == {obj["roleRef"]["name"] for obj in others}
    assert bound("flywheel-argocd-pull") == {obj["metadata"]["namespace"] for obj in others}


def test_the_controller_may_serve_in_the_namespaces_of_project_detector_alone() -> None:
    assert bound("flywheel-argocd-serve") == {
        item["namespace"] for item in project("flywheel-detector")["destinations"]
    }


def bound(role: str) -> set[str]:
    bindings = gitops.leaf("bootstrap/root/overlays/openshift").of_kind("RoleBinding")
    return {obj["metadata"]["namespace"] for obj in bindings if obj["roleRef"]["name"] == role}


def rights(name: str) -> list[dict[str, Any]]:
    roles = gitops.leaf("bootstrap/root/overlays/openshift").of_kind("ClusterRole")
    rules: list[dict[str, Any]] = next(role for role in roles if role["metadata"]["name"] == name)["rules"]
    return rules


def test_rights_and_root_are_not_the_controllers_to_change() -> None:
    """What it applies by itself must not widen what it may do."""
    for platform in PLATFORMS:
        objects = gitops.leaf(f"argocd/overlays/{platform}").objects
        assert {obj["kind"] for obj in objects} == {"AppProject", "Application", "ApplicationSet"}
        assert "flywheel-root" not in {obj["metadata"]["name"] for obj in objects}


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
    found = gitops.leaf(f"argocd/overlays/{platform}").of_kind("Application", "ApplicationSet")
    wave = {
        obj["metadata"]["name"].removeprefix("flywheel-"): int(
            obj["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]
        )
        for obj in found
    }
    order = [("namespaces", "credentials"), ("credentials", "minio"), ("minio", "label-studio"), ("minio", "serving")]
    if platform == "openshift":
        order += [("nfd-operator", "nfd"), ("nfd", "gpu-policy"), ("gpu-operator", "gpu-policy")]
        order += [
            ("pipelines-operator", "pipelines"),
            ("gpu-policy", "gpu"),
        ]
        order += [("builds", "credentials")]
    else:
        order += [("internal-ca", "minio")]
    assert [(first, then) for first, then in order if wave[first] >= wave[then]] == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_health_of_an_application_is_known_when_waves_wait_for_it(platform: str) -> None:
    """Argo CD's own check of Applications is gone since 1.8; without one, a wave does not wait for the one before."""
    objects = gitops.leaf(f"bootstrap/root/overlays/{platform}").objects
    text = "\n".join(gitops.strings([obj for obj in objects if obj["kind"] in ("ArgoCD", "ConfigMap")]))
    assert "hs.status = obj.status.health.status" in text


@pytest.mark.parametrize("kind", ["Namespace", "PersistentVolumeClaim", "ArgoCD"])
def test_it_stays_when_it_is_no_longer_in_git(kind: str) -> None:
    found = [obj for leaf in gitops.leaves() for obj in leaf.of_kind(kind)]
    assert found
    for obj in found:
        options = obj["metadata"]["annotations"]["argocd.argoproj.io/sync-options"].split(",")
        assert {"Prune=false", "Delete=false"} <= set(options), obj["metadata"]["name"]


def test_the_default_project_stays_when_it_is_no_longer_in_git() -> None:
    """Argo CD makes it at a start alone, and an Application whose project is gone syncs no more."""
    found = gitops.leaf("argocd/overlays/openshift").of_kind("AppProject")
    (default,) = (obj for obj in found if obj["metadata"]["name"] == "default")
    assert default["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"


def test_what_the_cluster_writes_is_left_when_a_machine_set_differs() -> None:
    gpu = next(one for one in gitops.applications("openshift") if one["metadata"]["name"] == "flywheel-gpu")
    (ignored,) = gpu["spec"]["ignoreDifferences"]
    assert ignored["kind"] == "MachineSet"
    assert {"/spec/replicas", "/spec/template/spec/providerSpec/value/ami"} <= set(ignored["jsonPointers"])


#: Objects of which a cluster has one, with that name; whoever has one already leaves ours out.
ONE_ALONE = {
    *("ArgoCD", "ClusterAutoscaler", "ClusterPolicy", "NodeFeatureDiscovery", "OperatorGroup", "Subscription"),
    *("Namespace/nvidia-gpu-operator", "Namespace/openshift-gitops-operator", "Namespace/openshift-nfd"),
    *("AppProject/default", "ConfigMap/argocd-cm"),
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_object_says_whose_it_is_when_it_lies_among_others(platform: str) -> None:
    for path in gitops.applied(platform):
        for obj in gitops.leaf(path).objects:
            kind, name = obj["kind"], obj["metadata"]["name"]
            namespace = obj["metadata"].get("namespace", "")
            shared = not namespace.startswith("flywheel-") or namespace == "flywheel-gitops"
            if shared and not {kind, f"{kind}/{name}"} & ONE_ALONE:
                assert name.startswith("flywheel-"), f"{path}: {kind} {name}"
            if f"{kind}/{name}" != "ConfigMap/argocd-cm":
                assert (
                    obj["metadata"]["labels"]["app.kubernetes.io/part-of"] == "flywheel"
                )  # bootstrap knows ours by it


def test_no_pipeline_run_stands_in_gitops_when_argocd_leaves_those_alone() -> None:
    assert not [obj for leaf in gitops.leaves() for obj in leaf.of_kind("PipelineRun", "TaskRun")]


def test_a_gpu_node_comes_from_zero_and_goes_when_the_autoscaler_counts_it() -> None:
    objects = {obj["kind"]: obj for obj in gitops.leaf("gpu/overlays/autoscaled").objects}
    machines, template = objects["MachineSet"], objects["MachineSet"]["spec"]["template"]
    label = template["spec"]["metadata"]["labels"]["cluster-api/accelerator"]
    (gpus,) = objects["ClusterAutoscaler"]["spec"]["resourceLimits"]["gpus"]
    assert (gpus["type"], gpus["min"], gpus["max"]) == (label, 0, 1)
    expected = machines["metadata"]["annotations"]["capacity.cluster-autoscaler.kubernetes.io/labels"]
    assert f"cluster-api/accelerator={label}" in expected.split(",")
    assert machines["spec"]["replicas"] == 0
    assert machines["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert {"key": "nvidia.com/gpu", "effect": "NoSchedule"} in template["spec"]["taints"]
    scaler = objects["MachineAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (0, 1)
    assert scaler["scaleTargetRef"]["name"] == machines["metadata"]["name"]
    down = objects["ClusterAutoscaler"]["spec"]["scaleDown"]
    assert (down["enabled"], down["unneededTime"]) == (True, "10m")
    (quota,) = gitops.leaf("gpu/overlays/none").of_kind("ResourceQuota")
    assert quota["spec"]["hard"] == {"requests.nvidia.com/gpu": "0"}


def test_gitops_has_an_owner_when_a_pull_request_touches_it() -> None:
    lines = (gitops.PROJECT / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    owned = {words[0]: words[1:] for words in (line.split() for line in lines if line and not line.startswith("#"))}
    assert owned["/gitops/"] and owned["/CODEOWNERS"]
    # The one file there that the retrain loop's bot changes.
    assert owned["/gitops/serving/environments/dev/model.env"] == []
