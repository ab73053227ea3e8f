"""The retrain's Pipeline: what it reads is declared and written, each Task is small, rights go to reviewed code."""

import re
import subprocess
from typing import Any

import pytest

from tests.contract.test_gitops_references import PLATFORMS
from tests.support import gitops
from tests.support.listener import tekton_program

PARAM = re.compile(r"\$\(params\.([\w-]+)\)")
RESULT = re.compile(r"\$\(tasks\.([\w-]+)\.results\.([\w-]+)\)")
#: Accounts whose Tasks run the code of PLATFORM_REVISION, because of what they may do.
TRUSTED = {
    "supervisor": "makes Pods, cancels runs",
    "sweeper": "makes and starts runs, has the Git token that writes",
    "pinner": "has the Git token that writes",
    "publisher": "writes models",
}
LINES = 14  # of a script; a longer one belongs into runner/


def of_kind(kind: str, platform: str = "openshift") -> dict[str, gitops.Manifest]:
    found = gitops.leaf(f"pipelines/overlays/{platform}").of_kind(kind)
    return {each["metadata"]["name"]: each for each in found}


PIPELINE: dict[str, Any] = of_kind("Pipeline")["retrain"]["spec"]
TASKS = of_kind("Task")
STEPS = [*PIPELINE["tasks"], *PIPELINE["finally"]]
CLAIMS = {step["name"]: each["value"] for step in STEPS for each in step.get("params", ()) if each["name"] == "claim"}
RUN: dict[str, Any] = of_kind("TriggerTemplate")["retrain"]["spec"]["resourcetemplates"][0]["spec"]


def account(name: str) -> str:
    own: dict[str, Any] = next((each for each in RUN["taskRunSpecs"] if each["pipelineTaskName"] == name), {})
    return str(own.get("serviceAccountName") or RUN["taskRunTemplate"]["serviceAccountName"])


def validated(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tekton_program(), "validate", "-"], input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_tekton_admits_the_objects_when_they_are_rendered(platform: str) -> None:
    text = gitops.render_text(gitops.GITOPS / f"pipelines/overlays/{platform}")
    done = validated(text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Tekton admits ")
    spoilt = validated(text.replace("operator: in\n", "operator: equals\n"))
    assert (spoilt.returncode, "Pipeline retrain: " in spoilt.stdout + spoilt.stderr) == (1, True)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step["name"]))
def test_a_task_is_given_what_it_declares_and_reads_what_is_there(step: dict[str, Any]) -> None:
    task = TASKS[step["taskRef"]["name"]]["spec"]
    assert sorted(each["name"] for each in step.get("params", [])) == sorted(each["name"] for each in task["params"])
    names = {each["name"]: each["taskRef"]["name"] for each in PIPELINE["tasks"]}
    assert set(step.get("runAfter", [])) <= names.keys()
    for other, result in RESULT.findall(str(step)):
        assert result in {each["name"] for each in TASKS[names[other]]["spec"]["results"]}
    assert set(PARAM.findall(str(step))) <= {each["name"] for each in PIPELINE["params"]}
    assert step["timeout"], "a run must have an end when something hangs"
    clone = task["steps"][0]
    assert clone["ref"] == {"name": "clone"}
    assert bool(clone.get("params")) == (account(step["name"]) not in TRUSTED)


def test_a_final_task_reads_no_result_when_one_may_be_missing() -> None:
    """Tekton would leave it out just when something failed."""
    assert not RESULT.findall(str(PIPELINE["finally"]))
    assert RUN["timeouts"].keys() == {"pipeline", "tasks"}  # so that there is time for the final ones


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_small_and_says_what_it_does(name: str) -> None:
    spec = TASKS[name]["spec"]
    described = [spec, *spec.get("params", []), *spec["results"]]
    assert all(each["description"].strip() for each in described)
    assert set(PARAM.findall(f"{spec['steps']} {spec['volumes']}")) == {each["name"] for each in spec.get("params", [])}
    assert [step["name"] for step in spec["steps"] if len(step.get("script", "").splitlines()) > LINES] == []
    settings = {each["name"]: each.get("value") for each in spec["stepTemplate"]["env"]}
    assert settings["RUNNER_RESULTS"] == "/tekton/results"  # a result is the file of its name there


def test_no_disk_is_shared_between_tasks_but_that_of_the_training() -> None:
    claims = {name: str(task["spec"]["volumes"]).count("persistentVolumeClaim") for name, task in TASKS.items()}
    assert {name for name, count in claims.items() if count} == {"train"}
    assert CLAIMS.keys() == {"train-gpu", "train-cpu"}
    assert sorted(CLAIMS.values()) == sorted(of_kind("PersistentVolumeClaim"))
    assert "workspaces" not in PIPELINE
    assert not any(task["spec"].get("workspaces") for task in TASKS.values())


def test_a_secret_is_given_to_the_task_that_uses_it_alone() -> None:
    texts = {name: str(task) for name, task in TASKS.items()}
    assert {name for name, text in texts.items() if "'key': 'token', 'name': 'git'" in text} == {"pin", "sweep"}
    assert {name for name, text in texts.items() if "store-publisher" in text} == {"publish", "pin", "summary", "sweep"}
    assert {name for name, text in texts.items() if "'key': 'status-token'" in text} == {"summary"}
    # The token of the cluster's API.
    mounts = {each["pipelineTaskName"]: each.get("podTemplate", {}) for each in RUN["taskRunSpecs"]}
    assert RUN["taskRunTemplate"]["podTemplate"]["automountServiceAccountToken"] is False
    mounted = {name for name, pod in mounts.items() if pod.get("automountServiceAccountToken")}
    assert mounted == {step["name"] for step in STEPS if account(step["name"]) in ("supervisor", "sweeper")}


def test_a_gpu_is_taken_on_any_node_when_one_offers_it() -> None:
    """GPU=fixed: such nodes have no label of ours. GPU=autoscaled: the autoscaler knows the GPU by its annotation.

    A zonal volume pulls its pods into its zone: the Pod that asks must be pulled too, or it says gpu in vain.
    """
    (machines,) = gitops.leaf("gpu/overlays/autoscaled").of_kind("MachineSet")
    assert machines["metadata"]["annotations"]["machine.openshift.io/GPU"] == "1"
    taints = {each["key"] for each in machines["spec"]["template"]["spec"]["taints"]}
    own = next(each for each in RUN["taskRunSpecs"] if each["pipelineTaskName"] == "train-gpu")
    probe = of_kind("PodTemplate")["gpu-probe"]["template"]["spec"]
    for pod in (own["podTemplate"], probe):
        assert not {"nodeSelector", "affinity"} & pod.keys()
        assert taints <= {each["key"] for each in pod["tolerations"]}
    (container,) = probe["containers"]
    for resources in (own["stepSpecs"][0]["computeResources"], container["resources"]):
        assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in probe["volumes"]] == [CLAIMS["train-gpu"]]
