"""Report of a dataset: its content and the files left out, as JSON and as an HTML page."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image, ImageFont

from runner.dataset.labels import Labels
from runner.workspace import write_text
from serving.vision.marks import Mark, draw_boxes
from serving.vision.picture import decode

SHEET_PICTURES = 24
SHEET_COLUMNS = 6
CELL_PX = 220
SIZE_BINS = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # square root of the box's area as a fraction of the picture's
MOST_NAMES = 12  # boxes of a picture that carry their class's name, the largest first
FONT_PX = 11
LIGHTNESS_PERCENT = (40, 55, 28)  # of neighbours in the class list


def write_report(
    report: Path,
    summary: dict[str, Any],
    dataset: Path,
    index: list[dict[str, Any]],
    labels: dict[str, Labels],
    names: list[str],
) -> None:
    """Write report.json, index.html and pictures.jpg, a contact sheet with the boxes drawn, into an existing folder.

    `labels` has the boxes by the stem of the picture's name.
    """
    write_text(report / "report.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    _contact_sheet(dataset, index, labels, names).save(report / "pictures.jpg", quality=88)
    sizes = np.concatenate([np.sqrt(each.boxes_xywhn[:, 2:].prod(axis=1)) for each in labels.values()] or [np.zeros(0)])
    counts, _ = np.histogram(sizes, SIZE_BINS)
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("report.html")
    page = template.render(
        summary=summary,
        classes=[
            {"name": name, "count": summary["boxes"][name], "colour": colour_of(number)}
            for number, name in enumerate(names)
        ],
        sizes=[
            {"label": f"{100 * low:g}-{100 * high:g} %", "count": int(count)}
            for low, high, count in zip(SIZE_BINS, SIZE_BINS[1:], counts, strict=False)
        ],
    )
    write_text(report / "index.html", page)


def _contact_sheet(
    dataset: Path, index: list[dict[str, Any]], labels: dict[str, Labels], names: list[str]
) -> Image.Image:
    """Draw evenly spaced pictures of the dataset, with their boxes."""
    count = min(SHEET_PICTURES, len(index))
    rows = max(1, -(-count // SHEET_COLUMNS))
    sheet = Image.new("RGB", (SHEET_COLUMNS * CELL_PX, rows * CELL_PX), "white")
    for place in range(count):
        entry = index[place * len(index) // count]
        picture = decode((dataset / entry["image"]).read_bytes(), fit=CELL_PX, max_pixels=sys.maxsize).image
        scale = (CELL_PX - 6) / max(picture.size)
        picture = picture.resize([max(1, round(scale * side)) for side in picture.size])
        draw_labels(picture, labels[Path(entry["image"]).stem], names)
        sheet.paste(picture, (place % SHEET_COLUMNS * CELL_PX + 3, place // SHEET_COLUMNS * CELL_PX + 3))
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
    # DejaVu Sans, which matplotlib ships, has Cyrillic and Greek too.
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), FONT_PX)
    draw_boxes(picture, marks, font, FONT_PX, 2)


def colour_of(class_id: int) -> str:
    """Return a class's colour, of CSS and Pillow: hues a golden angle apart, neighbours unlike in lightness too."""
    return f"hsl({class_id * 137.508 % 360:.0f}, 85%, {LIGHTNESS_PERCENT[class_id % 3]}%)"
