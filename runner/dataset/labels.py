"""YOLO label files: a tolerant parser that reports every line left out or repaired.

A label line is `class x y w h`: the class id, then the box's centre and size as fractions of the picture (0-1).
Also accepted: a confidence as a sixth column, a polygon `class x1 y1 x2 y2 x3 y3 …` of three points or more, and
keypoints after the box where the dataset has such (`runner.dataset.pose`).
Format: https://docs.ultralytics.com/datasets/detect/
"""

import codecs
import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runner.config.schema import PrepareConfig

ClassIds = NDArray[np.int64]
Boxes = NDArray[np.float64]
_Box = tuple[float, float, float, float]  # xywhn

ROUNDING = 1e-4  # [fraction] a box over the frame by no more is a rounding error of its tool: clipped without a note
SMALLEST = 1e-6  # [fraction] a smaller side is written as 0.000000
LARGEST = 3.0  # [fraction] a larger number is most likely in pixels

_ANY = 10**9  # [classes] more than any dataset has
_CLIPPED = "clipped to the picture"
_LINE_END = re.compile(r"\r\n|\n|\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Labels:
    """Boxes of one picture, and the problems of its label file."""

    class_ids: ClassIds  # (N,) int64, 0 to classes - 1. N may be 0: a background picture
    boxes_xywhn: Boxes  # (N, 4) float64, centre and size, inside [0, 1]
    problems: list[str]  # one message for each line left out
    notes: list[str]  # one message for each repaired line, and for each duplicate of an earlier line
    clipped: int = 0  # boxes that left the picture by more than ROUNDING

    @property
    def unusable(self) -> str | None:
        """Why the picture must leave with its labels: without them it would be background, with objects in it."""
        if not self.problems or len(self.class_ids):
            return None
        return f"none of its label lines can be used, the first: {self.problems[0]}"


class _LineError(Exception):
    """Reason to leave a line out: the value found and the value expected."""


def parse_labels(text: bytes, *, where: str, classes: int, keypoints: int = 0) -> Labels:
    """Parse a label file of a dataset of so many classes; accepts blank lines, tabs, Windows line ends and a BOM.

    `keypoints` is the number of columns after `class x y w h` that the dataset's keypoints take; they are dropped.
    Every line left out is a problem and every line changed a note, each as `where:line: reason`.
    """
    class_ids: list[int] = []
    boxes: list[_Box] = []
    problems: list[str] = []
    notes: list[str] = []
    clipped = 0
    first_seen: dict[str, int] = {}
    for number, line in enumerate(decode_lines(text, "replace"), start=1):
        columns = line.split()
        if not columns:
            continue
        try:
            class_id, box, repairs = _read_line(columns, classes, keypoints)
        except _LineError as bad:
            problems.append(f"{where}:{number}: {bad}")
            continue
        key = _line(class_id, *box)
        if key in first_seen:
            notes.append(f"{where}:{number}: the same box as in line {first_seen[key]}, kept once")
            continue
        first_seen[key] = number
        clipped += any(_CLIPPED in repair for repair in repairs)
        notes += [f"{where}:{number}: {repair}" for repair in repairs]
        class_ids.append(class_id)
        boxes.append(box)
    return Labels(
        np.array(class_ids, dtype=np.int64), np.array(boxes, dtype=np.float64).reshape(-1, 4), problems, notes, clipped
    )


def count_label_lines(text: bytes) -> int:
    """Return the number of lines that begin with five numbers, right or wrong: of a README or a class list, 0."""
    lines = (line.split()[:5] for line in decode_lines(text, "replace"))
    return sum(len(columns) == 5 and all(map(_NUMBER.fullmatch, columns)) for columns in lines)


def format_labels(class_ids: ArrayLike, boxes_xywhn: ArrayLike) -> str:
    """Return N label lines with six decimals, from (N,) ids and (N, 4) centres and sizes, 0-1; N may be 0."""
    ids = np.asarray(class_ids, dtype=np.int64).reshape(-1)
    boxes = np.asarray(boxes_xywhn, dtype=np.float64).reshape(-1, 4)
    return "".join(_line(class_id, *box) for class_id, box in zip(ids.tolist(), boxes.tolist(), strict=True))


def label_text(labels: Labels) -> str:
    """Return the canonical label lines of a picture: six decimals, sorted, each box once.

    Reading the lines and writing them again gives the same lines: a box that rounding moved over the frame is clipped.
    """
    text = _canonical(labels)
    while text and (again := _canonical(parse_labels(text.encode(), where="", classes=_ANY))) != text:
        text = again
    return text


def too_many_clipped(clipped: int, boxes: int, limits: PrepareConfig) -> list[str]:
    """Return the reason against labels of which so many leave the picture, if it is one."""
    if clipped <= limits.max_clipped * boxes:
        return []
    return [
        f"{clipped:,} of {boxes:,} boxes leave the picture, expected at most prepare.max_clipped = "
        f"{limits.max_clipped:g} of them; are they corners (x1 y1 x2 y2), or a corner and a size, not centre "
        "and size?"
    ]


def turn_boxes(boxes_xywhn: ArrayLike, orientation: int) -> Boxes:
    """Map boxes of the stored picture to the upright picture.

    Args:
        boxes_xywhn: (N, 4) float, centre and size in the stored picture, 0-1. N may be 0.
        orientation: EXIF tag 0x0112, 1-8; other values count as 1, as in PIL.ImageOps.exif_transpose.
    Returns:
        (N, 4) float64, centre and size in the upright picture, 0-1; row i stays row i.
    """
    x, y, w, h = np.asarray(boxes_xywhn, dtype=np.float64).reshape(-1, 4).T
    turned = {
        2: (1 - x, y, w, h),
        3: (1 - x, 1 - y, w, h),
        4: (x, 1 - y, w, h),
        5: (y, x, h, w),
        6: (1 - y, x, h, w),
        7: (1 - y, 1 - x, h, w),
        8: (y, 1 - x, h, w),
    }.get(orientation, (x, y, w, h))
    return np.stack(turned, axis=1)


def decode_lines(text: bytes, errors: str = "strict") -> list[str]:
    """Return the lines of a UTF-8 text, or of a UTF-16 one with a BOM, with any line ends; `errors` as in `decode`."""
    utf16 = text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return _LINE_END.split(text.decode("utf-16" if utf16 else "utf-8-sig", errors))


def not_utf8(error: UnicodeDecodeError) -> str:
    """Return the line, and what is wrong there, of a text that `decode_lines` refused."""
    line = error.object[: error.start].count(b"\n") + 1
    return f":{line}: not UTF-8 text ({error.reason})"


def _line(class_id: int, x: float, y: float, w: float, h: float) -> str:
    return f"{class_id} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"


def _canonical(labels: Labels) -> str:
    lines = set(format_labels(labels.class_ids, labels.boxes_xywhn).splitlines(keepends=True))
    return "".join(sorted(lines, key=lambda line: (int(line.partition(" ")[0]), line)))


def _read_line(columns: list[str], classes: int, keypoints: int) -> tuple[int, _Box, list[str]]:
    """Parse the columns of a line into class id, box inside the frame, and repairs."""
    count = len(columns)
    if count < 5:
        found = f" ({columns[0][:40]!r})" if count == 1 else "s"
        raise _LineError(f"{count} column{found}, expected 5: class x y w h, with blanks between them")
    if keypoints:
        if count not in (5, 5 + keypoints):
            raise _LineError(f"{count} columns, expected 5 (class x y w h) or {5 + keypoints}, with the keypoints")
        columns, count = columns[:5], 5
    if count > 6 and count % 2 == 0:
        raise _LineError(f"{count} columns, expected 5 (class x y w h) or a polygon (class and three or more x y)")
    numbers = [_read_number(column) for column in columns]
    class_id = _read_class(numbers[0], columns[0], classes)
    if count > 6:
        _check_fractions(numbers[1:])
        xs, ys = numbers[1::2], numbers[2::2]
        x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
        box, repairs = _clip(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
        return class_id, box, [f"polygon of {len(xs)} points turned into its box, expected class x y w h", *repairs]
    x, y, w, h = numbers[1:5]
    _check_fractions([x, y, w, h])
    box, repairs = _clip((x, y, w, h))
    if count == 6:
        if not numbers[5].is_integer() and not 0 <= numbers[5] <= 1:
            raise _LineError(
                f"sixth column {columns[5][:40]}, neither a confidence (0-1) nor a number of a track; expected boxes "
                "that are not turned (is it an angle?)"
            )
        repairs.append(f"sixth column {columns[5][:40]} ignored (a confidence?), expected 5: class x y w h")
    return class_id, box, repairs


def _clip(box: _Box) -> tuple[_Box, list[str]]:
    """Clip a box to the frame and report it; a box inside is returned bit for bit."""
    x, y, w, h = box
    if min(w, h) < SMALLEST:
        raise _LineError(f"width {w:g}, height {h:g}, expected both above 0")
    x1, y1, x2, y2 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if min(x1, y1) >= 0 and max(x2, y2) <= 1:
        return box, []
    repairs = []
    if min(x1, y1) < -ROUNDING or max(x2, y2) > 1 + ROUNDING:
        repairs.append(f"x {x1:g} to {x2:g}, y {y1:g} to {y2:g} {_CLIPPED}, expected 0-1")
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0)
    if min(x2 - x1, y2 - y1) < SMALLEST:
        raise _LineError("the box lies outside of the picture, expected x and y within 0-1")
    return ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), repairs


def _check_fractions(numbers: list[float]) -> None:
    for number in numbers:
        if not math.isfinite(number):
            raise _LineError(f"{number} is not finite, expected fractions of the picture (0-1)")
        if abs(number) > LARGEST:
            raise _LineError(f"{number:g} is no fraction of the picture, expected 0-1 (are these pixels?)")


def _read_number(column: str) -> float:
    if not _NUMBER.fullmatch(column):
        raise _LineError(f"{column[:40]!r} is not a number, expected digits with a point")
    return float(column)


def _read_class(number: float, column: str, classes: int) -> int:
    if not number.is_integer():  # also refuses nan and inf
        raise _LineError(f"class id {column[:40]}, expected a whole number")
    if not 0 <= number < classes:
        listed = f"{classes} classes (0-{classes - 1})" if classes > 1 else "one class (0)"
        raise _LineError(f"class id {number:.0f}, but the dataset lists {listed}")
    return int(number)
