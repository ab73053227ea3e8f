"""SIGKILL in the middle of every stage: the next `dvc repro` gives what an undisturbed one gives."""

import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from tests.e2e.conftest import digests
from tests.support.processes import until

pytestmark = pytest.mark.slow
# Stages, and who is killed in the middle of each.
UP_TO_TRAIN = [
    *(("compose", "both"), ("fetch", "both"), ("prepare", "dvc"), ("prepare", "stage"), ("split", "both")),
    ("train", "dvc"),
]
BEHIND = [("export", "both"), ("evaluate", "stage")]


def kill_in_the_middle(project: Path, environment: dict[str, str], stage: str, victims: str) -> None:
    """Start `dvc repro` and kill `dvc`, the stage or both, once the stage is at work; a training, behind an epoch."""
    with (project.parent / "log").open("wb") as log:
        started = subprocess.Popen(["dvc", "repro"], cwd=project, env=environment, stdout=log, stderr=log)
    dvc = psutil.Process(started.pid)
    busy = project / ".work" / f"{stage}.build"

    def at_work() -> psutil.Process | None:
        assert started.poll() is None, f"{stage} was never seen at work"
        begun = busy.exists() and (stage != "train" or any((project / ".work/train").glob("*/checkpoints/0*")))
        children = dvc.children(recursive=True) if begun else []
        return next((child for child in children if child.cmdline()[-2:] == ["runner", stage]), None)

    worker = until(at_work, 600, pause_s=0.005)
    assert worker
    for target in {"dvc": [dvc], "stage": [worker], "both": [dvc, worker]}[victims]:
        target.kill()
    started.wait(timeout=60)


def forget(project: Path, *stages: str) -> None:
    """Make `dvc repro` run stages again, as if they never had: no lock entry, no run cache, no scratch."""
    yaml = YAML()
    lock = yaml.load(project / "dvc.lock")
    for stage in stages:
        del lock["stages"][stage]
    yaml.dump(lock, project / "dvc.lock")
    for folder in (".dvc/cache/runs", ".work"):
        shutil.rmtree(project / folder, ignore_errors=True)


@pytest.mark.parametrize("kills", [UP_TO_TRAIN, BEHIND], ids=["up to train", "behind it"])
def test_repro_gives_the_same_when_killed(
    copy_of_trained: Path, trained: Path, environment: dict[str, str], kills: list[tuple[str, str]]
) -> None:
    project = copy_of_trained
    stages = list(dict.fromkeys(stage for stage, _ in kills))
    forget(project, *stages)
    for stage, victims in kills:
        kill_in_the_middle(project, environment, stage, victims)
    again = subprocess.run(["dvc", "repro"], cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-2000:]
    for stage in stages:
        if stage != "train":
            assert digests(project, stage) == digests(trained, stage)
    if "train" in stages:
        assert "continuing after epoch" in again.stdout
        rows = (project / "artifacts/model/results.csv").read_text().splitlines()[1:]
        assert [row.split(",")[0] for row in rows] == ["1", "2"]
        assert (project / "artifacts/model/best.pt").exists()
    assert not list((project / ".work").glob("*.build"))
