"""Report of a dataset: its content and the files left out, as JSON and as an HTML page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jinja2 import Environment, FileSystemLoader

from runner.dataset.labels import Labels
from runner.dataset.sheet import colour_of, draw_sheet
from runner.workspace import write_text

Picture = TypeVar("Picture")
SHEET_PICTURES = 24
SHEET_COLUMNS = 6
SIZE_BINS = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # as `sides` of `write_report`


def choose_shown(pictures: Sequence[Picture]) -> list[Picture]:
    """Return the pictures of the contact sheet, evenly spaced."""
    count = min(SHEET_PICTURES, len(pictures))
    return [pictures[place * len(pictures) // count] for place in range(count)]


def write_report(
    report: Path,
    summary: dict[str, Any],
    shown: Sequence[tuple[Path, Labels]],
    sides: Sequence[float],
    names: list[str],
) -> None:
    """Write report.json, index.html and pictures.jpg, a contact sheet with the boxes drawn, into an existing folder.

    `shown` are the sheet's picture files with their labels; `sides` the square root of each box's area, all pictures
    together, as a fraction of its picture's.
    """
    write_text(report / "report.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    sheet = draw_sheet([(file, own, "") for file, own in shown], names, SHEET_COLUMNS)
    sheet.save(report / "pictures.jpg", quality=88)
    counts, _ = np.histogram(np.asarray(sides, np.float64), SIZE_BINS)
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
