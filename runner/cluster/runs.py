"""PipelineRuns of the retrain.

Fields: https://tekton.dev/docs/pipelines/pipelineruns/
"""

from __future__ import annotations

from runner.cluster.api import RUNS, TASK_RUNS, Cluster, Object

PIPELINE = "retrain"
OF_PIPELINE = f"flywheel/pipeline={PIPELINE}"  # set by the TriggerTemplate
CANCEL = "CancelledRunFinally"


def runs(cluster: Cluster) -> list[Object]:
    """Return all runs in the cluster, oldest first."""
    found: list[Object] = cluster.get(RUNS, labelSelector=OF_PIPELINE)["items"]
    return sorted(found, key=_age)


def older(all_runs: list[Object], name: str) -> list[Object]:
    """Return the unfinished runs that began before the named one."""
    names = [run["metadata"]["name"] for run in all_runs]
    before = all_runs[: names.index(name)] if name in names else all_runs
    return [run for run in before if not has_ended(run)]


def is_trial(run: Object) -> bool:
    """Whether a run has values of its own; such a model is published, never pinned."""
    params = {each["name"]: each["value"] for each in run["spec"].get("params", [])}
    return bool(params.get("overrides", "[]") != "[]")


def has_ended(run: Object) -> bool:
    """Whether a run is over, with success or not."""
    return any(
        each["type"] == "Succeeded" and each["status"] != "Unknown"
        for each in run.get("status", {}).get("conditions", [])
    )


def has_begun(run: Object, task: str) -> bool:
    """Whether a run has started one of its Tasks."""
    children = run.get("status", {}).get("childReferences", [])
    return any(child.get("pipelineTaskName") == task for child in children)


def task_runs(cluster: Cluster, run: str) -> list[Object]:
    """Return the TaskRuns of a run, by start time."""
    found: list[Object] = cluster.get(TASK_RUNS, labelSelector=f"tekton.dev/pipelineRun={run}")["items"]
    return sorted(found, key=lambda each: each.get("status", {}).get("startTime") or "~")


def task_of(task_run: Object) -> str:
    """Return the Pipeline's Task that a TaskRun belongs to."""
    return str(task_run["metadata"]["labels"]["tekton.dev/pipelineTask"])


def results_of(task_run: Object) -> dict[str, str]:
    """Return the results of a TaskRun; a failed one may have some too."""
    return {each["name"]: str(each["value"]).strip() for each in task_run.get("status", {}).get("results", [])}


def _age(run: Object) -> tuple[str, str]:
    return run["metadata"]["creationTimestamp"], run["metadata"]["name"]
