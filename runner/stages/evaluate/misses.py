"""Drawings of the pictures with the worst errors: missed, false and confused boxes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from runner.stages.evaluate.examples import Example
from runner.stages.evaluate.metrics import Boxes
from runner.workspace import write_text
from serving.vision.marks import Mark, draw_boxes
from serving.vision.picture import decode

SMALLEST_PX, LARGEST_PX = 720, 1280  # long side of the drawings, in pixels
MOST_LABELS = 24  # boxes; with more, they are drawn without text
FONT_PX = 15
RIGHT, MISSED, FALSE, WRONG = "#2a8f3c", "#c96a00", "#d3203a", "#9d1c8f"
LEGEND = ((RIGHT, "found"), (MISSED, "missed"), (FALSE, "false"), (WRONG, "wrong class"))


class Comparison(NamedTuple):
    """Labelled and found boxes of one picture."""

    example: Example
    found: Boxes  # above their class's threshold
    pairs: list[tuple[int, int]]  # positions in labelled and found, -1 without a counterpart


class Pair(NamedTuple):
    """A labelled and a found box; class or confidence are None where there is no counterpart."""

    colour: str
    actual: str | None
    predicted: str | None
    confidence: float | None
    xyxy_px: list[float]

    @property
    def text(self) -> str:
        """Text beside the box."""
        if self.predicted is None:
            return f"missed {self.actual}"
        text = f"{self.predicted} {self.confidence:.2f}"
        return f"{text}, is {self.actual}" if self.colour == WRONG else text


def write_misses(comparisons: Sequence[Comparison], names: Sequence[str], most: int, folder: Path) -> None:
    """Draw the worst misses into a new folder, at most `most`, and write index.json with the reason for each.

    Pictures are ranked by the number of missed or confused boxes, then by the confidence of false ones.
    """
    folder.mkdir()
    marked = [(comparison.example, _pairs(comparison, names)) for comparison in comparisons]
    bad = [(_badness(pairs), each.image, each.source, pairs) for each, pairs in marked if _badness(pairs) < (0, 0.0)]
    index = []
    for place, (_, image, source, pairs) in enumerate(sorted(bad)[:most], 1):
        file = f"{place:0{max(2, len(str(most)))}d}-{Path(image).stem}.jpg"
        why = _why(pairs)
        _draw(source, pairs, f"{image}: {why}").save(folder / file, "JPEG", quality=90)
        boxes = [{key: value for key, value in pair._asdict().items() if key != "colour"} for pair in pairs]
        index.append({"file": file, "image": image, "why": why, "boxes": boxes})
    write_text(folder / "index.json", json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def _pairs(comparison: Comparison, names: Sequence[str]) -> list[Pair]:
    pairs = []
    labelled, found = comparison.example.labelled, comparison.found
    for actual, predicted in comparison.pairs:
        boxes, place = (found, predicted) if predicted >= 0 else (labelled, actual)
        is_name = names[labelled.class_ids[actual]] if actual >= 0 else None
        said_name = names[found.class_ids[predicted]] if predicted >= 0 else None
        colour = MISSED if predicted < 0 else FALSE if actual < 0 else RIGHT if is_name == said_name else WRONG
        confidence = float(found.confidences[predicted]) if predicted >= 0 else None
        sides = [round(side, 1) for side in boxes.xyxy_px[place].tolist()]
        pairs.append(Pair(colour, is_name, said_name, confidence, sides))
    return pairs


def _badness(pairs: Sequence[Pair]) -> tuple[int, float]:
    missed = sum(pair.colour in (MISSED, WRONG) for pair in pairs)
    confidences = [pair.confidence or 0.0 for pair in pairs if pair.colour in (FALSE, WRONG)]
    return -missed, -max(confidences, default=0.0)


def _why(pairs: Sequence[Pair]) -> str:
    """Return the reason: `2 of 3 missed, 1 taken for another class, 1 false (0.83)`."""
    labelled = sum(pair.actual is not None for pair in pairs)
    missed, wrong = (sum(pair.colour == colour for pair in pairs) for colour in (MISSED, WRONG))
    false = [pair.confidence or 0.0 for pair in pairs if pair.colour == FALSE]
    parts = [
        f"{missed} of {labelled} missed" if missed else "",
        f"{wrong} of {labelled} taken for another class" if wrong else "",
        f"{len(false)} false ({'up to ' if len(false) > 1 else ''}{max(false):.2f})" if false else "",
    ]
    return ", ".join(part for part in parts if part)


def _draw(source: Path, pairs: Sequence[Pair], caption: str) -> Image.Image:
    """Draw the boxes, errors on top of right ones, and below them a caption and the legend."""
    picture = decode(source.read_bytes(), fit=LARGEST_PX, max_pixels=10**10)
    longest = max(picture.width, picture.height)
    scale = min(max(1.0, SMALLEST_PX / longest), LARGEST_PX / longest)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    # DejaVu Sans, which matplotlib ships, has Cyrillic and Greek too.
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), FONT_PX)
    legend_px = sum(40 + font.getlength(text) for _, text in LEGEND)
    sheet = Image.new("RGB", (max(size[0], round(legend_px)), size[1] + 52), "#20242b")
    sheet.paste(picture.image.resize(size), (0, 0))
    marks = [
        Mark([side * scale for side in pair.xyxy_px], pair.text if len(pairs) <= MOST_LABELS else "", pair.colour)
        for pair in sorted(pairs, key=lambda pair: pair.colour == RIGHT)
    ]
    draw_boxes(sheet, marks, font, FONT_PX, 2, size)
    draw = ImageDraw.Draw(sheet)
    shown = caption
    while font.getlength(shown) > sheet.width - 16:  # cut at its beginning, because the reason is at the end
        caption = caption[1:]
        shown = f"…{caption}"
    draw.text((8, size[1] + 6), shown, "white", font)
    left = 8.0
    for colour, text in LEGEND:
        draw.rectangle((left, size[1] + 31, left + 12, size[1] + 43), colour)
        draw.text((left + 18, size[1] + 28), text, "white", font)
        left += 40 + font.getlength(text)
    return sheet
