"""A copy of the project with a small dataset and the smoke preset, on which real `dvc` runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.projects import copy_project, set_params

SMOKE = {
    "presets": {"train": "smoke"},
    "dataset": {"sample": {"pictures": 40, "seed": 0}},
    "split": {"val": 0.2, "test": 0.2},
    "model": {"imgsz": 64},
    "train": {"epochs": 2},
}


@pytest.fixture(scope="session")
def trained(project: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project after one `dvc repro`; tests must not change it."""
    copy = copy_project(project, tmp_path_factory.mktemp("a project ü") / "flywheel", environment)
    set_params(copy, SMOKE)
    done = subprocess.run(["dvc", "repro"], cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return copy


@pytest.fixture
def copy_of_trained(trained: Path, tmp_path: Path) -> Path:
    """A trained project that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "flywheel", symlinks=True))
