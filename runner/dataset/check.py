"""Summary of a dataset: counts, and the pictures and labels that `prepare` will leave out or repair."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from runner.config.schema import PARTS, Config, PrepareConfig
from runner.dataset.layouts import Layout, read_labels
from runner.dataset.names import shown
from runner.errors import DatasetError
from runner.tables import Row, Table

SHOWN = 10  # [lines] of each list that are printed
SMALL_PX = 16  # side of a box: two cells of the detectors' finest grid
LARGEST_PX = 1280  # [px] model.imgsz that is advised


@dataclass(frozen=True)
class Check:
    """Counts and findings of a dataset."""

    boxes: list[int]  # of each class, by id
    pictures: list[int]  # with a box of each class, by id
    backgrounds: int  # pictures without a box
    unlabelled: int  # backgrounds without a label file
    parts: dict[str, int]  # pictures of each part; empty where there are none
    doubtful: list[str]  # `file: reason` for each unreadable picture and each wrong label line
    repaired: list[str]  # `file:line: change` for each label line that was changed when read
    unusable: int  # pictures that cannot be opened, or none of whose label lines can be used
    lines: int  # label lines, good and bad, and those of label files without a picture
    bad_lines: int  # label lines that are left out, with their label file or alone
    clipped: int  # boxes that left the picture
    side: float  # median of the boxes' sides, the square root of their area, as a fraction of the picture's long side


def check_dataset(layout: Layout, folder: Path) -> Check:
    """Parse every label file and open every picture without decoding its pixels; DatasetError if there is no valid box.

    File names in the findings are relative to `folder`.
    """
    boxes: Counter[int] = Counter()
    pictures: Counter[int] = Counter()
    backgrounds = 0
    doubtful: list[str] = []
    repaired: list[str] = []
    unusable = clipped = 0
    bad_lines = sum(layout.lost.values())
    sides = [np.zeros(0)]
    for picture in tqdm(layout.pictures, desc="checking", unit="pictures", disable=None, leave=False):
        size, reason = _size_or_doubt(picture.image)
        ids: list[int] = []
        if picture.label:
            where = _path(picture.label, folder)
            labels = read_labels(layout, picture, where)
            ids = labels.class_ids.tolist()
            doubtful += labels.problems
            bad_lines += len(labels.problems)
            clipped += labels.clipped
            repaired += labels.notes
            reason = reason or labels.unusable
            sides.append(np.sqrt(labels.boxes_xywhn[:, 2:].prod(axis=1) * min(size) / max(size)))
        if reason:
            doubtful.append(f"{_path(picture.image, folder)}: {reason}")
            unusable += 1
        boxes.update(ids)
        pictures.update(set(ids))
        backgrounds += not ids and not reason
    if not boxes:
        raise DatasetError(
            f"no labels: not one of the {len(layout.pictures)} pictures has a good box, expected `class x y w h` lines "
            f"({doubtful[0] if doubtful else 'every label file is empty'})"
        )
    everyone = range(len(layout.classes))
    parts = Counter(picture.part for picture in layout.pictures)
    return Check(
        boxes=[boxes[class_id] for class_id in everyone],
        pictures=[pictures[class_id] for class_id in everyone],
        backgrounds=backgrounds,
        unlabelled=sum(picture.label is None for picture in layout.pictures),
        parts={part: parts[part] for part in PARTS if parts[part]},
        doubtful=doubtful,
        repaired=repaired,
        unusable=unusable,
        lines=boxes.total() + bad_lines,
        bad_lines=bad_lines,
        clipped=clipped,
        side=float(np.median(np.concatenate(sides))),
    )


def refusals(layout: Layout, check: Check, limits: PrepareConfig) -> list[str]:
    """Return the reasons not to add the dataset, by the limits of `prepare`; empty when there are none."""
    reasons = [
        f"{count:,} of {total:,} {what} cannot be used, expected at most prepare.max_rejected = "
        f"{limits.max_rejected:g} of them"
        for what, count, total in (
            ("pictures", check.unusable, len(layout.pictures)),
            ("label lines", check.bad_lines, check.lines),
        )
        if count > limits.max_rejected * total
    ]
    return reasons + too_many_clipped(check.clipped, sum(check.boxes), limits)


def too_many_clipped(clipped: int, boxes: int, limits: PrepareConfig) -> list[str]:
    """Return the reason against labels of which so many leave the picture, if it is one."""
    if clipped <= limits.max_clipped * boxes:
        return []
    return [
        f"{clipped:,} of {boxes:,} boxes leave the picture, expected at most prepare.max_clipped = "
        f"{limits.max_clipped:g} of them; are they corners (x1 y1 x2 y2), or a corner and a size, not centre "
        "and size?"
    ]


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


def describe(layout: Layout, check: Check, name: str, limit: int | None = SHOWN) -> str:
    """Return a table of counts and the first `limit` lines of each list of findings (None: all)."""
    rows: list[Row] = [("class", "boxes", "pictures")]
    rows += [
        (each, *map(str, counts)) for each, *counts in zip(layout.classes, check.boxes, check.pictures, strict=True)
    ]
    rows.append(("(background)", "0", str(check.backgrounds)))
    parts = ", ".join(f"{part} {count:,}" for part, count in check.parts.items())
    return "\n".join(
        [
            Table(f"{name}: {len(layout.pictures):,} pictures, {sum(check.boxes):,} boxes", rows).as_text(),
            *([f"pictures without a label file: {check.unlabelled:,}"] if check.unlabelled else []),
            *([f"parts: {parts}; `split` keeps them (split.mode: auto)"] if parts else []),
            *listed("labels without a picture, left out", list(layout.lost), limit),
            *listed("left out", layout.ignored, limit),
            *listed("read otherwise than written", layout.notes, limit),
            *listed("prepare will leave out", check.doubtful, limit),
            *listed("prepare will repair", check.repaired, limit),
        ]
    )


def listed(title: str, findings: list[str], limit: int | None = SHOWN) -> list[str]:
    """Return a title with the number of findings, the first `limit` of them, and the number of the rest."""
    if not findings:
        return []
    more = len(findings) - len(findings[:limit])
    tail = [f"  … and {more:,} more"] if more else []
    return [f"{title} ({len(findings):,}):", *(f"  {finding}" for finding in findings[:limit]), *tail]


def _size_or_doubt(picture: Path) -> tuple[tuple[int, int], str | None]:
    """Return width and height in pixels, 1 x 1 where unknown, and why a file is not a picture."""
    unknown = (1, 1)
    if not picture.stat().st_size:
        return unknown, "empty, expected a picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large pictures or odd metadata
            with Image.open(picture) as image:
                return image.size, None
    except PermissionError:
        raise
    except Image.DecompressionBombError:  # `prepare` judges the size
        return unknown, None
    except Exception:  # noqa: BLE001 - Pillow's errors on damaged bytes have no common base
        return unknown, "cannot be opened, expected a picture"


def _path(file: Path, folder: Path) -> str:
    return shown(file.relative_to(folder).as_posix())
