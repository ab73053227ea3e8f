"""Regions: Label Studio's boxes, in percent of the picture as a person sees it.

Format: https://labelstud.io/tags/rectanglelabels and https://labelstud.io/guide/export (units of image annotations).
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from runner.dataset.labels import SMALLEST

FROM_NAME, TO_NAME = "label", "image"  # tag names in the labelling configuration
ALIGNED = 0.01  # [degrees] a box turned by less than this from an axis is upright
AGREED = 0.5  # [IoU] two people's boxes of one label that overlap this much are of one thing
ONE_THING = 0.6  # [IoU] a model's boxes of two labels that overlap more are of one thing
_KIND = "rectanglelabels"


class LabelledBox(NamedTuple):
    """A labelled box: centre and size as fractions of the picture, 0 to 1."""

    label: str
    xywhn: tuple[float, float, float, float]

    @classmethod
    def from_corners(cls, label: str, xyxy: Sequence[float], size: tuple[float, float] = (1, 1)) -> Self:
        """Return the box with the corners x1 y1 x2 y2, in the unit of the picture's width and height; clipped to it."""
        x1, y1, x2, y2 = (min(max(value / size[place % 2], 0.0), 1.0) for place, value in enumerate(xyxy))
        return cls(label, ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))

    def iou(self, other: "LabelledBox") -> float:
        """Return the intersection over union with a box of any label, 0 to 1."""
        (x, y, w, h), (x2, y2, w2, h2) = self.xywhn, other.xywhn
        shared = max(min(x + w / 2, x2 + w2 / 2) - max(x - w / 2, x2 - w2 / 2), 0.0)
        shared *= max(min(y + h / 2, y2 + h2 / 2) - max(y - h / 2, y2 - h2 / 2), 0.0)
        union = w * h + w2 * h2 - shared
        return shared / union if union > 0 else 0.0


ScoredBox = tuple[LabelledBox, float]  # a model's box and its confidence, 0 to 1


@dataclass
class RegionBoxes:
    """Boxes of one picture, clipped to it, from its regions."""

    boxes: list[LabelledBox] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # regions that are no box of a known class: a pull stops
    notes: list[str] = field(default_factory=list)  # regions clipped, replaced by an upright box, or left out


def region(box: LabelledBox, size_px: tuple[int, int], number: int, confidence: float | None = None) -> dict[str, Any]:
    """Return a box in Label Studio's form; `number` makes its id. A confidence, 0 to 1, of None: drawn by a person.

    `size_px` is width and height of the picture as a person sees it.
    """
    x, y, w, h = box.xywhn
    value = {
        "x": 100 * (x - w / 2),
        "y": 100 * (y - h / 2),
        "width": 100 * w,
        "height": 100 * h,
        "rotation": 0,
        _KIND: [box.label],
    }
    made: dict[str, Any] = {
        "id": f"box{number}",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "type": _KIND,
        "original_width": size_px[0],
        "original_height": size_px[1],
        "image_rotation": 0,
        "value": value,
    }
    return made if confidence is None else {**made, "score": confidence}


def read_regions(result: object, classes: Collection[str], rotated: Literal["box", "refuse"]) -> RegionBoxes:
    """Read the regions of an annotation's unchecked `result`: each becomes a box, a problem, or a note.

    A turned box is replaced by the upright box around it (`box`), or is a problem (`refuse`). An empty box is left out
    beside others; alone it is a problem, since without it the picture would become background.
    """
    found = RegionBoxes()
    if not isinstance(result, list):
        found.problems.append("its result is not a list of regions; delete the annotation")
        return found
    empty: list[str] = []
    for number, each in enumerate(result, start=1):
        try:
            box = _read(each, classes, rotated, found.notes)
        except _RegionError as error:
            found.problems.append(f"region {number}: {error}")
        except _EmptyError as error:
            empty.append(f"region {number}: {error}")
        else:
            found.boxes.append(box)
    if found.boxes:
        found.notes += [f"{each}, left out" for each in empty]
    else:
        found.problems += [f"{each}; draw it again, or delete it and submit without a box" for each in empty]
    return found


def one_each(boxes: Sequence[ScoredBox]) -> list[ScoredBox]:
    """Return a model's boxes in their order, of a thing that it found as several classes only the most confident."""
    kept: list[ScoredBox] = []
    for box, score in sorted(boxes, key=lambda each: -each[1]):
        if all(box.label == other.label or box.iou(other) <= ONE_THING for other, _ in kept):
            kept.append((box, score))
    return [each for each in boxes if each in kept]


