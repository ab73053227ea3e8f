import re
from collections.abc import Iterable, Iterator
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
        yield from (pod(job, leaf.path) for job in started_jobs(leaf.objects))


def started_jobs(objects: Iterable[gitops.Manifest]) -> Iterator[gitops.Manifest]:
    """Yield the Jobs that an EventListener makes."""
    for obj in objects:
        for trigger in obj["spec"]["triggers"] if obj["kind"] == "EventListener" else ():
            yield from trigger["template"].get("spec", {}).get("resourcetemplates", ())


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
TASKS = dict(tasks())
LISTED: list[dict[str, str]] = gitops.load(gitops.GITOPS / "images/kustomization.yaml")["images"]
every_pod = pytest.mark.parametrize("one", ALL.values(), ids=ALL)


def assert_confined(container: dict[str, Any]) -> None:
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False, container["name"]
    assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
    assert not {"runAsUser", "privileged"} & context.keys(), container["name"]


@every_pod
def test_no_privilege_is_left_when_a_pod_runs(one: Pod) -> None:
    of_pod = one.spec["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    # OpenShift gives the user and the group of volumes: fixed ones are refused by restricted-v2.
    given = {"runAsUser", "runAsGroup"} | (set() if "/kubernetes" in one.name else {"fsGroup"})
    assert not given & of_pod.keys()
    assert not {"hostNetwork", "hostPID", "hostIPC"} & one.spec.keys()
    assert not [volume["name"] for volume in one.spec.get("volumes", ()) if "hostPath" in volume]
    assert one.spec["automountServiceAccountToken"] is False
    assert one.spec["serviceAccountName"] != "default"
    for container in containers(one.spec):
        assert_confined(container)
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, container["name"]


def test_a_link_of_the_branch_leads_nowhere_when_a_pod_clones_it() -> None:
    """Whoever may push would choose a file of the pod, such as a token, that is then read as params.yaml."""
    scripts = [" ".join(each.get("args", ())) for one in ALL.values() for each in containers(one.spec)]
    cloning = [script for script in scripts if " clone " in script and "$BRANCH" in script]
    assert cloning and all("core.symlinks=false" in script for script in cloning)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_step_is_confined_when_a_task_runs(task: dict[str, Any]) -> None:
    for step in steps(task):
        assert_confined(step)
        assert step["securityContext"]["runAsNonRoot"] is True, step["name"]
        assert {"cpu", "memory"} <= step["computeResources"]["limits"].keys(), step["name"]
        assert "$(params" not in step.get("script", ""), f"{step['name']}: give it as env, a script is no template"


@every_pod
def test_a_pod_says_what_it_takes_and_how_it_is_and_all_that_it_mounts_is_there(one: Pod) -> None:
    serves = one.owner["kind"] in SERVES
    for container in containers(one.spec):
        for resources in (container["resources"]["requests"], container["resources"]["limits"]):
            assert {"cpu", "memory"} <= resources.keys(), container["name"]
        if serves and container in one.spec["containers"] and container.get("ports"):  # others take no requests
            assert {"readinessProbe", "livenessProbe"} <= container.keys(), container["name"]
    volumes = {volume["name"] for volume in one.spec.get("volumes", ())}
    volumes |= {claim["metadata"]["name"] for claim in one.owner["spec"].get("volumeClaimTemplates", ())}
    mounted = {mount["name"] for container in containers(one.spec) for mount in container.get("volumeMounts", ())}
    assert mounted == volumes
    if serves:
        selector = one.owner["spec"]["selector"]
        assert selector.keys() == {"matchLabels"}
        assert selector["matchLabels"].items() <= one.labels.items()


APPLIED_JOBS = [one for one in ALL.values() if one.owner["kind"] == "Job" and "$(" not in one.name]


@pytest.mark.parametrize("one", APPLIED_JOBS, ids=lambda one: one.name)
def test_a_job_can_run_again_when_argocd_syncs(one: Pod) -> None:
    """Jobs are immutable, so each sync makes a new one; one that hangs would hold the sync, and no commit mends it."""
    annotations = one.owner["metadata"]["annotations"]
    assert annotations["argocd.argoproj.io/hook"] in ("Sync", "PostSync", "PreSync")
    assert annotations["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation"
    assert 0 < one.owner["spec"]["activeDeadlineSeconds"] <= 1800


def named(images: list[dict[str, str]]) -> set[str]:
    return {f"{image['newName']}@{image['digest']}" for image in images}


def test_every_image_is_named_by_images_and_a_digest_when_a_pod_runs() -> None:
    own = (gitops.GPU_IMAGE, gitops.SEAWEEDFS_IMAGE)  # that people build
    known = named([*LISTED, *(yaml.safe_load(f"{{{image}}}") for image in own)])
    found = {container["image"] for one in ALL.values() for container in containers(one.spec)}
    found |= {step["image"] for task in TASKS.values() for step in steps(task)}
    assert found <= known
    assert [image for image in known if not DIGEST.fullmatch(image)] == []


def test_every_image_of_images_is_used_when_it_is_listed() -> None:
    bare = {
        image
        for path in gitops.GITOPS.rglob("*.yaml")
        for image in re.findall(r"\bimage: ([\w./-]+)", path.read_text(encoding="utf-8"))
    }
    assert {image["name"] for image in LISTED} <= bare


def test_our_images_are_held_by_a_workload_when_the_registry_is_pruned() -> None:
    """OpenShift's pruner counts pods and workloads, no Tasks (oc release-4.16, pkg/cli/admin/prune/imageprune)."""
    held = {
        container["image"]
        for one in ALL.values()
        if ("/openshift" in one.name and one.owner["kind"] != "Job") or "serving/" in one.name  # a Job may be gone
        for container in containers(one.spec)
    }
    assert named([image for image in LISTED if image["name"].startswith("flywheel-")]) <= held


def has_large_scratch(volumes: list[dict[str, Any]]) -> bool:
    """Whether one of the volumes may take 10 GiB or more of a node's own disk."""
    own = [volume["emptyDir"] for volume in volumes if "emptyDir" in volume]
    gib = [each["sizeLimit"].removesuffix("Gi") for each in own if each.get("medium") != "Memory"]
    return any(size.isdigit() and int(size) >= 10 for size in gib)


def test_a_pod_is_given_disk_when_it_has_large_scratch() -> None:
    """Or it is put on a node whose disk is full, and evicted. Tasks that only clone take a few MiB."""
    for one in ALL.values():
        if has_large_scratch(one.spec.get("volumes", [])):
            assert any("ephemeral-storage" in each["resources"]["requests"] for each in containers(one.spec)), one.name
    for name, task in TASKS.items():
        if name.rpartition("/")[2] in ("prepare", "train", "gate", "publish"):
            assert has_large_scratch(task["volumes"])
            requests = [step["computeResources"].get("requests", {}) for step in steps(task)]
            assert any("ephemeral-storage" in each for each in requests), name


@pytest.mark.parametrize("leaf", gitops.leaves(), ids=lambda leaf: leaf.path)
def test_one_object_alone_says_how_many_replicas_when_there_is_more_than_one(leaf: gitops.Leaf) -> None:
    """A budget that counts a single pod would never let a node drain; replicas beside an autoscaler undo its work."""
    scalers = {one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in leaf.of_kind("HorizontalPodAutoscaler")}
    owners = {one["metadata"]["name"]: one for one in leaf.of_kind(*SERVES)}
    for name in scalers:
        assert owners[name]["spec"].get("replicas", 0) == 0, name  # 0 is an empty pin
    for budget in leaf.of_kind("PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"].items()
        (name,) = (name for name, one in owners.items() if selector <= pod(one, leaf.path).labels.items())
        replicas = scalers[name]["minReplicas"] if name in scalers else owners[name]["spec"]["replicas"]
        assert replicas == 0 or replicas >= 2, name
