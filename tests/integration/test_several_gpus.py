"""Ultralytics' launcher of several GPUs, with our trainer, on the CPU; support/gloo_training.py has what differs."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import PROJECT
from tests.support.gloo_training import EPOCHS
from tests.support.processes import until

pytestmark = pytest.mark.slow


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.gloo_training", str(folder)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_training_goes_on_from_its_checkpoint_when_the_stage_was_terminated(tmp_path: Path) -> None:
    first = start(tmp_path)
    until(lambda: first.poll() is not None or list(tmp_path.glob("checkpoints/0*")), 600)
    launched = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == -signal.SIGTERM, said[-2000:]
    assert len(launched) >= 2, "torch.distributed.run, and a process of its own"
    assert psutil.wait_procs(launched, timeout=60)[1] == []
    second = start(tmp_path)
    said, _ = second.communicate(timeout=600)
    assert second.returncode == 0, said[-2000:]
    (before,) = (int(line.split()[-1]) for line in said.splitlines() if line.startswith("epochs before:"))
    assert 0 < before < EPOCHS
    with (tmp_path / "run/results.csv").open(encoding="utf-8", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [str(number + 1) for number in range(EPOCHS)]
