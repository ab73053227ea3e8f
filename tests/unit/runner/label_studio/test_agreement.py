from typing import Any

import pytest

from runner.label_studio.agreement import GOLDEN, OTHERS, ClassAgreement, as_table, match, pairs_of
from runner.label_studio.regions import LabelledBox, region

CLASSES, USERS = ["airplane", "helicopter"], {1: "ann@example.com", 2: "bob@example.com"}
LEFT, RIGHT = (0.25, 0.5, 0.2, 0.2), (0.75, 0.5, 0.2, 0.2)
NEAR, FAR = (0.27, 0.5, 0.2, 0.2), (0.4, 0.5, 0.2, 0.2)  # beside LEFT: IoU 0.82 and 0.14


def annotation(person: int, *boxes: LabelledBox, hour: int = 10, **more: Any) -> dict[str, Any]:
    result = [region(box, (64, 48), number) for number, box in enumerate(boxes)]
    changes = {"updated_at": f"2026-11-30T{hour}:00:00Z", "was_cancelled": False, "ground_truth": False} | more
    return {"id": 1, "completed_by": person, "result": result, **changes}


@pytest.mark.parametrize(
    ("drawn", "reference", "matched"),
    [
        ([], [], {}),
        ([], [LabelledBox("airplane", LEFT)], {}),
        ([LabelledBox("airplane", LEFT)], [LabelledBox("airplane", NEAR)], {"airplane": 1}),
        ([LabelledBox("airplane", LEFT)], [LabelledBox("airplane", FAR)], {}),
        ([LabelledBox("airplane", LEFT)], [LabelledBox("helicopter", LEFT)], {}),
        ([LabelledBox("airplane", LEFT)] * 2, [LabelledBox("airplane", NEAR)], {"airplane": 1}),  # each box once
    ],
)
def test_boxes_are_matched(drawn: list[LabelledBox], reference: list[LabelledBox], matched: dict[str, int]) -> None:
    assert match(drawn, reference) == matched


def test_people_are_compared_with_each_other_or_with_the_golden_annotation() -> None:
    one, other = LabelledBox("airplane", LEFT), LabelledBox("airplane", NEAR)
    task = {"annotations": [annotation(1, one), annotation(2, other)]}
    assert {(pair.person, pair.against) for pair in pairs_of(task, CLASSES, USERS)} == {
        ("ann@example.com", OTHERS),
        ("bob@example.com", OTHERS),
    }
    task = {"annotations": [annotation(1, one, ground_truth=True), annotation(2, other), annotation(3)]}
    found = {(pair.person, pair.against, len(pair.drawn)) for pair in pairs_of(task, CLASSES, USERS)}
    assert found == {("bob@example.com", GOLDEN, 1), ("user 3", GOLDEN, 0)}
    for alone in ([], [annotation(1, one)], [annotation(1, one), annotation(2, was_cancelled=True)]):
        assert pairs_of({"annotations": alone}, CLASSES, USERS) == []
    task = {"annotations": [annotation(1, other, hour=11), annotation(1, one), annotation(2)]}
    newest = {pair.person: pair.drawn for pair in pairs_of(task, CLASSES, USERS)}["ann@example.com"]
    assert newest[0].xywhn == pytest.approx(NEAR)


def test_a_row_for_each_person_and_class() -> None:
    drawn = [LabelledBox("airplane", LEFT), LabelledBox("helicopter", RIGHT)]
    task = {"annotations": [annotation(1, *drawn, ground_truth=True), annotation(2, drawn[0])]}
    _, *rows = as_table(pairs_of(task, CLASSES, USERS), CLASSES).rows
    assert [row[:7] for row in rows] == [
        ("bob@example.com", GOLDEN, "1", "airplane", "1", "1", "1"),
        ("bob@example.com", GOLDEN, "1", "helicopter", "0", "1", "0"),
    ]
    assert [float(row[7]) for row in rows] == [1.0, 0.0]
    assert ClassAgreement(2, 2, 1).agreement == 0.5 and ClassAgreement(0, 0, 0).agreement is None
