"""Machines that fail: no space, no rights, no memory, no package. The error is clear, and the next run is right."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import digests
from tests.support.processes import disk
from tests.support.projects import Run, set_params

pytestmark = pytest.mark.slow

ROOM = 400 << 20  # bytes of the disk while there is space
# Bytes that are left when the disk is full: the stage begins to write, and cannot end.
LEFT = {"compose": 0, "fetch": 100_000, "prepare": 20_000, "train": 8_000_000, "export": 4_000_000, "evaluate": 30_000}


@pytest.fixture
def small(trained: Path, tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "eine Platte für ü", ROOM) as folder:
        yield shutil.copytree(trained, folder / "flywheel", ignore=shutil.ignore_patterns("cache", ".work"))


def refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    """Assert that a command said one clear thing."""
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and reason in errors[0], done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]


@pytest.mark.parametrize("stage", LEFT)
def test_the_next_run_is_right_when_the_disk_was_full(small: Path, run: Run, stage: str) -> None:
    before = digests(small, stage)
    filler = small.parent / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small).free - LEFT[stage]))
    refused(run(sys.executable, "-m", "runner", stage, cwd=small), "No space left on device")
    assert digests(small, stage) == before
    assert not list((small / ".work").glob("*.build"))
    filler.unlink()
    again = run(sys.executable, "-m", "runner", stage, cwd=small)
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-2000:]
    if stage == "train":
        assert digests(small, stage).keys() == before.keys()
    else:
        assert digests(small, stage) == before


def test_the_error_is_clear_when_the_project_is_read_only(small: Path, run: Run) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small.parent], check=True)
    for command in ("compose", "train", "plan"):  # DVC wants its lock for a plan
        refused(run(sys.executable, "-m", "runner", command, cwd=small), "Read-only file system")
    summary = run(sys.executable, "-m", "runner", "summary", cwd=small)
    assert (summary.returncode, summary.stderr) == (0, "")
    assert "mAP50" in summary.stdout
    doctor = run(sys.executable, "-m", "runner", "doctor", cwd=small)
    assert (doctor.returncode, doctor.stderr) == (1, "")
    assert f"{small} cannot be written" in doctor.stdout


def test_the_batch_is_named_when_memory_does_not_suffice(copy_of_trained: Path, run: Run) -> None:
    set_params(copy_of_trained, {"model": {"imgsz": 1280}, "train": {"batch": 16}})
    assert run(sys.executable, "-m", "runner", "compose", cwd=copy_of_trained).returncode == 0
    limited = f"ulimit -v {6 << 20}; exec {sys.executable} -m runner train"  # KiB
    refused(run("sh", "-c", limited, cwd=copy_of_trained), "not enough memory for train.batch 16 at model.imgsz 1280")


def test_help_answers_when_nothing_is_installed(project: Path, run: Run) -> None:
    done = run(sys.executable, "-S", "-m", "runner", "--help", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "prepare" in done.stdout
    refused(run(sys.executable, "-S", "-m", "runner", "doctor", cwd=project), "which is not installed")
