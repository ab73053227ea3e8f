"""Duration from a push to a served model, by Task, and from the pin to a pod that serves the new model.

`tests/cluster/desk .venv/bin/python -m benchmarks retrain` needs the cluster (`make cluster`) with its installation
(`make cluster-test ARGS="-m 'not faults'"`). Every round pushes other training values through the forge's own webhook.
The training is the smallest possible, so that everything around it is measured.
"""

import argparse
import statistics
import time
from datetime import UTC, datetime

from tests.cluster.conftest import earlier_desk
from tests.cluster.desk import Desk, get, until
from tests.cluster.runs import NAMESPACE, ended, pins, run_of, seconds_of, served

TRAINING = ("train-cpu", "train-gpu")


def one(desk: Desk, number: int) -> dict[str, float]:
    """Push once; return the seconds of each part."""
    before = pins(desk)
    began = time.time()
    commit = desk.retrain(f"Round {number}", epochs=2)
    run = run_of(commit)
    made = get("pipelinerun", run, NAMESPACE)["metadata"]["creationTimestamp"]
    created = datetime.fromisoformat(made)
    pinned = until(lambda: pin_time(desk, before), 900, "the pin", every=0.2)
    version = int(pins(desk)[0].partition("/")[2])
    until(lambda: served().get("version") == version, 600, f"version {version}", every=0.2)
    answered = time.time()
    ended(run)
    parts = seconds_of(run)
    training = sum(parts.get(name, 0) for name in TRAINING)
    return {
        "push to PipelineRun": created.timestamp() - began,
        **parts,
        "push to pin": pinned - began,
        "pin to ready": answered - pinned,
        "push to served": answered - began,
        "push to served without training": answered - began - training,
    }


def pin_time(desk: Desk, before: list[str]) -> float:
    """Return when the bot's commit reached the branch, by this machine's clock; 0 before that."""
    return datetime.now(UTC).timestamp() if len(pins(desk)) > len(before) else 0.0


def main(arguments: list[str]) -> None:
    """Run the rounds and print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args(arguments).rounds
    desk = earlier_desk()
    found = [one(desk, number) for number in range(1, rounds + 1)]
    for part in found[0]:
        seconds = [each[part] for each in found if part in each]
        print(f"{part:<34} {statistics.median(seconds):6.1f} s   {min(seconds):.1f}-{max(seconds):.1f}")
