"""Detection metrics: COCO average precision, and counts at thresholds.

Average precision comes from faster-coco-eval. Precision, recall and confusion at a threshold use the same matching at
an overlap of 0.5: in order of confidence, each found box takes the free labelled box of its class that it overlaps
most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

OVERLAP = 0.5  # lowest intersection over union of a match
THRESHOLDS = np.arange(1, 1000) / 1000  # candidate confidences for the best threshold
FALLBACK = 0.25  # threshold without usable boxes in val: the default of Ultralytics' predict

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Boxes:
    """Labelled or found boxes of one picture; found ones sorted by confidence, highest first."""

    xyxy_px: Floats  # (N, 4) float64, pixels of the upright picture. N may be 0
    class_ids: Ids  # (N,) int64
    confidences: Floats  # (N,) float64, 0 to 1; 1 for labelled boxes

    def take(self, index: NDArray[np.intp]) -> "Boxes":
        """Return the boxes at these positions."""
        return Boxes(self.xyxy_px[index], self.class_ids[index], self.confidences[index])


class AveragePrecision(NamedTuple):
    """Average precision per class, nan for a class without labelled boxes."""

    map50: Floats  # (classes,) at an overlap of 0.5
    map50_95: Floats  # (classes,) mean over overlaps of 0.5, 0.55 … 0.95
    curves: Floats  # (101, classes) precision at recalls of 0, 0.01 … 1, at an overlap of 0.5


def average_precision(
    labelled: Sequence[Boxes], found: Sequence[Boxes], classes: int, max_detections: int
) -> AveragePrecision:
    """Return COCO average precision over many pictures (101 recalls; up to max_detections per picture)."""
    truth = COCO(
        {
            "images": [{"id": number} for number in range(len(labelled))],
            "categories": [{"id": number, "name": str(number)} for number in range(classes)],
            "annotations": _annotations(labelled),
        }
    )
    evaluation = COCOeval_faster(truth, truth.loadRes(_annotations(found)), "bbox", extra_calc=False)
    evaluation.params.maxDets = [max_detections]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    # (overlaps, recalls, classes); -1 where a class has no labelled box.
    precision = np.asarray(evaluation.eval["precision"], np.float64)[:, :, :, 0, -1]
    precision[precision < 0] = np.nan
    return AveragePrecision(precision[0].mean(axis=0), precision.mean(axis=(0, 1)), precision[0])


def _annotations(pictures: Sequence[Boxes]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    outline: list[float] = []  # shared and empty: otherwise the library makes one per box, which doubles the memory
    for picture, boxes in enumerate(pictures):
        sizes = boxes.xyxy_px[:, 2:] - boxes.xyxy_px[:, :2]
        xywh = np.concatenate([boxes.xyxy_px[:, :2], sizes], axis=1).tolist()
        for box, class_id, score in zip(xywh, boxes.class_ids.tolist(), boxes.confidences.tolist(), strict=True):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": picture,
                    "category_id": class_id,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                    "segmentation": outline,
                }
            )
    return rows


def overlaps(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Return (N, M) intersection over union, 0 to 1, of (N, 4) with (M, 4) boxes; 0 for two empty boxes."""
    corner = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    sides = np.clip(np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:]) - corner, 0, None)
    shared: Floats = sides[..., 0] * sides[..., 1]
    areas = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (a_xyxy, b_xyxy)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def match(labelled: Boxes, found: Boxes) -> NDArray[np.intp]:
    """Return the position of the matched labelled box for each found box, or -1.

    Dropping the least confident found boxes does not change the matches of the others.
    """
    matches = np.full(len(found.class_ids), -1, np.intp)
    close = overlaps(found.xyxy_px, labelled.xyxy_px)
    close[found.class_ids[:, None] != labelled.class_ids[None, :]] = 0
    close[close < OVERLAP] = 0
    for position in np.flatnonzero(close.any(axis=1)):
        best = int(close[position].argmax())
        if close[position, best] > 0:
            matches[position] = best
            close[:, best] = 0
    return matches


