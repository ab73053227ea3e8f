"""Boxes with labels drawn onto a picture."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageColor, ImageDraw, ImageFont

Rectangle = tuple[float, float, float, float]  # pixels, x1 y1 x2 y2
_DARK = 135  # of 255; darker colours take white text
_READABLE_PX = 480  # longer side; smaller pictures are enlarged, because a label would cover them
_TEXT_SHARE = 36  # height of text is the square root of the picture's area divided by this
_SMALLEST_TEXT_PX = 13
_LONGEST_NAME = 60  # characters; a prompt of thousands as a class's name would take a second for each few boxes


class Mark(NamedTuple):
    """A box to draw; one with an empty text gets no label."""

    xyxy_px: Sequence[float]
    text: str
    colour: str


def short(name: str) -> str:
    """Return a class's name as labels show it: at most 60 characters."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def draw_marks(image: Image.Image, marks: Sequence[tuple[Sequence[float], str, str]]) -> Image.Image:
    """Return a copy of a picture with boxes, given as `Mark` or its three values.

    Small pictures come back enlarged, and very thin ones on a grey ground, so that labels can be read.
    """
    scale = max(1.0, _READABLE_PX / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    text_px = max(_SMALLEST_TEXT_PX, round(math.sqrt(size[0] * size[1]) / _TEXT_SHARE))
    canvas = Image.new("RGB", (max(size[0], 8 * text_px), max(size[1], 2 * text_px)), "#808080")
    canvas.paste(image if scale == 1 else image.resize(size, Image.Resampling.BICUBIC))
    scaled = [Mark([side * scale for side in box], text, colour) for box, text, colour in marks]
    draw_boxes(canvas, scaled, ImageFont.load_default(text_px), text_px, max(2, round(max(size) / 300)))
    return canvas


def draw_boxes(
    canvas: Image.Image,
    marks: Sequence[Mark],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text_px: float,
    line_px: int,
    area: tuple[int, int] | None = None,
) -> None:
    """Draw the boxes, the first on top, and then their labels, the first where it fits best.

    Args:
        text_px: height of the font.
        area: width and height of the part of the canvas where labels may be; None: all of it.
    """
    draw = ImageDraw.Draw(canvas)
    boxes = [(x1, y1, max(x1, x2), max(y1, y2)) for x1, y1, x2, y2 in (mark.xyxy_px for mark in marks)]
    for box, mark in zip(reversed(boxes), reversed(marks), strict=True):
        draw.rectangle(box, outline=mark.colour, width=line_px)
    taken: list[Rectangle] = []
    pad = text_px / 5
    for box, mark in zip(boxes, marks, strict=True):
        if not mark.text:
            continue
        left, top, right, bottom = draw.textbbox((0, 0), mark.text, font=font)
        place = place_label(box, (right - left + 2 * pad, bottom - top + 2 * pad), area or canvas.size, taken)
        taken.append(place)
        draw.rectangle(place, fill=mark.colour)
        ink = "white" if ImageColor.getcolor(mark.colour, "L") < _DARK else "black"  # type: ignore[operator]
        draw.text((place[0] + pad - left, place[1] + pad - top), mark.text, fill=ink, font=font)


def place_label(box: Rectangle, label: tuple[float, float], area: tuple[int, int], taken: list[Rectangle]) -> Rectangle:
    """Return the label's place: above the box, else below, else inside; in the area and clear of other labels.

    `label` and `area` are width and height in pixels. Where all places overlap one that is taken, it is the first.
    """
    width, height = label
    x = min(max(0.0, box[0]), max(0.0, area[0] - width))
    tops = (box[1] - height, box[3], box[1], box[3] - height)
    inside = [top for top in tops if 0 <= top <= area[1] - height]
    places = [(x, top, x + width, top + height) for top in inside]
    y = min(max(0.0, box[1]), max(0.0, area[1] - height))
    fallback = places[0] if places else (x, y, x + width, y + height)
    return next((place for place in places if not any(overlap(place, other) for other in taken)), fallback)


def overlap(a: Rectangle, b: Rectangle) -> bool:
    """Whether two rectangles share an area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
