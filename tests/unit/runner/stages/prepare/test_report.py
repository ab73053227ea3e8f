import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from runner.dataset.labels import Labels
from runner.dataset.sheet import CELL_PX, MOST_NAMES, colour_of, draw_labels
from runner.stages.prepare.report import SHEET_COLUMNS, SHEET_PICTURES, choose_shown, write_report
from tests.support.pictures import encoded

GREY = (90, 90, 90)


def labels(*boxes: tuple[float, float, float, float], class_id: int = 0) -> Labels:
    return Labels(np.full(len(boxes), class_id), np.array(boxes, dtype=float).reshape(-1, 4), [], [])


class Reported:
    """A dataset of grey pictures, and its report."""

    def __init__(self, folder: Path, sizes: list[tuple[int, int]], boxes: dict[str, Labels]) -> None:
        self.folder, self.boxes = folder, boxes
        (folder / "dataset/images").mkdir(parents=True)
        (folder / "report").mkdir()
        self.files = [folder / "dataset/images" / f"{number:03}.png" for number in range(len(sizes))]
        for file, size in zip(self.files, sizes, strict=True):
            file.write_bytes(encoded(Image.new("RGB", size, GREY), "PNG"))

    def write(self, names: list[str], **changes: Any) -> str:
        pictures = {"found": 3, "kept": 2, "background": 1, "duplicates": 0, "unusable": 1}
        counts = {"labels": {"found": 5, "unusable": 2}, "boxes": dict.fromkeys(names, 1)}
        values = {"pictures": pictures, **counts, "left_out": [], "notes": [], **changes}
        shown = choose_shown([(file, self.boxes[file.stem]) for file in self.files])
        sides = [side for each in self.boxes.values() for side in np.sqrt(each.boxes_xywhn[:, 2:].prod(axis=1))]
        write_report(self.folder / "report", values, shown, sides, names)
        assert json.loads((self.folder / "report/report.json").read_text(encoding="utf-8")) == values
        return (self.folder / "report/index.html").read_text(encoding="utf-8")

    def sheet(self) -> Image.Image:
        return Image.open(self.folder / "report/pictures.jpg")


def test_report_is_there_when_there_are_no_pictures(tmp_path: Path) -> None:
    reported = Reported(tmp_path, [], {})
    page = reported.write([])
    assert page.count("Nothing.") == 2
    with reported.sheet() as sheet:
        assert sheet.size == (SHEET_COLUMNS * CELL_PX, CELL_PX)
        assert np.asarray(sheet).min() == 255


def test_names_and_reasons_are_shown_as_text_when_they_look_like_html(tmp_path: Path) -> None:
    name, file, reason, note = "<b>größe & 直升机</b>", "labels/<i>.txt:3", 'class id "7" <script>', "<u>repaired</u>"
    page = Reported(tmp_path, [], {}).write([name], left_out=[{"file": file, "reason": reason}], notes=[note])
    for text in (name, file, reason, note):
        assert text not in page and text in html.unescape(page)
    assert "Left out (1)" in page and "Repaired (1)" in page
    words = " ".join(page.split())
    assert "<b>2</b> of 3 pictures are in the dataset, 1 of them background" in words
    assert "0 are copies of others; 1 pictures and 2 of 5 label lines" in words


def test_box_sizes_are_counted_when_drawn_as_bars(tmp_path: Path) -> None:
    boxes = {"000": labels((0.5, 0.5, 0.1, 0.1), (0.5, 0.5, 1, 1), (0.5, 0.5, 0.001, 0.001))}
    page = Reported(tmp_path, [(50, 50)], boxes).write(["a"])
    counts = dict(re.findall(r'<td>([0-9-]+ %)<.*?"number">(\d+)<', page, re.DOTALL))
    assert {size: count for size, count in counts.items() if count != "0"} == dict.fromkeys(
        ("0-1 %", "10-20 %", "50-100 %"), "1"
    )


def test_at_most_some_pictures_are_drawn_when_there_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = SHEET_PICTURES + 7
    reported = Reported(tmp_path, [(30, 20)] * count, {f"{number:03}": labels() for number in range(count)})
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow would call them bombs
        reported.write(["a"])
    with reported.sheet() as sheet:
        assert sheet.size == (SHEET_COLUMNS * CELL_PX, SHEET_PICTURES // SHEET_COLUMNS * CELL_PX)


@pytest.mark.parametrize("size", [(10, 10), (4000, 10), (10, 2000), (3000, 2000)])
def test_every_picture_fits_its_cell_when_it_has_an_odd_shape(tmp_path: Path, size: tuple[int, int]) -> None:
    reported = Reported(tmp_path, [size], {"000": labels()})
    reported.write(["a"])
    with reported.sheet() as sheet:
        grey = np.argwhere(np.abs(np.asarray(sheet).astype(int) - GREY).max(axis=2) < 25)
    assert len(grey) > 0
    assert grey.max() < CELL_PX - 2


def test_edges_are_coloured_when_boxes_are_drawn() -> None:
    picture = Image.new("RGB", (100, 50), GREY)
    draw_labels(picture, labels(), [])
    assert picture.getcolors() == [(5000, GREY)]
    draw_labels(picture, labels((0.5, 0.5, 0.4, 0.4), class_id=1), ["a", ""])
    pixels = np.asarray(picture)
    assert tuple(pixels[15, 30]) == tuple(pixels[35, 70]) == ImageColor.getrgb(colour_of(1))
    assert tuple(pixels[25, 50]) == tuple(pixels[10, 20]) == GREY


@pytest.mark.parametrize("count", [1, MOST_NAMES + 1])
def test_the_largest_boxes_carry_names_when_there_are_many(count: int) -> None:
    boxes = labels((0.5, 0.2, 0.1, 0.1), *[(0.5, 0.7, 0.5, 0.5)] * (count - 1))
    named, nameless = Image.new("RGB", (200, 200), GREY), Image.new("RGB", (200, 200), GREY)
    draw_labels(named, boxes, ["a name"])
    draw_labels(nameless, boxes, [""])
    above = (slice(15, 30), slice(90, 150))  # the smallest box's label
    assert np.array_equal(np.asarray(named)[above], np.asarray(nameless)[above]) == (count > MOST_NAMES)


def test_classes_are_told_apart_when_there_are_80() -> None:
    colours = np.array([ImageColor.getrgb(colour_of(number)) for number in range(80)], dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours, axis=2) + 1000 * np.eye(80)
    assert distances.min() >= 10 and distances[:11, :11].min() >= 60


def test_the_page_says_why_when_the_dataset_was_refused(tmp_path: Path) -> None:
    reported = Reported(tmp_path, [], {})
    assert "Refused" not in reported.write([], refused=[])
    page = reported.write([], refused=["3 boxes of <b>, expected 10"])
    assert "Refused: " in page and "3 boxes of &lt;b&gt;, expected 10" in page
