import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from runner.stages.registry import STAGES
from runner.workspace import sha256_of
from tests.support.projects import Run, copy_project, set_params

SMOKE = {
    "presets": {"train": "smoke"},
    "dataset": {"sample": {"pictures": 40, "seed": 0}},
    "split": {"val": 0.2, "test": 0.2},
    "model": {"imgsz": 64},
    "train": {"epochs": 2},
}


@pytest.fixture(scope="session")
def trained(
    project: Path, environment: dict[str, str], run: Run, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Path:
    """A copy of the project after one `dvc repro`, which all workers share; tests must not change it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "a project ü"
    folder.mkdir(exist_ok=True)
    copy = folder / "flywheel"
    with FileLock(folder / "lock"):
        if not (copy / "dvc.lock").exists():
            shutil.rmtree(copy, ignore_errors=True)  # of a worker that failed
            copy_project(project, copy, environment)
            set_params(copy, SMOKE)
            done = run("dvc", "repro", cwd=copy)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return copy


@pytest.fixture
def copy_of_trained(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "flywheel", symlinks=True))


def digests(project: Path, stage: str) -> dict[str, str]:
    """Return the digest of every file that a stage wrote."""
    folders = [project / "artifacts" / output for output in STAGES[stage].outputs]
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    assert files
    return {str(file.relative_to(project)): sha256_of(file) for file in files}
