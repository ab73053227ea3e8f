import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.vision.suppression import Rows, from_grid, from_list, suppress


@st.composite
def candidates(draw: st.DrawFn) -> Rows:
    """Boxes crowded enough to overlap, with equal confidences among them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(0, 300))
    corners = random.integers(0, draw(st.sampled_from([20, 100])), (count, 2))
    boxes = np.concatenate([corners, corners + random.integers(0, 30, (count, 2))], axis=1).astype(np.float32)
    confidences = (random.integers(0, 50, count) / 50).astype(np.float32)
    return Rows(boxes, confidences, random.integers(0, draw(st.sampled_from([1, 3])), count))


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, float(width)) * max(0.0, float(height))
    union = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - shared
    return shared / union if union else 0.0


def rivals(rows: Rows, i: int, j: int, iou: float) -> bool:
    return bool(rows.class_ids[i] == rows.class_ids[j]) and overlap(rows.boxes_xyxy_px[i], rows.boxes_xyxy_px[j]) > iou


@given(candidates(), st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.integers(1, 400))
def test_same_as_one_by_one_when_suppressed(rows: Rows, iou: float, limit: int) -> None:
    ranked = rows.best(len(rows.confidences))
    kept: list[int] = []
    for i in range(len(ranked.confidences)):
        if not any(rivals(ranked, i, j, iou) for j in kept):
            kept.append(i)
    expected = ranked.take(np.array(kept[:limit], np.intp))
    found = suppress(rows, iou=iou, limit=limit)
    assert np.array_equal(found.boxes_xyxy_px, expected.boxes_xyxy_px)
    assert np.array_equal(found.confidences, expected.confidences)
    assert np.array_equal(found.class_ids, expected.class_ids)


#                      cx cy w h, airplane, helicopter
GRID = np.array([[10, 10, 4, 2, 0.6, 0.5], [20, 20, 6, 6, 0.1, 0.3], [5, 5, 2, 2, 0.0, 0.0]], np.float32).T


@pytest.mark.parametrize(
    ("thresholds", "multi_label", "expected"),
    [
        ([0.25, 0.25], False, [(0, 0.6), (1, 0.3)]),
        ([0.25, 0.25], True, [(0, 0.6), (1, 0.5), (1, 0.3)]),
        ([0.25, 0.4], False, [(0, 0.6)]),
        ([0.7, 0.4], True, [(1, 0.5)]),
        ([np.inf, 0.25], False, [(1, 0.3)]),  # the first box is best an airplane, which is not wanted
        ([0.6, 0.25], False, [(1, 0.3)]),  # above, not at
        ([np.inf, np.inf], True, []),
        ([np.inf, np.inf], False, []),
    ],
)
def test_rows_above_their_threshold_when_a_grid(
    thresholds: list[float], multi_label: bool, expected: list[tuple[int, float]]
) -> None:
    rows = from_grid(GRID, np.array(thresholds, np.float32), multi_label=multi_label)
    found = zip(rows.class_ids.tolist(), rows.confidences.tolist(), strict=True)
    assert [(class_id, round(confidence, 3)) for class_id, confidence in found] == expected
    assert rows.boxes_xyxy_px.shape == (len(expected), 4)


def test_corners_or_nothing_when_a_grid() -> None:
    rows = from_grid(GRID, np.array([0.25, 0.25], np.float32), multi_label=False)
    assert rows.boxes_xyxy_px.tolist() == [[8, 9, 12, 11], [17, 17, 23, 23]]
    assert len(from_grid(np.empty((6, 0), np.float32), np.zeros(2, np.float32), multi_label=True).confidences) == 0


def test_left_out_when_not_finite() -> None:
    grid = [[np.nan, 1, 1, 1, 0.9], [np.inf, 1, 1, 1, 0.9], [1, 1, 1, 1, np.nan], [1, 1, 2, 2, 0.8]]
    rows = from_grid(np.array(grid, np.float32).T, np.array([0.25], np.float32), multi_label=False)
    assert rows.confidences.tolist() == [np.float32(0.8)]


def test_rows_above_their_threshold_when_a_list() -> None:
    output = [[0, 0, 4, 4, *row] for row in ((0.9, 0), (0.5, 1), (0.4, 1), (0.9, 7), (0, -1))]
    rows = from_list(np.array(output, np.float32), np.array([0.25, 0.4], np.float32))
    assert rows.class_ids.tolist() == [0, 1]
    assert from_list(np.empty((0, 6), np.float32), np.zeros(2, np.float32)).boxes_xyxy_px.shape == (0, 4)


def test_nothing_dropped_when_a_box_is_inverted() -> None:
    boxes = np.array([[30, 30, 10, 10], [10, 10, 30, 30], [12, 12, 20, 20], [5, 40, 9, 2]], np.float32)
    rows = Rows(boxes, np.array([0.9, 0.8, 0.7, 0.95], np.float32), np.zeros(4, np.intp))
    assert len(suppress(rows, iou=0.5, limit=9).confidences) == 4
