"""Folds: train's own pictures are judged by models that were trained on the others, for real."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.projects import copy_project, set_params

pytestmark = pytest.mark.slow


def test_train_is_judged_by_folds(project: Path, tmp_path: Path) -> None:
    from benchmarks.rounds import shell

    environment = shell(PYTHONPATH=str(project))
    folder = copy_project(project, tmp_path / "clone", environment)
    set_params(
        folder,
        {
            "presets": {"train": "smoke", "augment": "none"},
            "dataset": {"sample": {"pictures": 40}},
            "model": {"imgsz": 64},
            "train": {"epochs": 1},
        },
    )

    def runner(*arguments: str) -> str:
        command = [sys.executable, "-m", "runner", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for stage in ("compose", "fetch", "prepare", "split", "train", "export"):
        runner(stage)
    said = runner("labels", "suspects", "--folds", "2")
    assert "2 trainings on 1 of 2 parts of train" in said and "fold 2 of 2" in said
    judged = json.loads((folder / "reports/suspects/suspects.json").read_text())
    lists = {
        part: (folder / f"artifacts/split/{part}.txt").read_text().splitlines() for part in ("train", "val", "test")
    }
    assert judged["pictures"] == {part: len(names) for part, names in lists.items()} and judged["folds"] == 2
    again = runner("labels", "suspects", "--folds", "2")
    assert again.count("training had ended before") == 2
