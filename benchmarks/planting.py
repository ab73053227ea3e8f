"""Errors planted into the labels of a prepared dataset: boxes dropped, added, of another class, or shifted."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.stages.evaluate.metrics import overlaps

KINDS = ("dropped", "added", "swapped", "shifted")
SHIFT = (0.25, 0.4)  # of the box's sides, on both axes: an overlap of 0.2 to 0.4 with the right box
Rows = NDArray[np.float64]  # (N, 5): class, then centre and size as fractions of the picture


class Planted(NamedTuple):
    """An error in the labels."""

    kind: str  # one of KINDS
    image: str
    box: list[float]  # x1 y1 x2 y2, fractions of the picture: as labelled now, or the dropped one


def read_labels(text: str) -> Rows:
    """Return the boxes of label lines."""
    return np.array([line.split() for line in text.splitlines()], np.float64).reshape(-1, 5)


def label_text(rows: Rows) -> str:
    """Return the label lines of boxes."""
    return "".join(f"{int(row[0])} {' '.join(f'{value:.6f}' for value in row[1:])}\n" for row in rows)


def plant(labels: Mapping[str, Rows], classes: int, share: float, seed: int) -> tuple[dict[str, Rows], list[Planted]]:
    """Return labels with errors, and the errors: a share of all boxes, of each kind as many; a box has one at most.

    With one class, none is swapped. An added box has the size of another one, and touches no box of its picture.
    """
    random = np.random.default_rng(seed)
    kinds = KINDS if classes > 1 else tuple(kind for kind in KINDS if kind != "swapped")
    boxes = [(image, place) for image in sorted(labels) for place in range(len(labels[image]))]
    chosen = random.permutation(len(boxes))[: max(len(kinds), round(share * len(boxes)))]
    changed = {image: rows.copy() for image, rows in labels.items()}
    drop: set[tuple[str, int]] = set()
    planted: list[Planted] = []
    for number, at in enumerate(chosen):
        (image, place), kind = boxes[at], kinds[number % len(kinds)]
        if kind == "added":
            image, row = _added(changed, labels[image][place], classes, random)
            changed[image] = np.concatenate([changed[image], row[None]])
        else:
            row = changed[image][place]
            if kind == "dropped":
                drop.add((image, place))
            elif kind == "swapped":
                row[0] = (row[0] + random.integers(1, classes)) % classes
            else:
                row[1:3] = _shifted(row[1:], random)
        planted.append(Planted(kind, image, corners(row[None])[0].tolist()))
    for image in {image for image, _ in drop}:
        gone = [place for own, place in drop if own == image]
        changed[image] = np.delete(changed[image], gone, axis=0)
    return changed, planted


def corners(rows: Rows) -> NDArray[np.float64]:
    """Return (N, 4): x1 y1 x2 y2 as fractions."""
    return np.concatenate([rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 1:3] + rows[:, 3:5] / 2], axis=1)


def _added(labels: Mapping[str, Rows], like: Rows, classes: int, random: np.random.Generator) -> tuple[str, Rows]:
    images = sorted(labels)
    while True:
        image = images[random.integers(len(images))]
        centre = random.uniform(like[3:5] / 2, 1 - like[3:5] / 2)
        row = np.array([random.integers(classes), *centre, *like[3:5]])
        if not overlaps(corners(row[None]), corners(labels[image])).any():
            return image, row


def _shifted(xywhn: Rows, random: np.random.Generator) -> Rows:
    """Return a centre such that the box stays in the picture."""
    half = xywhn[2:] / 2
    step = random.uniform(*SHIFT, 2) * xywhn[2:] * random.choice([-1, 1], 2)
    centre = xywhn[:2] + step
    outside = (centre < half) | (centre > 1 - half)
    return np.clip(np.where(outside, xywhn[:2] - step, centre), half, 1 - half)
