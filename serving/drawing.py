"""Detections drawn onto a picture, readable at any size."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageFont

from serving.vision.marks import Mark, draw_boxes

if TYPE_CHECKING:  # a decoder process draws too, and has no use for pydantic
    from serving.storage.detections import Detection


_READABLE = 480  # pixels of the longer side; smaller pictures are enlarged, because a label would cover them
_TEXT_SHARE = 36  # text height in pixels is the square root of the picture's area divided by this
_SMALLEST_TEXT = 13
_JPEG_QUALITY = 90
_MOST_NAME = 60  # characters; a prompt of thousands as a class's name would take a second for each few boxes
# Okabe and Ito's palette for any colour vision, without black.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


Style = tuple[Sequence[float], str, str]  # x1 y1 x2 y2 in pixels of the picture, text, colour


def annotate(image: Image.Image, detections: "Sequence[Detection]") -> Image.Image:
    """Return a copy of a picture with each detection's box, class and confidence, as `draw` gives it."""
    return draw(image, styles_of(detections))


def styles_of(detections: "Sequence[Detection]") -> list[Style]:
    """Return what is to be drawn for each detection."""
    return [
        (
            (each.box.x1, each.box.y1, each.box.x2, each.box.y2),
            f"{_short(each.label)}{_number_of(each)} {each.confidence:.2f}",
            _COLOURS[each.class_id % len(_COLOURS)],
        )
        for each in detections
    ]


def _short(name: str) -> str:
    return name if len(name) <= _MOST_NAME else f"{name[: _MOST_NAME - 3]}..."


def _number_of(detection: "Detection") -> str:
    track = getattr(detection, "track", None)  # in a video
    return "" if track is None else f" #{track}"


def draw(image: Image.Image, styles: Sequence[Style]) -> Image.Image:
    """Return a copy of a picture with boxes.

    Small pictures come back enlarged, and very thin ones on a grey ground, so that labels can be read.
    """
    scale = max(1.0, _READABLE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    text_px = max(_SMALLEST_TEXT, round(math.sqrt(size[0] * size[1]) / _TEXT_SHARE))
    canvas = Image.new("RGB", (max(size[0], 8 * text_px), max(size[1], 2 * text_px)), "#808080")
    canvas.paste(image if scale == 1 else image.resize(size, Image.Resampling.BICUBIC))
    marks = [Mark([side * scale for side in box], text, colour) for box, text, colour in styles]
    draw_boxes(canvas, marks, ImageFont.load_default(text_px), text_px, max(2, round(max(size) / 300)))
    return canvas


def encode(image: Image.Image, kind: str, quality: int = _JPEG_QUALITY) -> bytes:
    """Encode a picture; `kind` is "image/jpeg" or "image/png", `quality` 1 to 95, of a JPEG."""
    out = io.BytesIO()
    options = {"compress_level": 3} if kind == "image/png" else {"quality": quality}
    image.save(out, kind.removeprefix("image/"), **options)
    return out.getvalue()
