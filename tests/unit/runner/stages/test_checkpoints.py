"""Checkpoints: whole or not there, the newest intact one is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from runner.stages.checkpoints import keep_checkpoint, newest_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as Ultralytics leaves it after an epoch."""
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "last.pt").write_bytes(b"last")
    (folder / "weights" / "best.pt").write_bytes(b"best")
    (folder / "results.csv").write_text("epoch\n1\n")
    return folder


def test_there_is_no_checkpoint_when_nothing_was_kept(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "checkpoints") is None


def test_the_newest_two_stay_when_epochs_pass(run: Path, tmp_path: Path) -> None:
    for epoch in range(3):
        keep_checkpoint(run, tmp_path / "checkpoints", epoch, finished=False)
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["000001", "000002"]
    newest = newest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None and newest.name == "000002"
    kept = json.loads((newest / "checkpoint.json").read_text())
    assert kept["sha256"]["weights/last.pt"] == hashlib.sha256(b"last").hexdigest()


@pytest.mark.parametrize("damage", ["truncated", "missing", "no list"])
def test_an_older_checkpoint_is_used_when_the_newest_is_damaged(
    run: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for epoch in range(2):
        keep_checkpoint(run, tmp_path / "checkpoints", epoch, finished=False)
    newest = tmp_path / "checkpoints" / "000001"
    if damage == "truncated":
        (newest / "last.pt").write_bytes(b"la")
    elif damage == "missing":
        (newest / "best.pt").unlink()
    else:
        (newest / "checkpoint.json").write_text("{}")
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None and found.name == "000000"
    assert "000001 is damaged" in capsys.readouterr().out


def test_a_half_written_checkpoint_is_not_seen_when_the_process_died(run: Path, tmp_path: Path) -> None:
    building = tmp_path / "checkpoints" / ".building"
    building.mkdir(parents=True)
    (building / "last.pt").write_bytes(b"half")
    assert newest_checkpoint(tmp_path / "checkpoints") is None
    keep_checkpoint(run, tmp_path / "checkpoints", 0, finished=True)
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["000000"]
