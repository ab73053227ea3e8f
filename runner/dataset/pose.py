"""Pose labels: lines of `class x y w h`, then the keypoints, each x y or x y v (visible: 0, 1 or 2).

By their number of columns alone they may be polygons, `class x1 y1 x2 y2 …`. Polygons of different sizes cannot be pose
labels; where all are alike, `kpt_shape` of data.yaml decides, and without it the values of all lines together.
Formats: https://docs.ultralytics.com/datasets/pose/ and https://docs.ultralytics.com/datasets/segment/
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from runner.dataset.labels import ROUNDING, decode_lines
from runner.errors import DatasetError

_SURE, _UNLIKELY = 0.9, 0.5  # [share of lines] that fit a reading
_MARGIN = 0.1  # [share of the box's side] by which keypoints may leave the box


def keypoint_columns(texts: Iterable[bytes]) -> int:
    """Return the number of columns after `class x y w h` that are keypoints, by the values of label files; 0: none.

    DatasetError if the lines may as well be polygons.
    """
    lines = [line.split() for text in texts for line in decode_lines(text, "replace")]
    counts = {len(columns) for columns in lines if len(columns) > 6}
    if len(counts) != 1:
        return 0
    (count,) = counts
    try:
        rows = np.array([columns[1:] for columns in lines if len(columns) == count], dtype=np.float64)
    except ValueError:  # no numbers: `parse_labels` says which
        return 0
    pose = max((_fits_pose(rows, step) for step in (2, 3) if not (count - 5) % step), default=0.0)
    polygon = _fits_polygon(rows) if count % 2 else 0.0
    if pose >= _SURE > polygon:
        return count - 5
    if pose < _UNLIKELY or polygon >= _SURE > pose:
        return 0
    raise DatasetError(
        f"the label lines have {count} columns, of boxes with keypoints or of polygons; expected boxes: export "
        "these, or write `kpt_shape: [n, 2 or 3]` for n keypoints into data.yaml, `kpt_shape: [0, 0]` for polygons"
    )


def _fits_pose(rows: NDArray[np.float64], step: int) -> float:
    """Return the share of lines whose first four numbers are a box around the others, keypoints of `step` numbers."""
    x, y, w, h = (rows[:, [place]] for place in range(4))
    points = rows[:, 4:].reshape(len(rows), -1, step)
    across, down = points[:, :, 0], points[:, :, 1]
    missing = (across == 0) & (down == 0)
    if step == 3:
        if not np.isin(points[:, :, 2], (0, 1, 2)).all():
            return 0.0
        missing |= points[:, :, 2] == 0
    reach = 0.5 + _MARGIN
    inside = (np.abs(across - x) <= reach * w) & (np.abs(down - y) <= reach * h)
    sides = np.hstack([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    is_box = (np.minimum(w, h)[:, 0] > 0) & (np.abs(sides - 0.5) <= 0.5 + ROUNDING).all(axis=1)
    return float(((inside | missing).all(axis=1) & is_box).mean())


def _fits_polygon(rows: NDArray[np.float64]) -> float:
    """Return the share of lines inside the picture whose second point, w h of a box, is near the others."""
    points = rows.reshape(len(rows), -1, 2)
    if points.shape[1] == 4 and (np.abs(points[:, 0] + points[:, 2] - points[:, 1] - points[:, 3]) < 0.02).all():
        return 1.0  # parallelograms: boxes that are turned
    others = np.delete(points, 1, axis=1)
    low, high = others.min(axis=1), others.max(axis=1)
    reach = (high - low).max(axis=1, keepdims=True)
    near = ((points[:, 1] >= low - reach) & (points[:, 1] <= high + reach)).all(axis=1)
    return float((near & (np.abs(rows - 0.5) <= 0.55).all(axis=1)).mean())
