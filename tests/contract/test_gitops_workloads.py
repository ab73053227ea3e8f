"""Every pod of gitops/ runs with no more than it needs, says how much that is, and whether it is well."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support import gitops

TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
SERVES = ("Deployment", "StatefulSet", "DaemonSet")
DIGEST = re.compile(r"[^@:]+(:[0-9]+)?(/[^@:]+)+@sha256:[0-9a-f]{64}")


class Pod(NamedTuple):
    """A pod's template, and whose it is."""

    name: str
    owner: gitops.Manifest
    labels: dict[str, str]
    spec: dict[str, Any]


def pod(owner: gitops.Manifest, path: str) -> Pod:
    template = owner
    for key in TEMPLATES[owner["kind"]]:
        template = template[key]
    name = f"{path}: {owner['kind']}/{owner['metadata']['name']}"
    return Pod(name, owner, template.get("metadata", {}).get("labels", {}), template["spec"])


def pods() -> Iterator[Pod]:
    for leaf in (*gitops.leaves(), *gitops.variants()):
        yield from (pod(owner, leaf.path) for owner in leaf.of_kind(*TEMPLATES))


def containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from spec.get("initContainers", ())
    yield from spec["containers"]


def steps(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what of a Tekton task runs as a container, with what its template gives each."""
    template = task.get("stepTemplate", {})
    for one in (*task.get("steps", ()), *task.get("sidecars", ())):
        if "ref" not in one:
            yield {**template, **one}


def tasks() -> Iterator[tuple[str, dict[str, Any]]]:
    for leaf in (*gitops.leaves(), *gitops.variants()):
        for obj in leaf.of_kind("Task"):
            yield f"{leaf.path}: Task/{obj['metadata']['name']}", obj["spec"]
        for obj in leaf.of_kind("Pipeline"):
            for one in (*obj["spec"]["tasks"], *obj["spec"].get("finally", ())):
                if "taskSpec" in one:
                    yield f"{leaf.path}: Pipeline/{obj['metadata']['name']}/{one['name']}", one["taskSpec"]


ALL = {one.name: one for one in pods()}
every_pod = pytest.mark.parametrize("name", ALL)


def test_there_are_pods_when_gitops_is_rendered() -> None:
    kinds = {one.owner["kind"] for one in ALL.values()}
    assert {"Deployment", "StatefulSet", "Job"} <= kinds
    assert list(steps({"steps": []})) == []


@every_pod
def test_no_privilege_is_left_when_a_pod_runs(name: str) -> None:
    spec = ALL[name].spec
    of_pod = spec["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    # OpenShift gives the user and the group of volumes: fixed ones are refused by restricted-v2.
    given = {"runAsUser", "runAsGroup"} | (set() if "/kubernetes" in name else {"fsGroup"})
    assert not given & of_pod.keys()
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert not [volume["name"] for volume in spec.get("volumes", ()) if "hostPath" in volume]
    for container in containers(spec):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, container["name"]
        assert context["readOnlyRootFilesystem"] is True, container["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert not {"runAsUser", "privileged"} & context.keys(), container["name"]


@every_pod
def test_a_pod_says_what_it_takes_when_it_is_scheduled(name: str) -> None:
    for container in containers(ALL[name].spec):
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), container["name"]
        assert {"cpu", "memory"} <= resources["limits"].keys(), container["name"]


@every_pod
def test_a_pod_says_how_it_is_when_it_serves(name: str) -> None:
    one = ALL[name]
    for container in one.spec["containers"] if one.owner["kind"] in SERVES else ():
        assert {"readinessProbe", "livenessProbe"} <= container.keys(), container["name"]


@every_pod
def test_no_token_is_mounted_when_a_pod_does_not_ask_for_one(name: str) -> None:
    assert ALL[name].spec["automountServiceAccountToken"] is False
    assert ALL[name].spec["serviceAccountName"] != "default"


@every_pod
def test_every_mount_has_a_volume_when_a_container_names_one(name: str) -> None:
    spec = ALL[name].spec
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    volumes |= {claim["metadata"]["name"] for claim in ALL[name].owner["spec"].get("volumeClaimTemplates", ())}
    mounted = {mount["name"] for container in containers(spec) for mount in container.get("volumeMounts", ())}
    assert mounted == volumes


@every_pod
def test_the_template_is_met_when_an_owner_selects_its_pods(name: str) -> None:
    one = ALL[name]
    if one.owner["kind"] in SERVES:
        selected = one.owner["spec"]["selector"]
        assert selected.keys() == {"matchLabels"}
        assert selected["matchLabels"].items() <= one.labels.items()


@pytest.mark.parametrize("name", [name for name, one in ALL.items() if one.owner["kind"] == "Job"])
def test_a_job_can_run_again_when_argocd_syncs(name: str) -> None:
    """Jobs are immutable, so each sync makes a new one; one that hangs would hold the sync, and no commit mends it."""
    job = ALL[name].owner
    annotations = job["metadata"]["annotations"]
    assert annotations["argocd.argoproj.io/hook"] in ("Sync", "PostSync", "PreSync")
    assert annotations["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation"
    assert 0 < job["spec"]["activeDeadlineSeconds"] <= 1800


def test_every_image_is_named_by_images_and_a_digest_when_a_pod_runs() -> None:
    listed = gitops.load(gitops.GITOPS / "images/kustomization.yaml")["images"]
    listed.append(yaml.safe_load(f"{{{gitops.GPU_IMAGE}}}"))  # people's own
    of_images = {f"{image['newName']}@{image['digest']}" for image in listed}
    found = {container["image"] for one in ALL.values() for container in containers(one.spec)}
    found |= {step["image"] for _, task in tasks() for step in steps(task)}
    assert found <= of_images
    assert [image for image in of_images if not DIGEST.fullmatch(image)] == []


def test_our_images_are_held_by_a_workload_when_the_registry_is_pruned() -> None:
    """OpenShift's pruner counts pods and workloads, no Tasks (oc release-4.16, pkg/cli/admin/prune/imageprune)."""
    listed = gitops.load(gitops.GITOPS / "images/kustomization.yaml")["images"]
    ours = {f"{image['newName']}@{image['digest']}" for image in listed if image["name"].startswith("flywheel-")}
    held = {
        container["image"]
        for one in ALL.values()
        if "/openshift" in one.name and one.owner["kind"] != "Job"  # a Job may be gone
        for container in containers(one.spec)
    }
    held |= {container["image"] for one in ALL.values() if "serving/" in one.name for container in containers(one.spec)}
    assert ours <= held


def scratch_of(volumes: list[dict[str, Any]]) -> list[str]:
    """Return the volumes that may take 10 GiB or more of a node's own disk."""
    sizes = {volume["name"]: volume["emptyDir"] for volume in volumes if "emptyDir" in volume}
    gib = {name: size["sizeLimit"].removesuffix("Gi") for name, size in sizes.items() if size.get("medium") != "Memory"}
    return [name for name, size in gib.items() if size.isdigit() and int(size) >= 10]


def test_a_pod_is_given_disk_when_it_has_large_scratch() -> None:
    """Or it is put on a node whose disk is full, and evicted. Tasks that only clone take a few MiB."""
    for one in ALL.values():
        if scratch_of(one.spec.get("volumes", [])):
            assert any("ephemeral-storage" in each["resources"]["requests"] for each in containers(one.spec)), one.name
    for name, task in tasks():
        if name.rpartition("/")[2] in ("prepare", "train", "gate", "publish"):
            assert scratch_of(task["volumes"])
            requests = [step["computeResources"].get("requests", {}) for step in steps(task)]
            assert any("ephemeral-storage" in each for each in requests), name


def test_every_image_of_images_is_used_when_it_is_listed() -> None:
    listed = gitops.load(gitops.GITOPS / "images/kustomization.yaml")["images"]
    bare = {
        item
        for path in gitops.GITOPS.rglob("*.yaml")
        for document in gitops.load_all(path)
        for item in images(document)
    }  # fmt: skip
    assert {image["name"] for image in listed} <= bare


def images(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("image"), str):
            yield value["image"]
        for item in value.values():
            yield from images(item)
    elif isinstance(value, list):
        for item in value:
            yield from images(item)


@pytest.mark.parametrize(("name", "task"), [*tasks(), ("none", {"steps": []})])
def test_a_step_is_confined_when_a_task_runs(name: str, task: dict[str, Any]) -> None:
    for step in steps(task):
        context = step["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, step["name"]
        assert context["runAsNonRoot"] is True, step["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, step["name"]
        assert {"cpu", "memory"} <= step["computeResources"]["limits"].keys(), step["name"]
        assert "$(params" not in step.get("script", ""), f"{step['name']}: give it as env, a script is no template"


def test_replicas_are_more_than_one_when_a_disruption_budget_counts_them() -> None:
    for leaf in gitops.leaves():
        for budget in leaf.of_kind("PodDisruptionBudget"):
            (owner,) = (
                one for one in leaf.of_kind(*SERVES)
                if budget["spec"]["selector"]["matchLabels"].items() <= pod(one, leaf.path).labels.items()
            )  # fmt: skip
            scaled = [one for one in leaf.of_kind("HorizontalPodAutoscaler") if one["spec"]["minReplicas"] >= 2]
            unpinned = owner["spec"].get("replicas") == 0
            assert scaled or unpinned or owner["spec"]["replicas"] >= 2, leaf.path


def test_no_replicas_are_given_when_an_autoscaler_sets_them() -> None:
    for leaf in gitops.leaves():
        for scaler in leaf.of_kind("HorizontalPodAutoscaler"):
            (owner,) = (
                one
                for one in leaf.of_kind("Deployment")
                if one["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"]
            )
            assert owner["spec"].get("replicas", 0) == 0, yaml.safe_dump(owner["spec"])  # 0 is an empty pin
