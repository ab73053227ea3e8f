"""Pictures and datasets of these tests, prepared by one worker in this process, where a test can count."""

from pathlib import Path

import pytest

from tests.support.pictures import RawDataset, Shelf


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_WORKERS", "1")


@pytest.fixture
def data(tmp_path: Path) -> RawDataset:
    return RawDataset(tmp_path)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)
