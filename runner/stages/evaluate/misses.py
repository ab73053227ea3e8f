"""Drawings of the pictures with the worst errors: missed, false and confused boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from runner.stages.evaluate.metrics import Boxes
from runner.workspace import write_text
from serving.vision.picture import decode

SMALLEST_PX, LARGEST_PX = 720, 1280  # long side of the drawings, in pixels
MOST_LABELS = 24  # boxes; with more, they are drawn without text
RIGHT, MISSED, FALSE, WRONG = "#2a8f3c", "#c96a00", "#d3203a", "#9d1c8f"
LEGEND = ((RIGHT, "found"), (MISSED, "missed"), (FALSE, "false"), (WRONG, "wrong class"))


Area = tuple[float, float, float, float]  # pixels, x1 y1 x2 y2


class Answer(NamedTuple):
    """Labelled and found boxes of one picture.

    Attributes:
        image: name in the dataset.
        source: the source file.
        found: boxes above their class's threshold.
        pairs: positions in labelled and found, -1 without a counterpart.
    """

    image: str
    source: Path
    labelled: Boxes
    found: Boxes
    pairs: list[tuple[int, int]]


class Mark(NamedTuple):
    """Box of a drawing; its class and confidence are None where there is no counterpart."""

    colour: str
    xyxy_px: list[float]
    actual: str | None
    predicted: str | None
    confidence: float | None

    @property
    def text(self) -> str:
        """Text beside the box."""
        if self.predicted is None:
            return f"missed {self.actual}"
        text = f"{self.predicted} {self.confidence:.2f}"
        return f"{text}, is {self.actual}" if self.colour == WRONG else text


def write_misses(answers: Sequence[Answer], names: Sequence[str], most: int, folder: Path) -> None:
    """Draw the worst misses into `folder` and write index.json with the reason for each.

    Pictures are ranked by the number of missed or confused boxes, then by the confidence of false ones.

    Args:
        answers: all pictures; those without a miss are never drawn.
        names: class names in id order.
        most: largest number of drawings.
        folder: is created.
    """
    folder.mkdir()
    marked = [(answer, _marks(answer, names)) for answer in answers]
    ranked = sorted((_badness(marks), answer.image, answer, marks) for answer, marks in marked)
    worst = [(answer, marks) for badness, _, answer, marks in ranked if badness < (0, 0.0)][:most]
    index = []
    for place, (answer, marks) in enumerate(worst, 1):
        file = f"{place:0{max(2, len(str(most)))}d}-{Path(answer.image).stem}.jpg"
        why = _why(marks)
        _draw(answer.source, marks, f"{answer.image}: {why}").save(folder / file, "JPEG", quality=90)
        index.append({"file": file, "image": answer.image, "why": why, "boxes": [_entry(mark) for mark in marks]})
    write_text(folder / "index.json", json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def _marks(answer: Answer, names: Sequence[str]) -> list[Mark]:
    marks = []
    for actual, predicted in answer.pairs:
        boxes, place = (answer.found, predicted) if predicted >= 0 else (answer.labelled, actual)
        is_name = names[answer.labelled.class_ids[actual]] if actual >= 0 else None
        said_name = names[answer.found.class_ids[predicted]] if predicted >= 0 else None
        colour = MISSED if predicted < 0 else FALSE if actual < 0 else RIGHT if is_name == said_name else WRONG
        confidence = float(answer.found.confidences[predicted]) if predicted >= 0 else None
        marks.append(Mark(colour, boxes.xyxy_px[place].tolist(), is_name, said_name, confidence))
    return marks


def _badness(marks: Sequence[Mark]) -> tuple[int, float]:
    missed = sum(mark.colour in (MISSED, WRONG) for mark in marks)
    confidences = [mark.confidence or 0.0 for mark in marks if mark.colour in (FALSE, WRONG)]
    return -missed, -max(confidences, default=0.0)


def _why(marks: Sequence[Mark]) -> str:
    """Return the reason: `2 of 3 missed, 1 taken for another class, 1 false (0.83)`."""
    labelled = sum(mark.actual is not None for mark in marks)
    missed, wrong = (sum(mark.colour == colour for mark in marks) for colour in (MISSED, WRONG))
    false = [mark.confidence or 0.0 for mark in marks if mark.colour == FALSE]
    parts = [
        f"{missed} of {labelled} missed" if missed else "",
        f"{wrong} of {labelled} taken for another class" if wrong else "",
        f"{len(false)} false ({'up to ' if len(false) > 1 else ''}{max(false):.2f})" if false else "",
    ]
    return ", ".join(part for part in parts if part)


def _entry(mark: Mark) -> dict[str, Any]:
    return {
        "actual": mark.actual,
        "predicted": mark.predicted,
        "confidence": mark.confidence,
        "xyxy_px": [round(side, 1) for side in mark.xyxy_px],
    }


def _draw(source: Path, marks: Sequence[Mark], caption: str) -> Image.Image:
    """Draw the boxes, right ones first so that the others are on top, and a caption below."""
    picture = decode(source.read_bytes(), fit=LARGEST_PX, max_pixels=10**10)
    scale = min(
        max(1.0, SMALLEST_PX / max(picture.width, picture.height)), LARGEST_PX / max(picture.width, picture.height)
    )
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    font = _font(15)
    legend_px = sum(40 + font.getlength(text) for _, text in LEGEND)
    sheet = Image.new("RGB", (max(size[0], round(legend_px)), size[1] + 52), "#20242b")
    sheet.paste(picture.image.resize(size), (0, 0))
    draw = ImageDraw.Draw(sheet)
    ordered = sorted(marks, key=lambda mark: mark.colour != RIGHT)
    for mark in ordered:
        draw.rectangle(_pixels(mark, scale), outline=mark.colour, width=2)
    written: list[Area] = []
    for mark in ordered if len(marks) <= MOST_LABELS else ():
        written.append(_label(draw, mark, scale, size, font, written))
    draw.text((8, size[1] + 6), _shortened(caption, sheet.width - 16, font), "white", font)
    left = 8.0
    for colour, text in LEGEND:
        draw.rectangle((left, size[1] + 31, left + 12, size[1] + 43), colour)
        draw.text((left + 18, size[1] + 28), text, "white", font)
        left += 40 + font.getlength(text)
    return sheet


def _pixels(mark: Mark, scale: float) -> list[float]:
    x1, y1, x2, y2 = (side * scale for side in mark.xyxy_px)
    return [x1, y1, max(x1, x2), max(y1, y2)]


def _label(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    scale: float,
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont,
    written: Sequence[Area],
) -> Area:
    """Write above a box, or below or beside it where there is no room; return the area of the text."""
    x1, y1, x2, y2 = _pixels(mark, scale)
    width = font.getlength(mark.text) + 6
    places = [(x1, y1 - 20), (x1, y2), (x2, y1), (x1 - width, y1), (x1, y1 - 40), (x1, y2 + 20)]
    areas = [(left, top, left + width, top + 20) for left, top in places]
    free = [area for area in areas if _inside(area, size) and not any(_touch(area, other) for other in written)]
    left = max(0.0, min(x1, size[0] - width))
    top = max(0.0, min(y1 - 20, size[1] - 20.0))
    area = free[0] if free else (left, top, left + width, top + 20)
    draw.rectangle(area, mark.colour)
    draw.text((area[0] + 3, area[1] + 1), mark.text, "white", font)
    return area


def _inside(area: Area, size: tuple[int, int]) -> bool:
    return area[0] >= 0 and area[1] >= 0 and area[2] <= size[0] and area[3] <= size[1]


def _touch(a: Area, b: Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shortened(text: str, width_px: float, font: ImageFont.FreeTypeFont) -> str:
    """Return the end of a text that is too wide, because the reason is at the end."""
    shown = text
    while font.getlength(shown) > width_px:
        text = text[1:]
        shown = f"…{text}"
    return shown


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which matplotlib ships and which has Cyrillic and Greek too."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
