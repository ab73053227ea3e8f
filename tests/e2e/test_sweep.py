"""`make sweep`: a grid as DVC's experiments on this machine; killed, and gone on with by the same command."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import until
from tests.support.projects import Run, git

pytestmark = pytest.mark.slow
SWEEP = (sys.executable, "-m", "runner", "sweep", "--here", "train.lr0=0.002,0.02")


def test_trials_go_on_when_a_sweep_was_killed(copy_of_trained: Path, environment: dict[str, str], run: Run) -> None:
    project = copy_of_trained
    records = project / ".work/sweeps"
    with (project.parent / "log").open("wb") as log:
        begun = subprocess.Popen(SWEEP, cwd=project, env=environment, stdout=log, stderr=log, start_new_session=True)
    until(lambda: git(project, "for-each-ref", "refs/exps/**/*-000"), 300)  # while the second is at work
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait(20)

    done = run(*SWEEP, cwd=project)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count("-001: train.lr0=0.02") == 1 and "-000: " not in done.stdout
    trials = [json.loads(file.read_text()) for file in sorted(records.glob("*/*.json"))]
    assert [(each["number"], each["values"], each["state"]) for each in trials] == [
        (0, ["++train.lr0=0.002"], "done"),
        (1, ["++train.lr0=0.02"], "done"),
    ]
    (table,) = records.glob("*.md")
    assert "2 of 2 trials" in table.read_text()
    name = done.stdout.partition("`dvc exp apply ")[2].partition(";")[0]
    run("dvc", "exp", "apply", name, cwd=project)
    best = trials[int(name[-3:])]["values"][0].partition("=")[2]
    assert f"lr0: {best}\n" in (project / "params.yaml").read_text()
    repro = run("dvc", "repro", cwd=project)
    assert repro.returncode == 0 and "Running stage 'train'" not in repro.stdout
    assert (project / "artifacts/evaluation/metrics.json").exists()
