"""Contact sheet: pictures of a dataset side by side, with their boxes and class names."""

import sys
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from runner.dataset.labels import Labels
from serving.vision.marks import Mark, draw_boxes
from serving.vision.picture import PictureError, decode

CELL_PX = 220
MOST_NAMES = 12  # boxes of a picture that carry their class's name, the largest first
FONT_PX = 11
LIGHTNESS_PERCENT = (40, 55, 28)  # of neighbours in the class list


def draw_sheet(pictures: Sequence[tuple[Path, Labels, str]], names: list[str], columns: int) -> Image.Image:
    """Draw picture files with their boxes, each with a caption unless it is empty; an unreadable one stays white."""
    rows = max(1, -(-len(pictures) // columns))
    sheet = Image.new("RGB", (columns * CELL_PX, rows * CELL_PX), "white")
    for place, (path, labels, caption) in enumerate(pictures):
        left, top = place % columns * CELL_PX + 3, place // columns * CELL_PX + 3
        try:
            picture = decode(path.read_bytes(), fit=CELL_PX, max_pixels=sys.maxsize).image
        except PictureError:
            continue
        scale = (CELL_PX - 6) / max(picture.size)
        picture = picture.resize([max(1, round(scale * side)) for side in picture.size])
        draw_labels(picture, labels, names)
        sheet.paste(picture, (left, top))
        if caption:
            draw = ImageDraw.Draw(sheet)
            draw.rectangle(draw.textbbox((left, top), caption, font=font_of(FONT_PX)), fill="white")
            draw.text((left, top), caption, fill="black", font=font_of(FONT_PX))
    return sheet


def draw_labels(picture: Image.Image, labels: Labels, names: list[str]) -> None:
    """Draw the boxes onto the picture, a colour for each class, and the class names of the largest boxes."""
    x, y, w, h = labels.boxes_xywhn.T
    xyxy_px = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1) * (2 * picture.size)
    marks = [
        Mark(xyxy_px[place].tolist(), names[class_id] if rank < MOST_NAMES else "", colour_of(class_id))
        for rank, place in enumerate(np.argsort(-w * h, kind="stable").tolist())
        for class_id in [int(labels.class_ids[place])]
    ]
    draw_boxes(picture, marks, font_of(FONT_PX), FONT_PX, 2)


def colour_of(class_id: int) -> str:
    """Return a class's colour, of CSS and Pillow: hues a golden angle apart, neighbours unlike in lightness too."""
    return f"hsl({class_id * 137.508 % 360:.0f}, 85%, {LIGHTNESS_PERCENT[class_id % 3]}%)"


@cache
def font_of(size_px: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which matplotlib ships: it has Cyrillic and Greek too. Importing matplotlib takes long."""
    found = find_spec("matplotlib")
    assert found and found.origin
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size_px)
