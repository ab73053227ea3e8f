"""The data gate: what is too bad to be trained on is refused, with every reason in a report that stays."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import DatasetError
from tests.support.pictures import RawDataset


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_WORKERS", "1")
    monkeypatch.delenv("RUNNER_PARALLEL", raising=False)


@pytest.fixture
def data(tmp_path: Path) -> RawDataset:
    return RawDataset(tmp_path)


def test_refused_when_there_are_no_pictures(data: RawDataset) -> None:
    with pytest.raises(DatasetError, match=r"0 pictures are left, expected at least prepare\.min_pictures = 1\n"):
        data.prepare()


def spoil(data: RawDataset) -> None:
    data.put("bad.jpg", data=b"")


def mislabel(data: RawDataset) -> None:
    data.put("bad.jpg", "9 0.5 0.5 0.5 0.5\n")


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (None, {"min_pictures": 4}, r"3 pictures are left, expected at least prepare\.min_pictures = 4"),
        (None, {"min_per_class": 3}, r"0 boxes of helicopter, expected at least prepare\.min_per_class = 3"),
        (
            spoil,
            {},
            r"1 of 4 pictures cannot be used, .*max_rejected = 0\.05 of them; the first: images/bad\.jpg: empty",
        ),
        (
            mislabel,
            {},
            r"1 of 4 label lines cannot be used, .*; the first: labels/bad\.txt:1: class id 9, but the data",
        ),
    ],
    ids=["few pictures", "few of a class", "bad pictures", "bad lines"],
)
def test_refused_with_the_report_kept_when_the_gate_is_shut(
    data: RawDataset, make: Callable[[RawDataset], None] | None, changes: dict[str, Any], message: str
) -> None:
    for number in range(3):
        data.put(f"{number}.jpg")
    if make:
        make(data)
    with pytest.raises(DatasetError, match=f"(?s)does not pass the data gate:.*{message}") as refusal:
        data.prepare(**changes)
    report = data.work / "report"
    assert str(report / "index.html") in str(refusal.value)
    assert sorted(path.name for path in report.iterdir()) == ["index.html", "pictures.jpg", "report.json"]
    assert sorted(path.name for path in data.work.iterdir()) == ["prepare", "report"]


def test_both_faults_are_named_when_the_gate_is_shut_twice(data: RawDataset) -> None:
    data.put("a.jpg")
    with pytest.raises(DatasetError, match="data gate") as refusal:
        data.prepare(min_pictures=2, min_per_class=2)
    assert len(re.findall("expected at least", str(refusal.value))) == 3
