"""Keypoints are told from polygons by the values of all lines."""

import numpy as np
import pytest
from numpy.typing import NDArray

from runner.dataset.pose import keypoint_columns
from runner.errors import DatasetError

Numbers = NDArray[np.float64]


def boxes(count: int, largest: float = 0.3) -> Numbers:
    """Random boxes inside the picture: (count, 4), centre and size."""
    random = np.random.default_rng(0)
    sizes = random.uniform(0.05, largest, (count, 2))
    centres = sizes / 2 + random.uniform(0, 1, (count, 2)) * (1 - sizes)
    return np.hstack([centres, sizes])


def corners(of: Numbers) -> Numbers:
    """The corners of boxes, in their order around: (count, 4, 2)."""
    around = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    return of[:, None, :2] + around * of[:, None, 2:]


def lines(rows: Numbers) -> list[bytes]:
    return [("0 " + " ".join(f"{number:.6f}" for number in row)).encode() for row in rows]


def keypoints(of: Numbers, count: int, visible: bool) -> Numbers:
    random = np.random.default_rng(1)
    points = of[:, None, :2] + random.uniform(-0.5, 0.5, (len(of), count, 2)) * of[:, None, 2:]
    if visible:
        points = np.dstack([points, random.integers(0, 3, (len(of), count))])
        points[points[:, :, 2] == 0] = 0
    return np.hstack([of, points.reshape(len(of), -1)])


@pytest.mark.parametrize(
    "texts", [[], [b""], lines(boxes(3)), lines(np.hstack([boxes(3), boxes(3)[:, :1]])), [b"x " * 9]]
)
def test_there_are_none_when_lines_are_boxes_or_no_numbers(texts: list[bytes]) -> None:
    assert keypoint_columns(texts) == 0


@pytest.mark.parametrize(("count", "visible"), [(1, False), (2, False), (4, False), (17, False), (2, True), (17, True)])
def test_keypoints_are_known(count: int, visible: bool) -> None:
    assert keypoint_columns(lines(keypoints(boxes(40), count, visible))) == count * (3 if visible else 2)


def test_keypoints_are_known_when_some_lines_are_boxes_alone() -> None:
    assert keypoint_columns([*lines(keypoints(boxes(40), 3, True)), *lines(boxes(5))]) == 9


@pytest.mark.parametrize("largest", [0.1, 0.3, 0.9])
def test_polygons_are_none_when_all_have_as_many_points(largest: float) -> None:
    around = corners(boxes(40, largest))
    assert keypoint_columns(lines(around.reshape(40, -1))) == 0  # turned boxes have this form too
    triangles = around[:, [0, 2, 3]]
    assert keypoint_columns(lines(triangles.reshape(40, -1))) == 0
    middles = (around + np.roll(around, 1, axis=1)) / 2
    assert keypoint_columns(lines(np.stack([around, middles], axis=2).reshape(40, -1))) == 0


def test_polygons_are_none_when_their_sizes_differ() -> None:
    around = corners(boxes(2))
    assert keypoint_columns([*lines(around[:1].reshape(1, -1)), *lines(around[1:, :3].reshape(1, -1))]) == 0


def test_refused_when_lines_may_be_both() -> None:
    rows = np.tile([0.5, 0.5, 0.5, 0.5, 0.4, 0.5, 0.5, 0.4], (5, 1)) + np.arange(5)[:, None] / 1000
    rows[:, 7] -= 0.1  # no turned box
    with pytest.raises(DatasetError, match=r"9 columns.*`kpt_shape: \[0, 0\]`"):
        keypoint_columns(lines(rows))