def matched(labelled: Sequence[Boxes], found: Sequence[Boxes]) -> tuple[Ids, Floats, NDArray[np.bool_]]:
    """Return the class ids and confidences of all found boxes, and whether each matches a labelled one."""
    right = [match(truth, each) >= 0 for truth, each in zip(labelled, found, strict=True)]
    return (
        np.concatenate([np.zeros(0, np.int64), *(each.class_ids for each in found)]),
        np.concatenate([np.zeros(0), *(each.confidences for each in found)]),
        np.concatenate([np.zeros(0, bool), *right]),
    )


def pairs(labelled: Boxes, found: Boxes) -> list[tuple[int, int]]:
    """Return pairs of positions in labelled and found, -1 where there is no counterpart.

    Matches within a class come first; the rest are paired across classes, the largest overlap first.
    """
    matches = match(labelled, found)
    taken = [(int(matches[position]), int(position)) for position in np.flatnonzero(matches >= 0)]
    close = overlaps(labelled.xyxy_px, found.xyxy_px)
    close[[pair[0] for pair in taken], :] = 0
    close[:, [pair[1] for pair in taken]] = 0
    while close.size and close.max() >= OVERLAP:
        actual, predicted = np.unravel_index(int(close.argmax()), close.shape)
        taken.append((int(actual), int(predicted)))
        close[actual, :] = 0
        close[:, predicted] = 0
    missed = sorted(set(range(len(labelled.class_ids))) - {pair[0] for pair in taken})
    invented = sorted(set(range(len(found.class_ids))) - {pair[1] for pair in taken})
    return sorted(taken) + [(position, -1) for position in missed] + [(-1, position) for position in invented]


@dataclass(frozen=True)
class Counts:
    """Counts per class and threshold; a found box counts if its confidence is above the threshold."""

    right: Ids  # (classes, thresholds) found boxes that match a labelled one
    found: Ids  # (classes, thresholds) found boxes
    labelled: Ids  # (classes,) labelled boxes

    @property
    def precision(self) -> Floats:
        """Precision (classes, thresholds), 0 to 1: fraction of found boxes that are right; 0 for none found."""
        return np.asarray(self.right / np.maximum(self.found, 1), np.float64)

    @property
    def recall(self) -> Floats:
        """Recall (classes, thresholds), 0 to 1: fraction of labelled boxes that were found; 0 for none labelled."""
        return np.asarray(self.right / np.maximum(self.labelled, 1)[:, None], np.float64)

    @property
    def f1(self) -> Floats:
        """F1 (classes, thresholds), 0 to 1: harmonic mean of precision and recall."""
        return np.asarray(2 * self.right / np.maximum(self.found + self.labelled[:, None], 1), np.float64)


def count(labelled: Sequence[Boxes], found: Sequence[Boxes], classes: int, thresholds: Floats) -> Counts:
    """Count matches above each threshold, over many pictures."""
    class_ids, confidences, correct = matched(labelled, found)
    right, total = np.zeros((2, classes, len(thresholds)), np.int64)
    for class_id in range(classes):
        for out, wanted in ((right, correct), (total, np.ones_like(correct))):
            ranked = np.sort(confidences[wanted & (class_ids == class_id)])
            out[class_id] = len(ranked) - np.searchsorted(ranked, thresholds, side="right")
    truths = np.concatenate([np.zeros(0, np.int64), *(each.class_ids for each in labelled)])
    return Counts(right, total, np.bincount(truths, minlength=classes))


def best_threshold(f1: Floats) -> float | None:
    """Return the middle of the lowest plateau of the best F1, (999,) at THRESHOLDS; None where F1 is 0 throughout."""
    if f1.max() <= 0:
        return None
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    plateau = best[: np.flatnonzero(np.diff(best, append=best[-1] + 2) > 1)[0] + 1]
    return float(THRESHOLDS[plateau[(len(plateau) - 1) // 2]])
