"""Copies of one picture in a dataset: those that stay, and those that disagree about their boxes."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from runner.config.schema import PARTS
from runner.dataset.labels import Labels

TOLERANCE = 1e-3  # [fraction of the picture] between equal boxes: numbers rounded to three decimals, twice
SHOWN_PAIRS = 10  # in a message, and drawn


class Copy(NamedTuple):
    """A picture, by name, and what a dataset says of it."""

    name: str
    sha256: str
    part: str | None  # train, val, test, or None
    labels: Labels
    file: Path


def sort_copies(
    pictures: Iterable[Copy], rule: Literal["refuse", "labelled"]
) -> tuple[dict[str, str], list[tuple[Copy, Copy]]]:
    """Return the names of the copies that leave, each with the reason, and the pairs that disagree.

    Of equal copies stays the one in test before val before train, then the first by name; a copy without boxes leaves
    before one with boxes. By the rule `labelled` the one with the most boxes stays, and no pairs are returned.
    """
    groups = defaultdict(list)
    for each in pictures:
        groups[each.sha256].append(each)
    leaving: dict[str, str] = {}
    pairs = []
    for group in groups.values():
        if len(group) == 1:
            continue
        group.sort(key=lambda each: (-PARTS.index(each.part or "train"), each.name))
        kept = next((each for each in group if len(each.labels.class_ids)), group[0])
        if rule == "labelled":
            kept = max(group, key=lambda each: len(each.labels.class_ids))
        for each in group:
            if each is kept:
                continue
            if _agree(each.labels, kept.labels):
                leaving[each.name] = f"the same bytes and labels as {kept.name}, which is kept"
            elif not len(each.labels.class_ids) or rule == "labelled":
                boxes = len(kept.labels.class_ids)
                leaving[each.name] = f"the same bytes as {kept.name}, which is kept with its {boxes} boxes"
            else:
                pairs.append((kept, each))
    return leaving, pairs


def describe_pairs(pairs: list[tuple[Copy, Copy]], names: list[str], sheet: Path) -> str:
    """Draw pairs that disagree into a new JPEG `sheet`, and return the message that names them and the ways out.

    `names` are the classes, in id order.
    """
    from runner.dataset.sheet import draw_sheet

    sheet.parent.mkdir(parents=True, exist_ok=True)
    shown = [(each.file, each.labels, each.name) for pair in pairs[:SHOWN_PAIRS] for each in pair]
    draw_sheet(shown, names, 2).save(sheet, quality=88)
    more = [f"  and {len(pairs) - SHOWN_PAIRS} more"] if len(pairs) > SHOWN_PAIRS else []
    return "\n".join(
        [
            f"{len(pairs)} pictures are in the dataset twice with different labels:",
            *(f"  {one.name} and {other.name}" for one, other in pairs[:SHOWN_PAIRS]),
            *more,
            f"they are drawn side by side in {sheet}; remove the wrong one of each pair, or set prepare.duplicates: "
            "labelled, which keeps the one with the most boxes",
        ]
    )


def _agree(one: Labels, other: Labels) -> bool:
    """Whether both have the same boxes, in any order."""
    if sorted(one.class_ids.tolist()) != sorted(other.class_ids.tolist()):
        return False
    left = list(zip(other.class_ids.tolist(), other.boxes_xywhn, strict=True))
    for class_id, box in zip(one.class_ids.tolist(), one.boxes_xywhn, strict=True):
        near = (
            place
            for place, (own, own_box) in enumerate(left)
            if own == class_id and np.abs(own_box - box).max() < TOLERANCE
        )
        if (place := next(near, None)) is None:
            return False
        del left[place]
    return True
