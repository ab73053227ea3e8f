"""The newest commit wins: which runs are cancelled, and which are waited for."""

from typing import Any

import pytest

from runner.cluster.api import Cluster
from runner.cluster.kubectl import Object
from runner.cluster.runs import CANCEL
from runner.errors import ClusterError
from runner.retrain.supersede import supersede

ENDED = {"conditions": [{"type": "Succeeded", "status": "False"}]}


class Looks(Cluster):
    """What each look at the runs shows, the last again and again; `cancelled` are the runs that were patched."""

    def __init__(self, *looks: list[Object]) -> None:
        self.looks, self.cancelled = list(looks), list[str]()

    def get(self, path: str, **query: str) -> Object:
        return {"items": self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]}

    def patch(self, path: str, content: Object) -> Object:
        assert content == {"spec": {"status": CANCEL}}
        self.cancelled.append(path.rpartition("/")[2])
        return content


def run(age: int, name: str, *tasks: str, ended: bool = False, status: str = "", **params: str) -> dict[str, Any]:
    """Return a PipelineRun that began at a second, and has started some Tasks."""
    children = [{"name": f"{name}-{task}", "pipelineTaskName": task} for task in tasks]
    listed = [{"name": key, "value": value} for key, value in ({"overrides": "[]"} | params).items()]
    return {
        "metadata": {"name": name, "creationTimestamp": f"2026-11-29T10:00:{age:02}Z"},
        "spec": {"params": listed} | ({"status": status} if status else {}),
        "status": {"childReferences": children} | (ENDED if ended else {}),
    }


MINE = run(30, "mine")


def leave(cluster: Cluster, newer: str = "", patience: float = 10) -> str:
    return supersede(cluster, "mine", lambda: newer, patience_s=patience, pause_s=0.01)


def test_nothing_is_touched_when_no_other_run_is_at_work() -> None:
    cluster = Looks([run(1, "old", "publish", ended=True), MINE, run(31, "new")])
    assert leave(cluster) == ""
    assert not cluster.cancelled


def test_older_runs_are_cancelled_once_when_they_have_not_begun_to_publish() -> None:
    cluster = Looks(
        [run(1, "first", "train-gpu"), run(2, "second"), MINE],
        [run(1, "first", "train-gpu", status=CANCEL), run(2, "second", ended=True), MINE],
        [run(1, "first", "train-gpu", ended=True), run(2, "second", ended=True), MINE],
    )
    assert leave(cluster) == ""
    assert cluster.cancelled == ["first", "second"]


def test_an_older_run_is_waited_for_when_it_publishes(capsys: pytest.CaptureFixture[str]) -> None:
    publishing = run(1, "first", "gate", "publish")
    cluster = Looks([publishing, MINE], [publishing, MINE], [run(1, "first", "publish", ended=True), MINE])
    assert leave(cluster) == ""
    assert not cluster.cancelled
    assert capsys.readouterr().out == "waiting for first, which is older and publishes (0 s)\n"


def test_refused_when_an_older_run_does_not_end() -> None:
    with pytest.raises(ClusterError, match="first"):
        leave(Looks([run(1, "first", "publish"), MINE]), patience=0.05)


def test_nothing_is_cancelled_when_a_newer_commit_takes_the_place_of_this_one() -> None:
    cluster = Looks([run(1, "of-the-newer", "train-gpu"), MINE])
    assert leave(cluster, "superseded by 1a2b3c4 x") == "superseded by 1a2b3c4 x"
    assert not cluster.cancelled


def test_a_trial_goes_on_when_a_push_comes() -> None:
    cluster = Looks([run(1, "trial", "train-gpu", overrides='["train.epochs=3"]'), MINE])
    assert leave(cluster, patience=0.05) == ""
    assert not cluster.cancelled
