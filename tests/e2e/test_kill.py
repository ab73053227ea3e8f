"""SIGKILL in the middle of every stage: the next `dvc repro` gives what an undisturbed one gives."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from runner.stages.registry import STAGES

pytestmark = pytest.mark.slow
# Who is killed: every stage with DVC; alone those that go on where they stopped.
KILLS = [(stage, "both") for stage in STAGES]
KILLS += [(stage, victims) for stage in ("prepare", "train") for victims in ("dvc", "stage")]


def digests(project: Path, stage: str) -> dict[str, str]:
    """Return the digest of every file that a stage wrote."""
    return {
        str(file.relative_to(project)): hashlib.sha256(file.read_bytes()).hexdigest()
        for output in STAGES[stage].outputs
        for file in sorted((project / "artifacts" / output).rglob("*"))
        if file.is_file()
    }


def stage_process(dvc: psutil.Process, stage: str) -> psutil.Process | None:
    """Return the process of a stage that `dvc` started."""
    for child in dvc.children(recursive=True):
        if child.cmdline()[-2:] == ["runner", stage]:
            return child
    return None


def kill_in_the_middle(project: Path, environment: dict[str, str], stage: str, victims: str) -> None:
    """Start `dvc repro` and kill `dvc`, the stage or both, once the stage is at work."""
    busy = project / ".work" / f"{stage}.build"
    started = subprocess.Popen(
        ["dvc", "repro"], cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    dvc = psutil.Process(started.pid)
    deadline = time.monotonic() + 120
    while not (busy.exists() and (worker := stage_process(dvc, stage))):
        assert started.poll() is None and time.monotonic() < deadline, f"{stage} was never seen at work"
        time.sleep(0.005)
    if stage == "train":  # let it reach its second epoch
        while not list((project / ".work" / "train").glob("*/checkpoints/0*")):
            assert worker.is_running() and time.monotonic() < deadline
            time.sleep(0.01)
    targets = {"dvc": [dvc], "stage": [worker], "both": [dvc, worker]}[victims]
    for target in targets:
        os.kill(target.pid, signal.SIGKILL)
    started.wait(timeout=60)


@pytest.mark.parametrize(("stage", "victims"), KILLS)
def test_repro_gives_the_same_when_killed(
    copy_of_trained: Path, trained: Path, environment: dict[str, str], stage: str, victims: str
) -> None:
    project = copy_of_trained
    before = {name: digests(trained, name) for name in STAGES}
    forget(project, stage)

    kill_in_the_middle(project, environment, stage, victims)
    again = subprocess.run(["dvc", "repro"], cwd=project, env=environment, capture_output=True, text=True, check=False)

    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-2000:]
    for name in STAGES:
        if name == "train" or (stage == "train" and name in ("export", "evaluate")):
            assert digests(project, name).keys() >= {"artifacts/model/best.pt"} if name == "train" else True
        else:
            assert digests(project, name) == before[name]
    if stage == "train":
        assert "continuing after epoch" in again.stdout
        rows = (project / "artifacts/model/results.csv").read_text().splitlines()[1:]
        assert [row.split(",")[0] for row in rows] == ["1", "2"]
    assert not list((project / ".work").glob("*.build"))


def forget(project: Path, stage: str) -> None:
    """Make `dvc repro` run a stage again, as if it never had: no lock entry, no run cache, no scratch."""
    import shutil

    from ruamel.yaml import YAML

    yaml = YAML()
    lock = yaml.load(project / "dvc.lock")
    del lock["stages"][stage]
    yaml.dump(lock, project / "dvc.lock")
    shutil.rmtree(project / ".dvc" / "cache" / "runs", ignore_errors=True)
    for scratch in (project / ".work").glob("*"):
        shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink()
