from collections.abc import Sequence

import numpy as np

from serving.storage.detections import Box, Detection
from serving.tracking import Tracker

Thing = tuple[str, float, float, float]  # label, left, top, confidence; 20 x 20 pixels


def detections(things: Sequence[Thing]) -> tuple[list[Detection], list[Detection]]:
    """Those of a confidence of 0.5 and more, and the others."""
    found = [
        Detection(label=label, class_id=0, confidence=sure, box=Box(x1=x, y1=y, x2=x + 20, y2=y + 20))
        for label, x, y, sure in things
    ]
    return [each for each in found if each.confidence >= 0.5], [each for each in found if each.confidence < 0.5]


def numbers(*frames: Sequence[Thing]) -> list[list[int | None]]:
    tracker = Tracker()
    return [[each.track for each in tracker.update(*detections(frame))] for frame in frames]


def test_nothing_when_frames_are_empty() -> None:
    assert numbers([], []) == [[], []]


def test_number_kept_when_a_thing_moves_and_is_hidden_for_a_while() -> None:
    frames = [[("a", 8.0 * step, 0.0, 0.9)] if step not in (5, 6, 7, 8) else [] for step in range(12)]
    assert numbers(*frames) == [[1] if frame else [] for frame in frames]


def test_new_number_when_a_thing_is_far_away_or_of_another_class_or_long_gone() -> None:
    assert numbers([("a", 0, 0, 0.9)], [("a", 300, 0, 0.9)], [("b", 300, 0, 0.9)]) == [[1], [2], [3]]
    assert numbers([("a", 0, 0, 0.9)], *[[]] * 40, [("a", 0, 0, 0.9)])[-1] == [2]


def test_unsure_detection_kept_when_it_continues_a_track() -> None:
    assert numbers([("a", 0, 0, 0.2)], [("a", 0, 0, 0.9)], [("a", 2, 0, 0.2)], [("a", 15, 0, 0.2)]) == [
        [],
        [1],
        [1],
        [],
    ]


def test_sure_detection_first_when_an_unsure_one_fits_better() -> None:
    assert numbers([("a", 0, 0, 0.9)], [("a", 1, 0, 0.2), ("a", 4, 0, 0.9)]) == [[1], [1]]


def test_numbers_kept_when_many_things_cross() -> None:
    """Ten things on lines of their own, some of which meet, seen with noise in any order."""
    generator = np.random.default_rng(0)
    starts = generator.uniform(0, 600, (10, 2))
    speeds = generator.uniform(-6, 6, (10, 2))
    tracker, seen = Tracker(), {thing: set[int | None]() for thing in range(10)}
    for step in range(60):
        places = starts + speeds * step + generator.normal(0, 0.7, (10, 2))
        order = generator.permutation(10)
        sure, _ = detections([("a", *places[thing], 0.9) for thing in order])
        for thing, found in zip(order.tolist(), tracker.update(sure, []), strict=True):
            seen[thing].add(found.track)
    assert sum(len(found) == 1 for found in seen.values()) >= 9  # two that meet may change numbers
    assert len({number for found in seen.values() for number in found}) <= 11
