"""Report of a dataset: its content and the files left out, as JSON and as an HTML page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader

from runner.dataset.labels import Labels
from runner.dataset.sheet import colour_of, draw_sheet
from runner.workspace import write_text

SHEET_PICTURES = 24
SHEET_COLUMNS = 6
SIZE_BINS = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # square root of the box's area as a fraction of the picture's


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
    count = min(SHEET_PICTURES, len(index))
    entries = [index[place * len(index) // count] for place in range(count)]  # evenly spaced
    shown = [(dataset / entry["image"], labels[Path(entry["image"]).stem], "") for entry in entries]
    draw_sheet(shown, names, SHEET_COLUMNS).save(report / "pictures.jpg", quality=88)
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
