"""Boxes and labels drawn onto a picture, readable at any size."""

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from serving.storage.detections import Detection

_READABLE = 480  # pixels of the longer side; smaller pictures are enlarged, because a label would cover them
_TEXT_SHARE = 36  # text height in pixels is the square root of the picture's area divided by this
_SMALLEST_TEXT = 13
_JPEG_QUALITY = 90
# Okabe and Ito's palette for any colour vision, without black.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
_DARK = frozenset(("#0072b2", "#d55e00", "#009e73"))

Rectangle = tuple[float, float, float, float]


def annotate(image: Image.Image, detections: Sequence[Detection]) -> Image.Image:
    """Return a copy of a picture with each detection's box, class and confidence.

    Small pictures come back enlarged, and very thin ones on a grey ground, so that labels can be read.
    """
    scale = max(1.0, _READABLE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    text_px = max(_SMALLEST_TEXT, round(math.sqrt(size[0] * size[1]) / _TEXT_SHARE))
    canvas = Image.new("RGB", (max(size[0], 8 * text_px), max(size[1], 2 * text_px)), "#808080")
    canvas.paste(image if scale == 1 else image.resize(size, Image.Resampling.BICUBIC))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(text_px)
    line = max(2, round(max(size) / 300))
    taken: list[Rectangle] = []
    for detection in reversed(detections):
        draw.rectangle(_scaled(detection, scale), outline=_colour(detection), width=line)
    for detection in detections:
        text = f"{detection.label} {detection.confidence:.2f}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        pad = text_px / 5
        label = (right - left + 2 * pad, bottom - top + 2 * pad)
        place = _place(_scaled(detection, scale), label, canvas.size, taken)
        taken.append(place)
        colour = _colour(detection)
        draw.rectangle(place, fill=colour)
        ink = "white" if colour in _DARK else "black"
        draw.text((place[0] + pad - left, place[1] + pad - top), text, fill=ink, font=font)
    return canvas


def encode(image: Image.Image, kind: str) -> bytes:
    """Encode a picture; `kind` is "image/jpeg" or "image/png"."""
    out = io.BytesIO()
    if kind == "image/png":
        image.save(out, "PNG", compress_level=3)
    else:
        image.save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def _colour(detection: Detection) -> str:
    return _COLOURS[detection.class_id % len(_COLOURS)]


def _scaled(detection: Detection, scale: float) -> Rectangle:
    box = detection.box
    x1, y1 = box.x1 * scale, box.y1 * scale
    return x1, y1, max(x1, box.x2 * scale), max(y1, box.y2 * scale)


def _place(box: Rectangle, label: tuple[float, float], canvas: tuple[int, int], taken: list[Rectangle]) -> Rectangle:
    """Return the label's place: above the box, else below, else inside; on the picture and clear of other labels."""
    width, height = label
    x = min(max(0.0, box[0]), max(0.0, canvas[0] - width))
    tops = (box[1] - height, box[3], box[1], box[3] - height)
    on_picture = [top for top in tops if 0 <= top <= canvas[1] - height]
    places = [(x, top, x + width, top + height) for top in on_picture]
    lowest = max(0.0, canvas[1] - height)
    y = min(max(0.0, box[1]), lowest)
    fallback = places[0] if places else (x, y, x + width, y + height)
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), fallback)


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
