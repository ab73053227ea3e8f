"""Report of a dataset: its content and the files left out, as JSON and as an HTML page."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image, ImageDraw

from runner.dataset.labels import Labels
from runner.workspace import write_text
from serving.vision.picture import decode

SHEET_PICTURES = 24
SHEET_COLUMNS = 6
CELL_PX = 220
SIZE_BINS = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # square root of the box's area as a fraction of the picture's
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")


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
    _contact_sheet(dataset, index, labels).save(report / "pictures.jpg", quality=88)
    sizes = np.concatenate([np.sqrt(each.boxes_xywhn[:, 2:].prod(axis=1)) for each in labels.values()] or [np.zeros(0)])
    counts, _ = np.histogram(sizes, SIZE_BINS)
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("report.html")
    page = template.render(
        summary=summary,
        classes=[
            {"name": name, "count": summary["boxes"][name], "colour": COLOURS[number % len(COLOURS)]}
            for number, name in enumerate(names)
        ],
        sizes=[
            {"label": f"{100 * low:g}-{100 * high:g} %", "count": int(count)}
            for low, high, count in zip(SIZE_BINS, SIZE_BINS[1:], counts, strict=False)
        ],
    )
    write_text(report / "index.html", page)


def _contact_sheet(dataset: Path, index: list[dict[str, Any]], labels: dict[str, Labels]) -> Image.Image:
    """Draw evenly spaced pictures of the dataset, with their boxes."""
    count = min(SHEET_PICTURES, len(index))
    rows = max(1, -(-count // SHEET_COLUMNS))
    sheet = Image.new("RGB", (SHEET_COLUMNS * CELL_PX, rows * CELL_PX), "white")
    for place in range(count):
        entry = index[place * len(index) // count]
        picture = decode((dataset / entry["image"]).read_bytes(), fit=CELL_PX, max_pixels=sys.maxsize).image
        picture.thumbnail((CELL_PX - 6, CELL_PX - 6))
        draw_boxes(picture, labels[Path(entry["image"]).stem])
        sheet.paste(picture, (place % SHEET_COLUMNS * CELL_PX + 3, place // SHEET_COLUMNS * CELL_PX + 3))
    return sheet


def draw_boxes(picture: Image.Image, labels: Labels) -> None:
    """Draw the boxes onto the picture, a colour for each class."""
    draw = ImageDraw.Draw(picture)
    for class_id, (x, y, w, h) in zip(labels.class_ids.tolist(), labels.boxes_xywhn.tolist(), strict=True):
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        pixels = [share * side for share, side in zip(corners, 2 * picture.size, strict=True)]
        draw.rectangle(pixels, outline=COLOURS[class_id % len(COLOURS)], width=2)
