from pathlib import Path

import pytest

from runner.stages.checkpoints import keep_checkpoint, restore_checkpoint

FILES = {"weights/last.pt": b"last", "weights/best.pt": b"best", "results.csv": b"epoch\n1\n"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as Ultralytics leaves it after an epoch."""
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def test_the_newest_of_two_is_restored_when_epochs_pass(run: Path, tmp_path: Path) -> None:
    for epoch in range(3):
        keep_checkpoint(run, tmp_path / "checkpoints", epoch, finished=epoch == 2)
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["000001", "000002"]
    found = restore_checkpoint(tmp_path / "checkpoints", tmp_path / "restored")
    assert found is not None and (found.epoch, found.finished) == (2, True)
    assert {name: (tmp_path / "restored" / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize(
    ("file", "damage"), [("last.pt", b"la"), ("best.pt", None), ("checkpoint.json", b"{}"), ("checkpoint.json", b"{")]
)
def test_an_older_checkpoint_is_used_when_the_newest_is_damaged(
    run: Path, tmp_path: Path, file: str, damage: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    for epoch in range(2):
        keep_checkpoint(run, tmp_path / "checkpoints", epoch, finished=False)
    path = tmp_path / "checkpoints/000001" / file
    path.unlink() if damage is None else path.write_bytes(damage)
    found = restore_checkpoint(tmp_path / "checkpoints", tmp_path / "restored")
    assert found is not None and (found.epoch, found.finished) == (0, False)
    assert "000001" in capsys.readouterr().out


def test_a_half_written_checkpoint_is_not_seen_when_the_process_died(run: Path, tmp_path: Path) -> None:
    building = tmp_path / "checkpoints" / ".building"
    building.mkdir(parents=True)
    (building / "last.pt").write_bytes(b"half")
    assert restore_checkpoint(tmp_path / "checkpoints", tmp_path / "restored") is None
    keep_checkpoint(run, tmp_path / "checkpoints", 0, finished=True)
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["000000"]
