"""Machines that fail: no space, no rights, no memory, no package. The error is clear, and the next run is right."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import digests
from tests.support.projects import Run, set_params

pytestmark = pytest.mark.slow

Mount = Callable[..., None]
ROOM = 400 << 20  # bytes of the disk while there is space
# Bytes that are left when the disk is full: the stage begins to write, and cannot end.
LEFT = {"compose": 0, "fetch": 100_000, "prepare": 20_000, "train": 8_000_000, "export": 4_000_000, "evaluate": 30_000}


@pytest.fixture
def disk(trained: Path, tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A trained project on a disk of its own, and what mounts that disk anew with other options."""
    folder = tmp_path / "eine Platte für ü"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a disk to fill or to write-protect")

    def mount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)

    project = folder / "flywheel"
    shutil.copytree(trained, project, ignore=shutil.ignore_patterns("cache", ".work"))
    yield project, mount
    subprocess.run(["umount", "--lazy", folder], check=True)


def refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    """Assert that a command said one clear thing."""
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and reason in errors[0], done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]


def fill(project: Path, stage: str) -> Path:
    """Fill the disk so far that a stage begins to write and cannot end; return the file to remove."""
    filler = project.parent / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(project).free - LEFT[stage]))
    return filler


@pytest.mark.parametrize("stage", LEFT)
def test_the_next_run_is_right_when_the_disk_was_full(disk: tuple[Path, Mount], run: Run, stage: str) -> None:
    project, _ = disk
    before = digests(project, stage)
    filler = fill(project, stage)
    refused(run(sys.executable, "-m", "runner", stage, cwd=project), "No space left on device")
    assert digests(project, stage) == before
    assert not list((project / ".work").glob("*.build"))
    filler.unlink()
    again = run(sys.executable, "-m", "runner", stage, cwd=project)
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-2000:]
    if stage == "train":
        assert digests(project, stage).keys() == before.keys()
    else:
        assert digests(project, stage) == before


def test_dvc_makes_what_is_missing_when_the_disk_was_full(disk: tuple[Path, Mount], run: Run) -> None:
    project, _ = disk
    before = digests(project, "prepare")
    filler = fill(project, "prepare")
    done = run("dvc", "repro", "--single-item", "--force", "prepare", cwd=project)  # DVC removes the outputs first
    assert "No space left on device" in done.stderr, done.stderr[-3000:]
    # When only its cache could not be written, DVC itself says so and ends with 0: the outputs are whole.
    assert done.returncode != 0 or digests(project, "prepare") == before
    filler.unlink()
    again = run("dvc", "repro", "--single-item", "prepare", cwd=project)
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-2000:]
    assert digests(project, "prepare") == before


def test_the_error_is_clear_when_the_project_is_read_only(disk: tuple[Path, Mount], run: Run) -> None:
    project, mount = disk
    mount("ro")
    for command in ("compose", "train", "plan"):  # DVC wants its lock for a plan
        refused(run(sys.executable, "-m", "runner", command, cwd=project), "Read-only file system")
    summary = run(sys.executable, "-m", "runner", "summary", cwd=project)
    assert (summary.returncode, summary.stderr) == (0, "")
    assert "mAP50" in summary.stdout
    doctor = run(sys.executable, "-m", "runner", "doctor", cwd=project)
    assert (doctor.returncode, doctor.stderr) == (1, "")
    assert f"{project} cannot be written" in doctor.stdout


def test_the_batch_is_named_when_memory_does_not_suffice(
    copy_of_trained: Path, environment: dict[str, str], run: Run
) -> None:
    set_params(copy_of_trained, {"model": {"imgsz": 1280}, "train": {"batch": 16}})
    assert run(sys.executable, "-m", "runner", "compose", cwd=copy_of_trained).returncode == 0
    most = 6 << 30
    done = subprocess.run(
        [sys.executable, "-m", "runner", "train"],
        cwd=copy_of_trained,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )
    refused(done, "not enough memory for train.batch 16 at model.imgsz 1280")


BLOCK = """
import os, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == os.environ["BLOCKED"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.parametrize(
    ("command", "package"), [("train", "ultralytics"), ("evaluate", "faster_coco_eval"), ("plan", "dvc")]
)
def test_the_package_is_named_when_an_extra_is_not_installed(
    trained: Path, run: Run, tmp_path: Path, command: str, package: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    done = run(sys.executable, "-m", "runner", command, cwd=trained, PYTHONPATH=str(tmp_path), BLOCKED=package)
    refused(done, f"{command} needs the package {package}, which is not installed")


def test_help_answers_when_nothing_is_installed(project: Path, run: Run) -> None:
    done = run(sys.executable, "-S", "-m", "runner", "--help", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "prepare" in done.stdout
    refused(run(sys.executable, "-S", "-m", "runner", "doctor", cwd=project), "which is not installed")
