import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.stages.evaluate.metrics import (
    THRESHOLDS,
    Boxes,
    average_precision,
    best_threshold,
    count,
    match,
    overlaps,
    pairs,
)

NONE = Boxes(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0))


def boxes(*rows: tuple[float, float, float, float, int, float]) -> Boxes:
    """Boxes from rows of x1, y1, x2, y2, class id, confidence."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4].astype(np.int64), table[:, 5])


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Boxes, Boxes]:
    """Labelled and found boxes that crowd a small picture."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def crowd(count: int) -> Boxes:
        corners = random.integers(0, 12, (count, 2))
        sides = np.concatenate([corners, corners + random.integers(0, 9, (count, 2))], axis=1).astype(np.float64)
        return Boxes(sides, random.integers(0, 2, count), np.sort(random.random(count))[::-1])

    return crowd(draw(st.integers(0, 12))), crowd(draw(st.integers(0, 20)))


def test_no_figures_when_empty() -> None:
    figures = average_precision([NONE], [NONE], 2, 300)
    assert np.isnan(figures.map50).all()
    assert figures.curves.shape == (101, 2)
    assert match(NONE, NONE).shape == (0,)
    assert pairs(NONE, NONE) == []
    counts = count([], [], 2, np.array([0.5]))
    assert counts.f1.tolist() == counts.precision.tolist() == counts.recall.tolist() == [[0], [0]]


def test_figures_of_coco_when_all_or_half_is_found() -> None:
    # One of two airplanes found, below a false one: precision 1/2 up to a recall of 1/2, which is 51 of 101 recalls.
    truth = boxes((0, 0, 10, 10, 0, 1), (50, 50, 60, 60, 0, 1), (20, 20, 40, 40, 1, 1))
    found = boxes((20, 20, 40, 40, 1, 1), (80, 80, 90, 90, 0, 0.9), (0, 0, 10, 8, 0, 0.8))
    figures = average_precision([truth, NONE], [found, NONE], 3, 300)
    assert figures.map50 == pytest.approx([0.5 * 51 / 101, 1, np.nan], nan_ok=True)
    # An overlap of 0.8 counts from 0.5 to 0.8: seven of the ten.
    assert figures.map50_95 == pytest.approx([0.5 * 51 / 101 * 0.7, 1, np.nan], nan_ok=True)


def test_limited_when_more_is_found_than_counts() -> None:
    truth = boxes((0, 0, 10, 10, 0, 1))
    found = boxes(*[(50, 50, 60, 60, 0, 0.9 - i / 1000) for i in range(5)], (0, 0, 10, 10, 0, 0.1))
    assert average_precision([truth], [found], 1, 5).map50[0] == 0
    assert average_precision([truth], [found], 1, 6).map50[0] == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 10, 10), 1),
        ((5, 0, 15, 10), 1 / 3),
        ((10, 0, 20, 10), 0),
        ((30, 30, 40, 40), 0),
        ((2, 2, 2, 2), 0),
        ((0, 0, 5, 10), 0.5),
    ],
)
def test_overlap_when_of_two_boxes(other: tuple[float, float, float, float], expected: float) -> None:
    assert overlaps(np.array([[0.0, 0, 10, 10]]), np.array([other], np.float64))[0, 0] == pytest.approx(expected)


def test_most_confident_chooses_first_when_boxes_compete() -> None:
    truth = boxes((0, 0, 10, 10, 0, 1), (4, 0, 14, 10, 0, 1))
    found = boxes((3, 0, 13, 10, 0, 0.9), (4, 0, 14, 10, 0, 0.8), (0, 0, 10, 10, 0, 0.7), (0, 0, 10, 10, 1, 0.6))
    assert match(truth, found).tolist() == [1, -1, 0, -1]


def test_paired_across_classes_when_left_over() -> None:
    truth = boxes((0, 0, 10, 10, 0, 1), (50, 50, 60, 60, 1, 1), (90, 90, 99, 99, 1, 1))
    found = boxes((0, 0, 10, 10, 1, 0.9), (50, 50, 60, 60, 0, 0.8), (50, 50, 60, 61, 1, 0.7), (20, 20, 30, 30, 0, 0.6))
    assert pairs(truth, found) == [(0, 0), (1, 2), (2, -1), (-1, 1), (-1, 3)]


@given(pictures())
def test_each_box_is_paired_once_when_crowded(both: tuple[Boxes, Boxes]) -> None:
    truth, found = both
    said = pairs(truth, found)
    assert sorted(a for a, _ in said if a >= 0) == list(range(len(truth.class_ids)))
    assert sorted(p for _, p in said if p >= 0) == list(range(len(found.class_ids)))
    matched = {(int(a), p) for p, a in enumerate(match(truth, found)) if a >= 0}
    assert matched <= set(said)
    close = overlaps(truth.xyxy_px, found.xyxy_px)
    assert all(close[a, p] >= 0.5 for a, p in said if a >= 0 and p >= 0)


@given(pictures(), st.floats(0, 1))
def test_counts_agree_with_matching_when_above_a_threshold(both: tuple[Boxes, Boxes], threshold: float) -> None:
    truth, found = both
    counts = count([truth], [found], 2, np.array([threshold]))
    shown = found.take(np.flatnonzero(found.confidences > threshold))
    right = shown.class_ids[match(truth, shown) >= 0]
    assert counts.found[:, 0].tolist() == np.bincount(shown.class_ids, minlength=2).tolist()
    assert counts.right[:, 0].tolist() == np.bincount(right, minlength=2).tolist()
    assert counts.labelled.tolist() == np.bincount(truth.class_ids, minlength=2).tolist()
    assert (counts.f1 >= 0).all()
    assert (counts.f1 <= 1).all()


def test_threshold_is_the_middle_of_the_best_when_a_plateau() -> None:
    f1 = np.where((THRESHOLDS > 0.3) & (THRESHOLDS <= 0.401), 0.8, 0.1)
    assert best_threshold(f1) == pytest.approx(0.351)
    f1[600] = 0.8  # another, higher up, as good
    assert best_threshold(f1) == pytest.approx(0.351)
    assert best_threshold(np.zeros(999)) is None
    assert best_threshold(np.ones(999)) == pytest.approx(0.5)
