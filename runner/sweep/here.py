"""Trials on this machine: DVC's experiments in folders of their own, one after another, up to the exported model."""

import csv
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from runner.cluster.waiting import Say
from runner.forge.git import git
from runner.sweep.search import next_values
from runner.sweep.trials import DONE, FAILED, Sweep, Trial, ValFigures
from runner.workspace import ARTIFACTS, scratch, work_folder, write_text

MEASURED = ("config", "dataset", "split", "export")


def run_here(project: Path, sweep: Sweep, say: Say) -> list[Trial]:
    """Run the trials that are missing; return all. Their records are in `.work/sweeps/<sweep>/`, so a kill loses one.

    A trial is the experiment of its name (`dvc exp show`).
    """
    folder = work_folder(project) / "sweeps" / sweep.name
    while True:
        trials = [Trial.model_validate_json(file.read_bytes()) for file in sorted(folder.glob("*.json"))]
        missing = [number for number in range(sweep.size) if number not in {each.number for each in trials}]
        if not missing:
            return trials
        for number, each in next_values(sweep, trials, missing[:1] if sweep.search else missing).items():
            name = sweep.trial_name(number)
            if not _commit_of(project, name):
                say(f"{name}: {' '.join(value.removeprefix('++') for value in each)}")
                changes = (word for value in each for word in ("-S", value))
                # Not in DVC's queue: its worker outlives a killed sweep, and nothing tells it from a dead one.
                command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *changes, "export"]
                subprocess.run(command, cwd=project, check=False)
            trial = _measured(project, name, number, each)
            write_text(folder / f"{number:03}.json", trial.model_dump_json())


def _commit_of(project: Path, name: str) -> str:
    """Return the commit of an experiment that has run; empty when there is none."""
    rows = git(project, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines()
    return next((row.split()[1] for row in rows if row.split()[0].rpartition("/")[2] == name), "")


def _measured(project: Path, name: str, number: int, values: list[str]) -> Trial:
    """Measure an experiment's model on val, in a folder with its outputs; a failed experiment has no commit."""
    from dvc.api import DVCFileSystem

    commit, ended = _commit_of(project, name), partial(Trial, number=number, values=values)
    if not commit:
        return ended(state=FAILED, said="its output has the reason")
    files = DVCFileSystem(str(project), rev=commit)
    with scratch("sweep-", project) as view:
        for output in MEASURED:
            files.get((ARTIFACTS / output).as_posix(), str(view / ARTIFACTS / output), recursive=True)
        command = [sys.executable, "-m", "runner", "evaluate", "--val"]
        environment = os.environ | {"DVC_ROOT": str(project), "PYTHONPATH": str(project)}
        done = subprocess.run(command, cwd=view, env=environment, text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return ended(state=FAILED, said="it could not be measured on val")
    epochs = csv.DictReader(files.read_text((ARTIFACTS / "model/results.csv").as_posix()).splitlines())
    seconds = float(list(epochs)[-1].get("time") or 0)  # since the training began, where the trainer writes it
    figures = ValFigures.model_validate_json(done.stdout.splitlines()[-1])
    return ended(state=DONE, figures=figures, seconds=seconds)
