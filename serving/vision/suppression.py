"""Non-maximum suppression: from a model's raw output to detections.

The semantics are those of Ultralytics' `non_max_suppression` (8.4), but classes are separated exactly instead of by an
offset that costs precision.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_CANDIDATES = 30_000
_BLOCK = 128  # candidates compared with each other at once


@dataclass(frozen=True)
class Rows:
    """Found boxes."""

    boxes_xyxy_px: NDArray[np.float32]  # (N, 4), pixels of the model's input, x1 y1 x2 y2
    confidences: NDArray[np.float32]  # (N,), 0 to 1
    class_ids: NDArray[np.intp]  # (N,)

    def take(self, index: NDArray[np.intp]) -> "Rows":
        """Return the rows at these positions."""
        return Rows(self.boxes_xyxy_px[index], self.confidences[index], self.class_ids[index])

    def best(self, limit: int) -> "Rows":
        """Return the `limit` most confident rows, sorted; the sort is stable."""
        return self.take(np.argsort(-self.confidences, kind="stable")[:limit])


def from_grid(output: NDArray[np.float32], thresholds: NDArray[np.float32], *, multi_label: bool) -> Rows:
    """Return rows above their threshold in the output of a model that needs suppression.

    Args:
        output: (4 + classes, A) float32: cx cy w h in pixels of the input, then a score per class.
        thresholds: (classes,) float32; a score must be above its class's. inf excludes a class.
        multi_label: True: every class above its threshold counts; False: a box's best class only.
    """
    scores = output[4:]
    anchors = np.flatnonzero(scores.max(axis=0) > thresholds.min())
    if multi_label and len(scores) > 1:
        ranks, class_ids = np.nonzero(np.greater(scores[:, anchors].T, thresholds))
        anchors = anchors[ranks]
    else:
        # The best class is chosen among all classes, wanted or not, as in Ultralytics.
        class_ids = scores[:, anchors].argmax(axis=0)
        above = scores[class_ids, anchors] > thresholds[class_ids]
        anchors, class_ids = anchors[above], class_ids[above]
    centre, half = output[:2, anchors].T, output[2:4, anchors].T / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return _finite(Rows(boxes, scores[class_ids, anchors], class_ids))


def from_list(output: NDArray[np.float32], thresholds: NDArray[np.float32]) -> Rows:
    """Return rows above their threshold in the output of an end-to-end model.

    Args:
        output: (K, 6) float32: x1 y1 x2 y2 in pixels of the input, confidence, class id.
        thresholds: (classes,) float32; a confidence must be above its class's. inf excludes a class.
    """
    known = (output[:, 5] >= 0) & (output[:, 5] < len(thresholds))
    output = output[known]
    class_ids = output[:, 5].astype(np.int64)
    rows = Rows(output[:, :4], output[:, 4], class_ids)
    return _finite(rows.take(np.flatnonzero(rows.confidences > thresholds[class_ids])))


def suppress(rows: Rows, *, iou: float, limit: int) -> Rows:
    """Return at most `limit` rows, sorted: of two boxes of a class that overlap by more than `iou`, the more confident.

    The candidates are in any order; only the 30,000 most confident are used.
    """
    rows = rows.best(MAX_CANDIDATES)
    kept: list[NDArray[np.intp]] = []
    found = 0
    waiting: NDArray[np.intp] = np.arange(len(rows.confidences))
    while waiting.size and found < limit:
        block, waiting = waiting[:_BLOCK], waiting[_BLOCK:]
        rivals = _overlap(rows, block, block, iou)
        alive = np.ones(len(block), np.bool_)
        for place in range(len(block)):
            if alive[place]:
                alive[place + 1 :] &= ~rivals[place, place + 1 :]
        kept.append(block[alive])
        found += len(kept[-1])
        if waiting.size and found < limit:
            waiting = waiting[~_overlap(rows, kept[-1], waiting, iou).any(axis=0)]
    return rows.take(np.concatenate(kept)[:limit]) if kept else rows


def _overlap(rows: Rows, these: NDArray[np.intp], those: NDArray[np.intp], iou: float) -> NDArray[np.bool_]:
    """Return (these, those) bool: same class, and intersection over union above iou."""
    a, b = rows.boxes_xyxy_px[these], rows.boxes_xyxy_px[those]
    width = np.minimum.outer(a[:, 2], b[:, 2]) - np.maximum.outer(a[:, 0], b[:, 0])
    height = np.minimum.outer(a[:, 3], b[:, 3]) - np.maximum.outer(a[:, 1], b[:, 1])
    shared = np.maximum(width, 0, out=width)
    shared *= np.maximum(height, 0, out=height)
    union = np.add.outer(_areas(a), _areas(b)) - shared
    # No division by the union, which may be 0.
    rivals: NDArray[np.bool_] = np.equal.outer(rows.class_ids[these], rows.class_ids[those])
    rivals &= shared > np.float32(iou) * union
    return rivals


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    # An inverted box (the raw list of YOLO26 may have some) overlaps nothing; its negative area would.
    sides: NDArray[np.float32] = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    areas: NDArray[np.float32] = sides[:, 0] * sides[:, 1]
    return areas


def _finite(rows: Rows) -> Rows:
    return rows.take(np.flatnonzero(np.isfinite(rows.boxes_xyxy_px).all(axis=1)))
