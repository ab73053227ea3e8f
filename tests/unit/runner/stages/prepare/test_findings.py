from typing import Any

import pytest

from runner.errors import DatasetError
from tests.support.pictures import RawDataset

BAD_PICTURE = {"data": b""}
BAD_LINE = {"labels": "9 0.5 0.5 0.5 0.5\n"}


def test_refused_when_there_are_no_pictures(data: RawDataset) -> None:
    with pytest.raises(DatasetError, match=r"0 pictures are left, .* prepare\.min_pictures = 1\n"):
        data.prepare()


@pytest.mark.parametrize(
    ("bad", "changes", "message"),
    [
        (
            {},
            {"min_pictures": 5, "min_per_class": 3},
            r"4 pictures .* = 5\n.*0 boxes of helicopter.* = 3\n",
        ),
        (BAD_PICTURE, {}, r"1 of 4 pictures .*max_rejected = 0\.05 .* images/bad\.jpg: empty"),
        ({"labels": "0 0.9 0.5 0.5 0.5\n"}, {}, r"1 of 4 boxes leave .*max_clipped = 0\.1 "),
        (BAD_LINE, {}, r"1 of 4 label lines .*max_rejected = 0\.05 .* labels/bad\.txt:1: class id 9"),
    ],
    ids=["few pictures and few of a class", "bad pictures", "boxes out of the picture", "bad lines"],
)
def test_refused_with_the_report_kept_when_the_gate_is_shut(
    data: RawDataset, bad: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    for number in range(3):
        data.put(f"{number}.jpg")
    data.put("bad.jpg", **bad)
    with pytest.raises(DatasetError, match=f"(?s)data gate:.*{message}") as refusal:
        data.prepare(**changes)
    report = data.work / "report"
    assert str(report / "index.html") in str(refusal.value)
    assert sorted(path.name for path in report.iterdir()) == ["index.html", "pictures.jpg", "report.json"]
    assert "Refused: " in (report / "index.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in data.work.iterdir()) == ["pictures", "prepare", "report"]
    data.prepare(max_rejected=1.0, max_clipped=1.0)
    assert not report.exists()
