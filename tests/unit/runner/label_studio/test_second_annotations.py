from typing import Any

import pytest

from runner.label_studio.labelling_tasks import Task
from runner.label_studio.regions import LabelledBox, region
from runner.label_studio.second_annotations import MOST_OPEN, agreement_of, is_in_share, tasks_to_open

LEFT, RIGHT = LabelledBox("airplane", (0.25, 0.5, 0.2, 0.2)), LabelledBox("helicopter", (0.75, 0.5, 0.2, 0.2))
LOW, HIGH = "1" + 63 * "f", "8" + 63 * "0"  # digests: an eighth of all are below the first, half below the second


@pytest.mark.parametrize(
    ("sha256", "share", "expected"),
    [
        *((LOW, 0, False), (LOW, 0.1, False), (LOW, 0.13, True), (HIGH, 0.5, False), (HIGH, 0.51, True)),
        *((64 * "f", 1, True), (64 * "0", 0, False), ("", 1, False)),
    ],
)
def test_the_share_is_of_the_digests(sha256: str, share: float, expected: bool) -> None:
    assert is_in_share(sha256, share) == expected


def task(number: int = 1, *, annotations: int = 1, finished: bool = True, **data: Any) -> Task:
    return Task(number, {"sha256": LOW, **data}, annotations > 0, finished, annotations=annotations)


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ([], set()),
        ([task()], {1}),
        ([task(sha256=HIGH)], set()),
        ([task(annotations=0, finished=False)], set()),
        ([task(finished=False)], set()),  # skipped
        ([task(annotations=2)], set()),
        ([task(origin="dataset"), task(2, reported="2026-11-30T10:00:00+00:00")], set()),
        ([task(), task(2, annotations=0, finished=False, priority="1 reported")], set()),
        ([task(), task(2, priority="1 reported", reported="2026-11-30T10:00:00+00:00")], {1}),
        ([task(number) for number in range(MOST_OPEN + 5, 0, -1)], set(range(1, MOST_OPEN + 1))),
    ],
)
def test_a_second_person_is_asked_for_what_one_has_annotated(tasks: list[Task], expected: set[int]) -> None:
    assert tasks_to_open(tasks, 0.2) == expected


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ([[LEFT]], None),
        ([[], []], 1),
        ([[LEFT], [LEFT]], 1),
        ([[LEFT, RIGHT], [LEFT]], 2 / 3),
        ([[LEFT], [RIGHT]], 0),
        ([[LEFT], [LEFT], []], 1 / 2),  # of three pairs, one agrees: 2 of 4 boxes each way
    ],
)
def test_the_agreement_of_a_task_is_that_of_its_people(drawn: list[list[LabelledBox]], expected: float | None) -> None:
    annotations = [
        {
            "completed_by": person,
            "result": [region(box, (64, 48), number) for number, box in enumerate(boxes)],
            "updated_at": "2026-11-30T10:00:00Z",
            "was_cancelled": False,
        }
        for person, boxes in enumerate(drawn)
    ]
    found = agreement_of({"annotations": annotations}, ["airplane", "helicopter"])
    assert found == (None if expected is None else pytest.approx(expected))
