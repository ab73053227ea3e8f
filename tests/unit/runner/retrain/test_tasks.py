"""What the Tasks do besides DVC."""

from pathlib import Path

import pytest

from runner.retrain import tasks


@pytest.mark.parametrize(("least", "stays"), [(0.0, True), (1.1, False)])
def test_the_cache_is_emptied_when_its_volume_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: float, stays: bool
) -> None:
    monkeypatch.setattr(tasks, "_ROOM", least)
    (tmp_path / "dvc/files").mkdir(parents=True)
    tasks._make_room(tmp_path / "dvc")
    assert (tmp_path / "dvc").exists() is stays
    tasks._make_room(tmp_path / "none yet")


def test_the_cache_stays_when_another_run_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_ROOM", 1.1)
    cache = tmp_path / "dvc"
    with tasks._using(cache):
        (cache / "files").mkdir(parents=True)
        with tasks._using(cache):
            assert cache.exists()
    with tasks._using(cache):
        assert not cache.exists()
