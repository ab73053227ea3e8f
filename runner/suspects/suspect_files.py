"""Files of the label suspects: a list as JSON and CSV, and a contact sheet of the first ones."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from runner.dataset.names import shown
from runner.dataset.sheet import font_of
from runner.suspects.find_suspects import Judgement
from runner.suspects.ranking import KINDS, LEAST_SUSPICION, Suspect
from runner.tables import Row, Table
from runner.workspace import write_text, writing
from serving.vision.marks import Mark, draw_boxes
from serving.vision.picture import decode

FOLDER = Path("reports") / "suspects"
PRINTED = 12  # suspects on the terminal
DRAWN, COLUMNS, CELL_PX, FONT_PX = 48, 6, 220, 12
AROUND = 2.5  # sides of a cut-out, in sides of its boxes
LABEL, MODEL = "#c96a00", "#1f6fd0"  # colours of the label's box and of the model's


def write_suspects(project: Path, judgement: Judgement) -> str:
    """Write suspects.json, suspects.csv and suspects.png into reports/suspects; return the first ones as text."""
    rows = [describe(judgement, suspect) for suspect in judgement.suspects if suspect.suspicion >= LEAST_SUSPICION]
    pictures = Counter(picture.part for picture in judgement.pictures)
    boxes = sum(len(picture.example.labelled.class_ids) for picture in judgement.pictures)
    content = {"model_sha256": judgement.model, "folds": judgement.folds}
    content |= {"pictures": pictures, "boxes": boxes, "suspects": rows}
    folder = project / FOLDER
    write_text(folder / "suspects.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["rank", *rows[0]] if rows else ["rank"])
    for rank, row in enumerate(rows, 1):
        cells = (" ".join(map(str, cell)) if isinstance(cell, list) else cell for cell in row.values())
        writer.writerow([rank, *cells])
    write_text(folder / "suspects.csv", table.getvalue())
    with writing(folder / "suspects.png") as temporary:
        draw_suspects(judgement).save(temporary, "PNG")
    parts = ", ".join(f"{count} of {part}" for part, count in pictures.items())
    lines = [f"{len(judgement.pictures)} pictures judged ({parts}), {boxes} boxes"]
    if rows:
        lines.append(suspects_table("The most suspicious labels", rows[:PRINTED]).as_text())
    files = f"{FOLDER}/suspects.csv and .json; the first drawn in {FOLDER}/suspects.png"
    return "\n".join([*lines, f"{len(rows)} suspects in {files}"])


def describe(judgement: Judgement, suspect: Suspect) -> dict[str, Any]:
    """Return a suspect as a row: boxes are x1 y1 x2 y2 in pixels of the upright picture; null where there is none."""
    picture, place, names = judgement.pictures[suspect.picture], suspect.place, judgement.classes
    box = None if suspect.label is None else picture.example.labelled.xyxy_px[suspect.label]
    return {
        "picture": picture.example.name,
        "sha256": picture.sha256,
        "part": picture.part,
        "kind": suspect.kind,
        "suspicion": round(suspect.suspicion, 4),
        **{kind: round(suspect.scores[kind], 4) if kind in suspect.scores else None for kind in KINDS},
        "label": None if suspect.class_id is None else names[suspect.class_id],
        "label_box": None if box is None else _rounded(box),
        "model": None if place is None else names[place.class_id],
        "model_probability": None if place is None else round(place.probability, 4),
        "model_box": None if place is None else _rounded(place.xyxy_px),
    }


def summary_of(row: dict[str, Any]) -> str:
    """Return the contradiction in a row of `describe`, such as `airplane, the model finds helicopter (0.93)`."""
    finds = f"{row['model']} ({row['model_probability']:.2f})" if row["model"] else ""
    return {
        "missed": f"missed {finds}",
        "extra": f"{row['label']}, the model finds nothing there",
        "wrong class": f"{row['label']}, the model finds {finds}",
        "badly placed": f"{row['label']} badly placed, the model finds {finds} beside it",
    }[row["kind"]]


def suspects_table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Return rows of `describe`, with their ranks, as a table to print."""
    table: list[Row] = [("", "kind", "suspicion", "picture", "label")]
    for rank, row in enumerate(rows, 1):
        table.append((str(rank), row["kind"], f"{row['suspicion']:.2f}", shown(row["picture"]), summary_of(row)))
    return Table(title, table)


def draw_suspects(judgement: Judgement) -> Image.Image:
    """Draw the first suspects, each cut out with its surroundings: the label's box and the model's, and its number."""
    drawn = [suspect for suspect in judgement.suspects if suspect.suspicion >= LEAST_SUSPICION][:DRAWN]
    font = font_of(FONT_PX)
    height = CELL_PX + 2 * FONT_PX + 8  # two lines below
    sheet = Image.new("RGB", (COLUMNS * CELL_PX, max(1, -(-len(drawn) // COLUMNS)) * height + 24), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 4), "label", LABEL, font)
    draw.text((60, 4), "model", MODEL, font)
    for number, suspect in enumerate(drawn):
        left, top = number % COLUMNS * CELL_PX, 24 + number // COLUMNS * height
        row = describe(judgement, suspect)
        sheet.paste(_cut_out(judgement, suspect, row), (left, top))
        for line, text in enumerate((f"{number + 1}  {suspect.kind} {suspect.suspicion:.2f}", shown(row["picture"]))):
            while font.getlength(text) > CELL_PX - 8:
                text = f"{text[:-2]}…"
            draw.text((left + 4, top + CELL_PX - 2 + line * (FONT_PX + 2)), text, "black", font)
    return sheet


def _cut_out(judgement: Judgement, suspect: Suspect, row: dict[str, Any]) -> Image.Image:
    """Return a square of CELL_PX - 6 around the boxes of a suspect."""
    example = judgement.pictures[suspect.picture].example
    picture = decode(example.source.read_bytes(), fit=10**9, max_pixels=10**10)
    marks = [(row["label_box"], row["label"], LABEL), (row["model_box"], row["model"], MODEL)]
    boxes = np.array([box for box, *_ in marks if box], np.float64)
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = max(32.0, AROUND * float((high - low).max()))
    origin = (low + high - side) / 2
    size = CELL_PX - 6
    cut = picture.image.convert("RGB").crop((*origin.astype(int), *(origin + side).astype(int))).resize((size, size))
    scaled = [
        Mark(((np.array(box) - np.tile(origin, 2)) * size / side).tolist(), name, colour)
        for box, name, colour in marks
        if box
    ]
    draw_boxes(cut, scaled, font_of(FONT_PX), FONT_PX, 2)
    return cut


def _rounded(box: np.ndarray[Any, Any]) -> list[float]:
    return [round(float(side), 1) for side in box]
