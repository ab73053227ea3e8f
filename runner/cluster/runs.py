"""PipelineRuns and TaskRuns of the retrain.

Fields: https://tekton.dev/docs/pipelines/pipelineruns/
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from runner.cluster.api import RUNS, TASK_RUNS, Cluster
from runner.cluster.kubectl import Object

PIPELINE = "retrain"
OF_PIPELINE = f"flywheel/pipeline={PIPELINE}"  # set by the TriggerTemplate
CANCEL = "CancelledRunFinally"
PENDING = "PipelineRunPending"
SWEEP_STEP = "sweep"  # the Task that ends a trial of a sweep
FINAL = ("summary", SWEEP_STEP)  # Tasks that tell the run's outcome


class TaskOutcome(NamedTuple):
    """Outcome of a Task of a run."""

    name: str  # in the Pipeline
    state: str  # done, failed, cancelled, timed out or running
    seconds: float | None  # duration; None when unknown
    results: Mapping[str, str]  # also those of a failed Task


def runs(cluster: Cluster) -> list[Object]:
    """Return all runs in the cluster, oldest first."""
    found: list[Object] = cluster.get(RUNS, labelSelector=OF_PIPELINE)["items"]
    return sorted(found, key=lambda run: (run["metadata"]["creationTimestamp"], name_of(run)))


def older(all_runs: list[Object], name: str) -> list[Object]:
    """Return the unfinished runs that began before the named one."""
    names = [name_of(run) for run in all_runs]
    before = all_runs[: names.index(name)] if name in names else all_runs
    return [run for run in before if not has_ended(run)]


def name_of(run: Object) -> str:
    """Return a run's name."""
    return str(run["metadata"]["name"])


def param_of(run: Object, name: str) -> str:
    """Return a param of a run; empty when it has none of this name."""
    return next((str(each["value"]) for each in run["spec"].get("params", []) if each["name"] == name), "")


def is_trial(run: Object) -> bool:
    """Whether a run has values of its own; its model is never pinned, and in a sweep not published either."""
    return param_of(run, "overrides") not in ("", "[]")


def is_pending(run: Object) -> bool:
    """Whether a run waits in the queue of sweeps, and was not cancelled there."""
    return bool(run["spec"].get("status") == PENDING)


def begun(run: Object) -> set[str]:
    """Return the Tasks of the Pipeline that a run has started."""
    return {str(child.get("pipelineTaskName")) for child in (run.get("status") or {}).get("childReferences", [])}


def condition(run: Object) -> dict[str, str]:
    """Return the condition of a PipelineRun or TaskRun; its `status` is True, False or, until it ends, Unknown."""
    conditions = (run.get("status") or {}).get("conditions") or []
    return {"status": "Unknown", **next((each for each in conditions if each["type"] == "Succeeded"), {})}


def has_ended(run: Object) -> bool:
    """Whether a run is over, with success or not."""
    return condition(run)["status"] != "Unknown"


def outcomes_of(cluster: Cluster, run: str) -> list[TaskOutcome]:
    """Return the outcomes of a run's Tasks that have begun, but for the final ones, by start time."""
    found: list[Object] = cluster.get(TASK_RUNS, labelSelector=f"tekton.dev/pipelineRun={run}")["items"]
    found.sort(key=lambda each: each.get("status", {}).get("startTime") or "~")
    return [task for each in found if (task := _outcome(each)).name not in FINAL]


def _outcome(task_run: Object) -> TaskOutcome:
    status, last = task_run.get("status", {}), condition(task_run)
    ended_badly = {"TaskRunCancelled": "cancelled", "TaskRunTimeout": "timed out"}.get(last.get("reason", ""), "failed")
    state = {"True": "done", "Unknown": "running"}.get(last["status"], ended_badly)
    try:
        start, end = (datetime.fromisoformat(status[key]) for key in ("startTime", "completionTime"))
        seconds = (end - start).total_seconds()
    except (KeyError, ValueError):
        seconds = None
    results = {each["name"]: str(each["value"]).strip() for each in status.get("results", [])}
    return TaskOutcome(task_run["metadata"]["labels"]["tekton.dev/pipelineTask"], state, seconds, results)
