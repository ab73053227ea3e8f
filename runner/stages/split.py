"""Split of the pictures into train, val and test that stays stable when pictures are added.

The part depends only on a hash of the picture's key and the seed. The key is the match of `split.group` in the file
name, so that frames of one clip stay together, or else the digest of the picture's bytes.
"""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from runner.config.schema import PARTS, SplitConfig
from runner.errors import DatasetError
from runner.tables import Row, Table
from runner.workspace import write_text


def split(dataset: Path, settings: SplitConfig, out: Path) -> str:
    """Write train.txt, val.txt and test.txt, each a list of `images/<name>`, and data.yaml; return a table of counts.

    `dataset` is the output of `prepare`.
    """
    index: list[dict[str, Any]] = json.loads((dataset / "index.json").read_text(encoding="utf-8"))
    names = (dataset / "classes.txt").read_text(encoding="utf-8").splitlines()
    if settings.mode == "given":
        if without := next((entry["source"] for entry in index if entry["part"] is None), None):
            raise DatasetError(
                f"{without}: the dataset gives it no part, but split.mode is given; use split.mode: hash, "
                "or add a dataset with train, val and test of its own"
            )
        parts = {entry["image"]: entry["part"] for entry in index}
    else:
        parts = {entry["image"]: part_of(group_key(entry, settings), settings) for entry in index}
    counts = Counter(parts.values())
    if empty := [part for part in PARTS if not counts[part]]:
        raise DatasetError(_remedy(empty, index, settings))
    for part in PARTS:
        write_text(out / f"{part}.txt", "".join(f"{image}\n" for image in parts if parts[image] == part))
    data = {**{part: f"{part}.txt" for part in PARTS}, "names": dict(enumerate(names))}
    write_text(out / "data.yaml", yaml.safe_dump(data, allow_unicode=True, sort_keys=False))
    return _table(index, parts, names, dataset, settings)


def group_key(entry: dict[str, Any], settings: SplitConfig) -> str:
    """Return the key that decides a picture's part: its group, or the digest of its bytes.

    A pattern with a group `(…)` gives the text of that group. A name without a match is its own group.
    """
    if settings.group:
        match = re.search(settings.group, Path(entry["source"]).name)
        if match:
            return "group:" + (match.group(1) if match.re.groups and match.group(1) is not None else match.group(0))
    return str(entry["sha256"])


def part_of(key: str, settings: SplitConfig) -> str:
    """Return train, val or test; equal keys get equal parts, whatever else is in the dataset."""
    digest = hashlib.sha256(f"{settings.seed}:{key}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < settings.test:
        return "test"
    return "val" if share < settings.test + settings.val else "train"


def _remedy(empty: list[str], index: list[dict[str, Any]], settings: SplitConfig) -> str:
    problem = f"no picture falls into {' and '.join(empty)}"
    if settings.mode == "given":
        return f"{problem}: the dataset has no such part; use split.mode: hash"
    groups = len({group_key(entry, settings) for entry in index})
    shares = (
        "lower split.val and split.test" if "train" in empty else f"raise {' and '.join(f'split.{e}' for e in empty)}"
    )
    finer = "or let split.group match more of the name" if settings.group else "or add a dataset of more pictures"
    return (
        f"{problem}: {len(index)} pictures in {groups} groups, shares split.val {settings.val:g} and split.test "
        f"{settings.test:g}; {shares}, choose another split.seed, {finer}"
    )


def _table(
    index: list[dict[str, Any]], parts: dict[str, str], names: list[str], dataset: Path, settings: SplitConfig
) -> str:
    """Return a row for pictures, groups and each class, with a column for each part."""
    pictures = Counter(parts.values())
    groups = Counter(part for part, _ in {(parts[entry["image"]], group_key(entry, settings)) for entry in index})
    boxes = Counter[tuple[str, int]]()
    for entry in index:
        lines = (dataset / entry["labels"]).read_text(encoding="utf-8").splitlines()
        boxes.update((parts[entry["image"]], int(line.split()[0])) for line in lines)
    rows: list[Row] = [
        ("", *PARTS),
        ("pictures", *(str(pictures[part]) for part in PARTS)),
        ("groups", *(str(groups[part]) for part in PARTS)),
        *((name, *(str(boxes[part, number]) for part in PARTS)) for number, name in enumerate(names)),
    ]
    return Table("", rows).as_text()