def agree(one: Sequence[LabelledBox], other: Sequence[LabelledBox]) -> bool:
    """Whether two people drew the same things: as many of each label, each box with a partner of at least `AGREED`."""
    found = (any(a.label == b.label and a.iou(b) >= AGREED for b in other) for a in one)
    return Counter(box.label for box in one) == Counter(box.label for box in other) and all(found)


def labels_of(result: object) -> set[str]:
    """Return the labels that the regions of an annotation use, of any region type; `result` is unchecked."""
    values = [each.get("value") for each in result if isinstance(each, Mapping)] if isinstance(result, list) else []
    lists = [each for value in values if isinstance(value, Mapping) for each in value.values()]
    return {label for each in lists if isinstance(each, list) for label in each if isinstance(label, str)}


class _RegionError(Exception):
    """A region that is not a box of a known class; the message says why and what to do."""


class _EmptyError(Exception):
    """A box of a known class that has no area in the picture; the message says which class."""


def _read(each: object, classes: Collection[str], rotated: str, notes: list[str]) -> LabelledBox:
    if not isinstance(each, Mapping) or not isinstance(value := each.get("value"), Mapping):
        raise _RegionError("not a region of Label Studio, expected a rectangle with a label; delete it")
    if each.get("type") != _KIND:
        raise _RegionError(f"a {str(each.get('type'))[:40]}, expected a rectangle with a label; draw it as one")
    labels = value.get(_KIND)
    labels = [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []
    if len(labels) != 1:
        raise _RegionError(f"{len(labels)} labels, expected one; choose it, or delete the box")
    if labels[0] not in classes:
        raise _RegionError(f"label {labels[0][:80]!r}, expected one of {', '.join(classes)}; choose another one")
    if each.get("image_rotation") not in (None, 0):
        raise _RegionError("drawn while the picture was turned in the editor, expected it upright; draw it again")
    x, y, w, h, turn = (_number(value, key) for key in ("x", "y", "width", "height", "rotation"))
    # Width and height are negative where the editor's user pulled a corner past the opposite one (label-studio#1141).
    (x1, x2), (y1, y2) = sorted((x, x + w)), sorted((y, y + h))
    corners = (x1 / 100, y1 / 100, x2 / 100, y2 / 100)
    if abs(turn % 360) >= ALIGNED and 360 - turn % 360 >= ALIGNED:
        askew = min(turn % 90, 90 - turn % 90) >= ALIGNED
        if askew and rotated == "refuse":
            raise _RegionError(f"turned by {turn:g} degrees, expected an upright box (labels.rotated is refuse)")
        size_px = (_number(each, "original_width"), _number(each, "original_height"))
        if min(size_px) <= 0:
            raise _RegionError("turned, and the size of its picture is missing; draw it upright")
        corners = _around((x, y, w, h), turn, size_px)
        if askew:
            notes.append(f"{labels[0]}: turned by {turn:g} degrees, replaced by the upright box around it")
    return _clip(labels[0], corners, notes)


def _around(xywh: tuple[float, ...], degrees: float, size_px: tuple[float, float]) -> tuple[float, float, float, float]:
    """Return the corners of the upright box around a turned one, as fractions.

    Label Studio turns a box clockwise about its upper left corner, in pixels (not in percent). `xywh` is that corner,
    width and height, in percent; `size_px` is the picture's width and height.
    """
    x, y, w, h = (part / 100 * size_px[place % 2] for place, part in enumerate(xywh))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    xs = [x, x + w * cos, x + w * cos - h * sin, x - h * sin]
    ys = [y, y + w * sin, y + w * sin + h * cos, y + h * cos]
    return min(xs) / size_px[0], min(ys) / size_px[1], max(xs) / size_px[0], max(ys) / size_px[1]


def _clip(label: str, corners: tuple[float, float, float, float], notes: list[str]) -> LabelledBox:
    box = LabelledBox.from_corners(label, corners)
    if min(box.xywhn[2:]) < SMALLEST:
        raise _EmptyError(f"{label}: empty or outside the picture")
    if max(max(-corner, corner - 1) for corner in corners) > 1e-4:
        notes.append(f"{label}: crossed the edge of the picture, clipped")
    return box


def _number(values: Mapping[str, Any], key: str) -> float:
    found = values.get(key, 0.0 if key == "rotation" else None)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise _RegionError(f"{key} is {str(found)[:40]}, expected a number; delete the box")
    return float(found)
