"""Check of a dataset as found on disk: its rows for the index, counts, and what is left out or repaired."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from runner.config.schema import PARTS, Config, PrepareConfig
from runner.dataset.index import PictureRow
from runner.dataset.labels import label_text, too_many_clipped, turn_boxes
from runner.dataset.layouts import Layout, read_labels
from runner.dataset.names import shown
from runner.dataset.picture_cache import read_many
from runner.errors import DatasetError
from runner.tables import Row, Table
from runner.workspace import sha256_of
from serving.vision.picture import orientation_of

SHOWN = 10  # [lines] of each list that are printed
SMALL_PX = 16  # side of a box: two cells of the detectors' finest grid
LARGEST_PX = 1280  # [px] model.imgsz that is advised
Frame = Literal["seen", "stored"]  # of boxes: the picture as viewers show it, or as the file has it, before EXIF's turn
_POINTER = b"version https://git-lfs."  # https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md


class PictureFacts(NamedTuple):
    """Properties of a picture file, from its bytes and its header."""

    sha256: str
    size_bytes: int
    width: int | None  # pixels, as a viewer shows it; None: unreadable, or HEIC
    height: int | None
    turn: int  # EXIF orientation, 1 to 8; 1: not turned, or unreadable
    doubt: str | None  # why `prepare` will leave it out, as far as the header says


@dataclass
class Check:
    """Rows, counts and findings of a dataset."""

    frame: Frame  # of the boxes on disk; those of the rows are as seen
    boxes: list[int]  # of each class, by id
    pictures: list[int]  # with a box of each class, by id
    rows: list[PictureRow] = field(default_factory=list)  # of the pictures that stay
    files: dict[str, Path] = field(default_factory=dict)  # digest → file of each of these pictures
    turned: int = 0  # pictures with boxes that EXIF turns
    wrong: list[str] = field(default_factory=list)  # `file:line: reason` for each label line left out
    emptied: list[str] = field(default_factory=list)  # `file: reason` for each picture left out with all its lines
    doubtful: list[str] = field(default_factory=list)  # `file: reason` for each picture that `prepare` will leave out
    repaired: list[str] = field(default_factory=list)  # `file:line: change` for each label line changed when read
    clipped: int = 0  # boxes that left the picture
    side: float = 0.0  # median of the boxes' sides, the root of their area, as a fraction of the picture's long side


def check_dataset(layout: Layout, folder: Path, frame: Frame = "seen") -> Check:
    """Parse every label file, read every picture without decoding it; DatasetError if there is no valid box.

    `frame` is that of the boxes on disk. File names in the findings are relative to `folder`.
    """
    check = Check(frame, [0] * len(layout.classes), [0] * len(layout.classes))
    sides = [np.zeros(0)]
    for picture, facts in zip(layout.pictures, read_facts([each.image for each in layout.pictures]), strict=True):
        labels = read_labels(layout, picture, _path(picture.label, folder) if picture.label else "")
        check.wrong += labels.problems
        if labels.unusable:
            check.emptied.append(f"{_path(picture.image, folder)}: {labels.unusable}")
            continue
        check.repaired += labels.notes
        check.clipped += labels.clipped
        if facts.doubt:
            check.doubtful.append(f"{_path(picture.image, folder)}: {facts.doubt}")
        if facts.turn > 1 and len(labels.class_ids):
            check.turned += 1
            if frame == "stored":
                labels = replace(labels, boxes_xywhn=turn_boxes(labels.boxes_xywhn, facts.turn))
        width, height = facts.width or 1, facts.height or 1
        squared = labels.boxes_xywhn[:, 2:].prod(axis=1) * min(width, height) / max(width, height)
        sides.append(np.sqrt(squared))
        for class_id, count in Counter(labels.class_ids.tolist()).items():
            check.boxes[class_id] += count
            check.pictures[class_id] += 1
        check.files[facts.sha256] = picture.image
        check.rows.append(make_row(picture.name, facts, picture.part, label_text(labels)))
    if not any(check.boxes):
        reasons = [*layout.lost, *check.wrong, *check.doubtful]
        raise DatasetError(
            f"no labels: not one of the {len(layout.pictures)} pictures has a good box, expected `class x y w h` lines "
            f"({reasons[0] if reasons else 'every label file is empty'})"
        )
    check.side = float(np.median(np.concatenate(sides)))
    return check


def refusals(layout: Layout, check: Check, limits: PrepareConfig) -> list[str]:
    """Return the reasons not to add the dataset, by the limits of `prepare`; empty when there are none."""
    bad_lines = len(check.wrong) + sum(layout.lost.values())
    reasons = [
        f"{count:,} of {total:,} {what} cannot be used, expected at most prepare.max_rejected = "
        f"{limits.max_rejected:g} of them"
        for what, count, total in (
            ("pictures", len(check.emptied) + len(check.doubtful), len(layout.pictures)),
            ("label lines", bad_lines, sum(check.boxes) + bad_lines),
        )
        if count > limits.max_rejected * total
    ]
    return reasons + too_many_clipped(check.clipped, sum(check.boxes), limits)


def advice(check: Check, config: Config, hidden: Sequence[tuple[str, object, object]]) -> list[str]:
    """Return how large the median box is at `model.imgsz`, and what to do where that is too small to be found.

    `hidden` are (key, preset's value, other value of params.yaml).
    """
    imgsz = config.model.imgsz
    preset = next((preset for key, preset, _ in hidden if key == "model.imgsz"), imgsz)
    line = f"the median box is {check.side * imgsz:.0f} px at model.imgsz {imgsz}"
    if check.side * imgsz >= SMALL_PX:
        return [line]
    line += ", too small to be found well: "
    larger = preset if isinstance(preset, int) and preset > imgsz else min(2 * imgsz, LARGEST_PX)
    if larger <= imgsz:
        return [f"{line}cut the pictures into tiles before you add them"]
    whose = "the preset's " if larger == preset else ""
    cost = f"at {(larger / imgsz) ** 2:.0f} x the work"
    return [f"{line}{whose}{larger} would make it {check.side * larger:.0f} px, {cost}"]


def make_row(name: str, facts: PictureFacts, part: str | None, labels: str) -> PictureRow:
    """Return the row of a picture with these label lines."""
    return PictureRow(facts.sha256, name, facts.size_bytes, facts.width, facts.height, part, labels)


def describe(layout: Layout, check: Check, name: str, limit: int | None = SHOWN) -> str:
    """Return a table of counts and the first `limit` lines of each list of findings (None: all)."""
    rows: list[Row] = [("class", "boxes", "pictures")]
    rows += [
        (each, *map(str, counts)) for each, *counts in zip(layout.classes, check.boxes, check.pictures, strict=True)
    ]
    rows.append(("(background)", "0", str(sum(not row.labels for row in check.rows))))
    unlabelled = sum(picture.label is None for picture in layout.pictures)
    count = Counter(row.part for row in check.rows)
    parts = ", ".join(f"{part} {count[part]:,}" for part in PARTS if count[part])
    return "\n".join(
        [
            Table(f"{name}: {len(check.rows):,} pictures, {sum(check.boxes):,} boxes", rows).as_text(),
            *([f"pictures without a label file: {unlabelled:,}"] if unlabelled else []),
            *([f"parts: {parts}; `split` keeps them (split.mode: auto)"] if parts else []),
            *([_about_turned(check)] if check.turned else []),
            *listed("labels without a picture, left out", list(layout.lost), limit),
            *listed("left out", layout.ignored + check.emptied, limit),
            *listed("read otherwise than written", layout.notes, limit),
            *listed("label lines left out", check.wrong, limit),
            *listed("label lines repaired", check.repaired, limit),
            *listed("prepare will leave out", check.doubtful, limit),
        ]
    )


def _about_turned(check: Check) -> str:
    read = {
        "seen": "their boxes are read as of the picture that viewers show (as Label Studio, CVAT and Ultralytics write "
        "them); --exif-boxes stored reads them as of the file's pixels",
        "stored": "their boxes are read as of the file's pixels, and turned",
    }
    return f"pictures with boxes that EXIF turns: {check.turned:,}; {read[check.frame]}"


def listed(title: str, findings: list[str], limit: int | None = SHOWN) -> list[str]:
    """Return a title with the number of findings, the first `limit` of them, and the number of the rest."""
    if not findings:
        return []
    more = len(findings) - len(findings[:limit])
    tail = [f"  … and {more:,} more"] if more else []
    return [f"{title} ({len(findings):,}):", *(f"  {finding}" for finding in findings[:limit]), *tail]


def read_facts(pictures: Sequence[Path]) -> Iterator[PictureFacts]:
    """Yield the properties of picture files in their order; no pixels are decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about large pictures or odd metadata
        yield from read_many(_read_facts, pictures, "checking")


def _read_facts(picture: Path) -> PictureFacts:
    sha256, size = sha256_of(picture), picture.stat().st_size
    if not size:
        return PictureFacts(sha256, size, None, None, 1, "empty, expected a picture")
    try:
        with Image.open(picture) as image:
            if image.format == "HEIF":  # as where pillow-heif is missing: the row, and so the version, is the same
                return PictureFacts(sha256, size, None, None, 1, None)
            turn = orientation_of(image)
            # Pillow turns a TIFF while loading, and its size is of the turned picture.
            width, height = image.size[::-1] if turn > 4 and image.format != "TIFF" else image.size
            return PictureFacts(sha256, size, width, height, turn, None)
    except PermissionError:
        raise
    except Image.DecompressionBombError:
        return PictureFacts(sha256, size, None, None, 1, None)  # `prepare` checks the size
    except Exception:  # noqa: BLE001 - Pillow's errors on damaged bytes have no common base
        with picture.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
        reason = "a pointer of Git LFS, run `git lfs pull` in its clone" if is_pointer else "cannot be opened"
        return PictureFacts(sha256, size, None, None, 1, f"{reason}, expected a picture")


def _path(file: Path, folder: Path) -> str:
    return shown(file.relative_to(folder).as_posix())
