"""Detections drawn onto a picture, readable at any size."""

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageFont

from serving.storage.detections import Detection
from serving.vision.marks import Mark, draw_boxes

_READABLE = 480  # pixels of the longer side; smaller pictures are enlarged, because a label would cover them
_TEXT_SHARE = 36  # text height in pixels is the square root of the picture's area divided by this
_SMALLEST_TEXT = 13
_JPEG_QUALITY = 90
# Okabe and Ito's palette for any colour vision, without black.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def annotate(image: Image.Image, detections: Sequence[Detection]) -> Image.Image:
    """Return a copy of a picture with each detection's box, class and confidence.

    Small pictures come back enlarged, and very thin ones on a grey ground, so that labels can be read.
    """
    scale = max(1.0, _READABLE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    text_px = max(_SMALLEST_TEXT, round(math.sqrt(size[0] * size[1]) / _TEXT_SHARE))
    canvas = Image.new("RGB", (max(size[0], 8 * text_px), max(size[1], 2 * text_px)), "#808080")
    canvas.paste(image if scale == 1 else image.resize(size, Image.Resampling.BICUBIC))
    marks = [
        Mark(
            [side * scale for side in (each.box.x1, each.box.y1, each.box.x2, each.box.y2)],
            f"{each.label} {each.confidence:.2f}",
            _COLOURS[each.class_id % len(_COLOURS)],
        )
        for each in detections
    ]
    draw_boxes(canvas, marks, ImageFont.load_default(text_px), text_px, max(2, round(max(size) / 300)))
    return canvas


def encode(image: Image.Image, kind: str) -> bytes:
    """Encode a picture; `kind` is "image/jpeg" or "image/png"."""
    out = io.BytesIO()
    options = {"compress_level": 3} if kind == "image/png" else {"quality": _JPEG_QUALITY}
    image.save(out, kind.removeprefix("image/"), **options)
    return out.getvalue()
