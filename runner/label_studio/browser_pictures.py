"""Pictures as browsers show them: supported formats, EXIF orientation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from runner.dataset.labels import turn_boxes
from runner.label_studio.regions import Box
from serving.vision.picture import PictureError, decode
from serving.vision.similarity import difference_hash

SUFFIXES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "AVIF": ".avif",
}  # formats that browsers show
_ORIENTATION_TAG = 0x0112
_INVERSE = {6: 8, 8: 6}  # the inverse orientation; the others are their own inverse


class Look(NamedTuple):
    """Properties of a picture for its task.

    Attributes:
        size_px: width and height as a person sees it.
        turn: EXIF orientation, 1 to 8.
        suffix: for a browser.
        dhash: 64 bits; similar pictures differ in few.
    """

    size_px: tuple[int, int]
    turn: int
    suffix: str
    dhash: int


def look_at(data: bytes) -> Look | str:
    """Return the properties of a picture; a text with the reason when browsers would not show it."""
    try:
        picture = decode(data, fit=64)
    except PictureError as error:
        return str(error)
    if picture.format not in SUFFIXES:
        shown = ", ".join(dict.fromkeys(SUFFIXES))
        return f"a {picture.format}, which browsers do not show; expected one of {shown}: convert it"
    size_px = (picture.width, picture.height)
    return Look(size_px, picture.turn, SUFFIXES[picture.format], difference_hash(picture.image))


def turn_of(picture: Path) -> int:
    """Return the EXIF orientation of a picture, 1 to 8, from its header; 1 when it has none."""
    try:
        with warnings.catch_warnings(), Image.open(picture) as image:
            warnings.simplefilter("ignore")  # about many pixels, or odd metadata
            turn = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # noqa: BLE001 - Pillow's errors on damaged bytes have no common base; `prepare` reports them
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def as_seen(boxes: Sequence[Box], turn: int, frame: Literal["stored", "seen"]) -> list[Box]:
    """Map boxes of a dataset to the picture as a person sees it.

    Args:
        turn: EXIF orientation, 1 to 8.
        frame: of the dataset's boxes (`prepare.exif_boxes`).
    """
    return _turned(boxes, turn if frame == "stored" else 1)


def as_kept(boxes: Sequence[Box], turn: int, frame: Literal["stored", "seen"]) -> list[Box]:
    """Map boxes of the picture as a person sees it to the dataset's frame: the inverse of `as_seen`."""
    return _turned(boxes, _INVERSE.get(turn, turn) if frame == "stored" else 1)


def _turned(boxes: Sequence[Box], turn: int) -> list[Box]:
    if turn == 1 or not boxes:
        return list(boxes)
    turned = turn_boxes([box.xywhn for box in boxes], turn).tolist()
    return [Box(box.label, (x, y, w, h)) for box, (x, y, w, h) in zip(boxes, turned, strict=True)]
