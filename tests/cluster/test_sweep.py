"""A sweep of two trials: pending runs under Tekton's controller, the table in the store, the best one's proposal."""

import json
import re

import pytest

from tests.cluster.desk import Desk, items, versions
from tests.cluster.gitea import REPOSITORY
from tests.cluster.runs import NAMESPACE, ended, log, pins, tasks
from tests.cluster.test_retrain import open_pulls, read

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def waiting(sweep: str) -> list[str]:
    """Return the trials that wait in the queue."""
    found = items("pipelineruns", NAMESPACE, f"--selector=flywheel/sweep={sweep}")
    return [each["metadata"]["name"] for each in found if each["spec"].get("status") == "PipelineRunPending"]


def test_two_trials_end_as_a_table_and_as_a_proposal_and_nothing_is_published(desk: Desk) -> None:
    before, stored = pins(desk), versions(desk)
    said = desk.shell('make retrain GPU=N SWEEP="train.epochs=1 train.lr0=0.011,0.012"')
    found = re.search(r"^(sweep-\w+) of \w+: 2 trials, 2 of them new; started: \1-000$", said, re.MULTILINE)
    assert found, said
    first, second = (f"{found[1]}-00{number}" for number in range(2))
    try:
        assert waiting(found[1]) == [second]
        assert ended(first)["status"] == "True"
        assert ended(second)["status"] == "True"
        for run in (first, second):
            assert {"validate", "sweep", "summary"} <= set(tasks(run))
            assert not {"gate", "publish", "pin"} & set(tasks(run))
        assert "started: nothing" in log(second, "sweep")
        table = json.loads(read(desk, f"runs/sweeps/{found[1]}/table.json"))
        assert [(each["number"], each["state"]) for each in table["trials"]] == [(0, "done"), (1, "done")]
        assert all(each["figures"]["map50"] is not None for each in table["trials"])
        assert f"{found[1]}: 2 of 2 trials" in read(desk, f"runs/sweeps/{found[1]}/table.md")
        (pull,) = open_pulls(desk)
        assert pull["title"].startswith("Sweep: train.epochs=1, train.lr0=0.01")
        assert "None has met test" in pull["body"]
        assert (pins(desk), versions(desk)) == (before, stored)
        assert "0 of them new; started: none" in desk.shell(
            'make retrain GPU=N SWEEP="train.epochs=1 train.lr0=0.011,0.012"'
        )
    finally:
        for pull in open_pulls(desk):
            desk.forge.ask("PATCH", f"{REPOSITORY}/pulls/{pull['number']}", {"state": "closed"})
