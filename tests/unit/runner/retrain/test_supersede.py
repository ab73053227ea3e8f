import re
from typing import Any

import pytest

from runner.cluster.api import Cluster
from runner.cluster.kubectl import Object
from runner.cluster.runs import CANCEL
from runner.errors import ClusterError
from runner.retrain.supersede import supersede

ENDED = {"conditions": [{"type": "Succeeded", "status": "False"}]}


class Polls(Cluster):
    """Shows the runs of each poll in turn, the last again and again; `cancelled` are the runs that were patched."""

    def __init__(self, *polls: list[Object]) -> None:
        self.polls, self.cancelled = list(polls), list[str]()

    def get(self, path: str, **query: str) -> Object:
        return {"items": self.polls.pop(0) if len(self.polls) > 1 else self.polls[0]}

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


THIS = run(30, "this")
PUBLISHING = run(1, "first", "gate", "publish")
PUBLISHED = run(1, "first", "gate", "publish", ended=True)


@pytest.mark.parametrize(
    ("polls", "cancelled", "said"),
    [
        ([[PUBLISHED, THIS, run(31, "newer")]], [], []),
        (
            [
                [run(1, "first", "train-gpu"), run(2, "second"), THIS],
                [run(1, "first", "train-gpu", status=CANCEL), run(2, "second", ended=True), THIS],
                [run(1, "first", "train-gpu", ended=True), run(2, "second", ended=True), THIS],
            ],
            ["first", "second"],
            ["first.*second", "first"],
        ),
        ([[PUBLISHING, THIS], [PUBLISHING, THIS], [PUBLISHED, THIS]], [], ["first.* publishes"]),
        ([[run(1, "trial", "train-gpu", overrides='["train.epochs=3"]'), THIS]], [], []),
    ],
    ids=["no older run", "older runs", "an older run that publishes", "a trial"],
)
def test_older_runs_are_cancelled_once_unless_they_publish_and_waited_for(
    capsys: pytest.CaptureFixture[str], polls: list[list[Object]], cancelled: list[str], said: list[str]
) -> None:
    cluster = Polls(*polls)
    assert supersede(cluster, "this", lambda: "", patience_s=10, pause_s=0.01) == ""
    assert cluster.cancelled == cancelled
    lines = capsys.readouterr().out.splitlines()
    assert all(re.search(pattern, line) for pattern, line in zip(said, lines, strict=True))


def test_refused_when_an_older_run_does_not_end() -> None:
    with pytest.raises(ClusterError, match="first"):
        supersede(Polls([PUBLISHING, THIS]), "this", lambda: "", patience_s=0.05, pause_s=0.01)


def test_nothing_is_cancelled_when_a_newer_commit_supersedes_this_run() -> None:
    cluster = Polls([run(1, "of-the-newer", "train-gpu"), THIS])
    assert supersede(cluster, "this", lambda: "superseded by 1a2b3c4 x", pause_s=0.01) == "superseded by 1a2b3c4 x"
    assert not cluster.cancelled
