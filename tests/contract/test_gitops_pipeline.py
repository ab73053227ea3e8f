"""The retrain's Pipeline: what it reads is declared and written, each Task is small, rights go to reviewed code."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from tests.support import gitops
from tests.support.listener import tekton_program

PLATFORMS = ("openshift", "kubernetes")
RESULT = re.compile(r"\$\(tasks\.([\w-]+)\.results\.([\w-]+)\)")
#: Accounts whose Tasks run the code of PLATFORM_REVISION, because of what they may do.
TRUSTED = {"supervisor": "makes Pods, cancels runs", "pinner": "has the Git token that writes"}
LINES = 14  # of a script; a longer one belongs into runner/


def of_kind(kind: str, platform: str = "openshift") -> dict[str, gitops.Manifest]:
    found = gitops.leaf(f"pipelines/overlays/{platform}").of_kind(kind)
    return {each["metadata"]["name"]: each for each in found}


PIPELINE: dict[str, Any] = of_kind("Pipeline")["retrain"]["spec"]
TASKS = of_kind("Task")
STEPS = [*PIPELINE["tasks"], *PIPELINE["finally"]]
RUN: dict[str, Any] = of_kind("TriggerTemplate")["retrain"]["spec"]["resourcetemplates"][0]["spec"]


def account(name: str) -> str:
    own: dict[str, Any] = next((each for each in RUN["taskRunSpecs"] if each["pipelineTaskName"] == name), {})
    return str(own.get("serviceAccountName") or RUN["taskRunTemplate"]["serviceAccountName"])


@pytest.mark.parametrize("platform", PLATFORMS)
def test_tekton_admits_the_objects_when_they_are_rendered(platform: str) -> None:
    text = gitops.render_text(gitops.GITOPS / f"pipelines/overlays/{platform}")
    command = [str(tekton_program()), "validate", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Tekton admits 1\d objects", done.stdout)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("runAfter: [supersede]", "runAfter: [nobody]", "Pipeline retrain: .*nobody"),
        ("operator: in", "operator: equals", 'Pipeline retrain: .*operator "equals"'),
        ("timeout: 24h0m0s", "timeout: tomorrow", "time: invalid duration"),
    ],
)
def test_tekton_refuses_a_pipeline_when_it_is_spoilt(old: str, new: str, message: str) -> None:
    text = (gitops.GITOPS / "pipelines/base/pipeline.yaml").read_text(encoding="utf-8")
    assert old in text
    command = [str(tekton_program()), "validate", "-"]
    done = subprocess.run(command, input=text.replace(old, new), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(message, done.stdout + done.stderr, re.DOTALL), done.stdout + done.stderr


@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step["name"]))
def test_what_a_task_is_given_is_what_it_declares(step: dict[str, Any]) -> None:
    declared = TASKS[step["taskRef"]["name"]]["spec"].get("params", [])
    given = [each["name"] for each in step.get("params", [])]
    assert sorted(given) == sorted(each["name"] for each in declared)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step["name"]))
def test_what_is_read_is_declared_when_a_task_refers_to_another(step: dict[str, Any]) -> None:
    params = {each["name"] for each in PIPELINE["params"]}
    names = {each["name"]: each["taskRef"]["name"] for each in PIPELINE["tasks"]}
    assert set(step.get("runAfter", [])) <= names.keys()
    for task, result in RESULT.findall(str(step)):
        assert result in {each["name"] for each in TASKS[names[task]]["spec"]["results"]}
    assert set(re.findall(r"\$\(params\.([\w-]+)\)", str(step))) <= params


def test_a_final_task_reads_no_result_when_one_may_be_missing() -> None:
    """Tekton would leave it out just when something failed."""
    assert not RESULT.findall(str(PIPELINE["finally"]))


def test_every_run_has_an_end_when_something_hangs() -> None:
    assert all(step["timeout"] for step in STEPS)
    assert RUN["timeouts"].keys() == {"pipeline", "tasks"}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_small_and_says_what_it_does(name: str) -> None:
    spec = TASKS[name]["spec"]
    described = [spec, *spec.get("params", []), *spec["results"]]
    assert all(each["description"].strip() for each in described)
    read = set(re.findall(r"\$\(params\.([\w-]+)\)", f"{spec['steps']} {spec['volumes']}"))
    assert read == {each["name"] for each in spec.get("params", [])}
    for step in spec["steps"]:
        assert {"cpu", "memory"} <= step["computeResources"]["limits"].keys()
        script = step.get("script", "")
        assert "$(params." not in script, "a param reaches a script through the environment"
        assert len(script.splitlines()) <= LINES
    settings = {each["name"]: each.get("value") for each in spec["stepTemplate"]["env"]}
    assert settings["RUNNER_RESULTS"] == "/tekton/results"  # a result is the file of its name there


def test_no_disk_is_shared_between_tasks_but_that_of_the_training() -> None:
    claims = {name: str(task["spec"]["volumes"]).count("persistentVolumeClaim") for name, task in TASKS.items()}
    assert {name for name, count in claims.items() if count} == {"train"}
    given = {
        step["name"]: param["value"] for step in STEPS for param in step.get("params", []) if param["name"] == "claim"
    }
    assert given == {"train-gpu": "train-cache-gpu", "train-cpu": "train-cache-cpu"}
    assert set(given.values()) == of_kind("PersistentVolumeClaim").keys()
    assert "workspaces" not in PIPELINE
    assert not any(task["spec"].get("workspaces") for task in TASKS.values())


@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step["name"]))
def test_a_task_runs_reviewed_code_when_it_holds_rights(step: dict[str, Any]) -> None:
    clone = TASKS[step["taskRef"]["name"]]["spec"]["steps"][0]
    assert clone["ref"] == {"name": "clone"}
    assert bool(clone.get("params")) == (account(step["name"]) not in TRUSTED)


def test_the_token_that_writes_is_given_to_pin_alone() -> None:
    secrets = {name: re.findall(r"'key': '([\w-]+)', 'name': 'git'", str(task)) for name, task in TASKS.items()}
    assert {name for name, keys in secrets.items() if "token" in keys} == {"pin"}
    with_key = {name for name, task in TASKS.items() if "store-publisher" in str(task)}
    assert with_key == {"publish", "pin", "summary"}


def test_a_token_of_the_cluster_is_mounted_where_it_is_used_alone() -> None:
    assert RUN["taskRunTemplate"]["podTemplate"]["automountServiceAccountToken"] is False
    mounted = {
        each["pipelineTaskName"]
        for each in RUN["taskRunSpecs"]
        if each.get("podTemplate", {}).get("automountServiceAccountToken")
    }
    assert mounted == {step["name"] for step in STEPS if account(step["name"]) == "supervisor"}


def test_a_gpu_is_taken_on_any_node_when_one_offers_it() -> None:
    """GPU=fixed: such nodes have no label of ours. GPU=autoscaled: the autoscaler knows the GPU by its annotation."""
    (machines,) = gitops.leaf("gpu/overlays/autoscaled").of_kind("MachineSet")
    assert machines["metadata"]["annotations"]["machine.openshift.io/GPU"] == "1"
    taints = {each["key"] for each in machines["spec"]["template"]["spec"]["taints"]}
    own = next(each for each in RUN["taskRunSpecs"] if each["pipelineTaskName"] == "train-gpu")
    for pod in (own["podTemplate"], of_kind("PodTemplate")["gpu-probe"]["template"]["spec"]):
        assert not {"nodeSelector", "affinity"} & pod.keys()
        assert taints <= {each["key"] for each in pod["tolerations"]}
    assert own["stepSpecs"][0]["computeResources"]["limits"]["nvidia.com/gpu"] == "1"
    (probe,) = of_kind("PodTemplate")["gpu-probe"]["template"]["spec"]["containers"]
    assert probe["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_gpu_is_where_the_volume_of_the_training_is_when_a_pod_asks_for_one() -> None:
    """A zonal volume pulls its pods into its zone: the Pod that asks must be pulled too, or it says gpu in vain."""
    probe = of_kind("PodTemplate")["gpu-probe"]["template"]["spec"]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in probe["volumes"]]
    training = next(step for step in STEPS if step["name"] == "train-gpu")
    assert claims == [param["value"] for param in training["params"] if param["name"] == "claim"]
