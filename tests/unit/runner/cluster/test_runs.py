"""Runs and the outcomes of their Tasks, read from objects as Tekton writes them."""

from typing import Any

import pytest

from runner.cluster.api import Cluster
from runner.cluster.kubectl import Object
from runner.cluster.runs import TaskOutcome, condition, outcomes_of

TIMES = {"startTime": "2026-11-25T10:00:00Z", "completionTime": "2026-11-25T10:01:30Z"}


class Listed(Cluster):
    """A cluster that has these TaskRuns."""

    def __init__(self, *task_runs: Object) -> None:
        self.task_runs = task_runs

    def get(self, path: str, **query: str) -> Object:
        assert query == {"labelSelector": "tekton.dev/pipelineRun=retrain-abc"}
        return {"items": list(self.task_runs)}


def task_run(name: str, status: str = "", reason: str = "", **more: Any) -> Object:
    conditions = [{"type": "Other", "status": "True"}, {"type": "Succeeded", "status": status, "reason": reason}]
    labels = {"tekton.dev/pipelineTask": name}
    return {"metadata": {"labels": labels}, "status": ({"conditions": conditions} if status else {}) | more}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            task_run("plan", "True", **TIMES, results=[{"name": "answer", "type": "string", "value": "train\n"}]),
            TaskOutcome("plan", "done", 90.0, {"answer": "train"}),
        ),
        (task_run("prepare", "False", "TaskRunCancelled", **TIMES), TaskOutcome("prepare", "cancelled", 90.0, {})),
        (task_run("train-gpu", "False", "TaskRunTimeout"), TaskOutcome("train-gpu", "timed out", None, {})),
        (
            task_run("gate", "False", "Failed", startTime="?", completionTime="?"),
            TaskOutcome("gate", "failed", None, {}),
        ),
        (task_run("publish", "Unknown", "Running"), TaskOutcome("publish", "running", None, {})),
        (task_run("pin"), TaskOutcome("pin", "running", None, {})),
    ],
)
def test_an_outcome_is_that_of_the_task_run(given: Object, expected: TaskOutcome) -> None:
    assert outcomes_of(Listed(given), "retrain-abc") == [expected]


def test_outcomes_stand_in_their_order_without_the_summary() -> None:
    later = {"startTime": "2026-11-25T10:05:00Z"}
    given = [task_run("summary", **TIMES), task_run("queued"), task_run("gate", **later), task_run("plan", **TIMES)]
    assert [task.name for task in outcomes_of(Listed(*given), "retrain-abc")] == ["plan", "gate", "queued"]


@pytest.mark.parametrize("status", [{}, {"status": None}, {"status": {"conditions": None}}])
def test_the_end_is_unknown_when_tekton_has_not_begun(status: Object) -> None:
    assert condition(status) == {"status": "Unknown"}
