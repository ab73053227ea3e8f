"""Split of the pictures into train, val and test that stays stable when pictures are added.

A dataset's own parts are kept. Every other picture's part depends only on a hash of its key and the seed. The key is
the match of `split.group` in the file name, so that frames of one clip stay together, or else the name before
Roboflow's `.rf.`, which its augmented copies share, or else the digest of the picture's bytes. Near-duplicates share
the least of their keys.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from runner.config.schema import PARTS, SplitConfig
from runner.dataset.entries import Entry, read_entries
from runner.errors import DatasetError
from runner.tables import Row, Table
from runner.workspace import write_text
from serving.vision.similarity import near_duplicates

SHOWN = 10  # [pictures] that a message lists
_AUGMENTED = re.compile(r"(.+)\.rf\.[\w-]{16,}\.[^.]+")  # <name>.rf.<hash>.<suffix>, as Roboflow names its copies
_AUGMENTED_KEY = "augmented:"


class Family(NamedTuple):
    """Pictures that belong into one part, by their places, and the key that decides it."""

    key: str
    places: list[int]


def split(dataset: Path, settings: SplitConfig, out: Path) -> str:
    """Write train.txt, val.txt and test.txt, each a list of `images/<name>`, and data.yaml; return a table of counts.

    Also trained.txt: a line of sha256 and look for each picture of train and val, sorted. `dataset` is the output of
    `prepare`. DatasetError: a part would be empty, or `settings` do not fit the dataset.
    """
    index = read_entries(dataset)
    names = (dataset / "classes.txt").read_text(encoding="utf-8").splitlines()
    _check_group(index, settings)
    families = families_of(index, settings)
    parts = _deal(index, families, settings)
    has_own = settings.mode != "hash" and any(entry.get("part") for entry in index)
    left_out = _across(index, parts, settings) if has_own or settings.near == "refuse" else {}
    for place in left_out:
        parts[place] = None
    counts = Counter(parts)
    if empty := [part for part in PARTS if not counts[part]]:
        raise DatasetError(_remedy(empty, index, families, settings))
    images = [entry["image"] for entry in index]
    for part in PARTS:
        lines = (f"{image}\n" for image, own in zip(images, parts, strict=True) if own == part)
        write_text(out / f"{part}.txt", "".join(lines))
    known = sorted(
        f"{entry['sha256']} {entry.get('look') or ''}\n"
        for entry, part in zip(index, parts, strict=True)
        if part in ("train", "val")
    )
    write_text(out / "trained.txt", "".join(known))
    data = {**{part: f"{part}.txt" for part in PARTS}, "names": dict(enumerate(names))}
    write_text(out / "data.yaml", yaml.safe_dump(data, allow_unicode=True, sort_keys=False))
    return "\n".join([_table(index, parts, families, names), *_listed(left_out.values())])


def recorded_parts(entries: Sequence[Entry], settings: SplitConfig) -> list[str]:
    """Return the part to record for each picture of a dataset with parts of its own; those that it has stay.

    Another picture gets the part of its family, the later one of PARTS where it has several, else that of its key. A
    part that no picture has is not begun, as `split` cuts it from train. Of an entry, source and sha256 are needed, and
    part and look where they are known.
    """
    parts: list[str] = [entry.get("part") or "" for entry in entries]
    present = set(filter(None, parts))
    for key, places in families_of(entries, settings):
        own = part_of(key, settings)
        known = sorted({parts[place] for place in places} - {""}, key=PARTS.index)
        for place in places:
            parts[place] = parts[place] or (known[-1] if known else own if own in present else "train")
    return parts


def families_of(entries: Sequence[Entry], settings: SplitConfig) -> list[Family]:
    """Return the families of pictures: those with one key, and with `split.near: keep` their near-duplicates."""
    keys = [group_key(entry, settings) for entry in entries]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    family = [numbers[key] for key in keys]
    joined = list(range(len(numbers)))  # family → one that it was joined to; the first of the joined: itself

    def first_of(number: int) -> int:
        while joined[number] != number:
            joined[number] = joined[joined[number]]
            number = joined[number]
        return number

    if settings.near == "keep":
        for pairs in _near(entries):
            for one, other in pairs.tolist():
                joined[first_of(family[other])] = first_of(family[one])
    places: dict[int, list[int]] = {}
    for place, number in enumerate(family):
        places.setdefault(first_of(number), []).append(place)
    # A group's key goes before a picture's: a clip does not move when a near-duplicate of one frame comes.
    least = [min((keys[place] for place in own), key=lambda key: (":" not in key, key)) for own in places.values()]
    return [Family(key, own) for key, own in zip(least, places.values(), strict=True)]


def group_key(entry: Entry, settings: SplitConfig) -> str:
    """Return a picture's key: its group, or the name that its augmented copies share, or the digest of its bytes.

    A pattern with a group `(…)` gives the text of that group.
    """
    name = Path(entry["source"]).name
    if settings.group and (match := re.search(settings.group, name)):
        return "group:" + (match.group(1) if match.re.groups and match.group(1) is not None else match.group(0))
    if augmented := _AUGMENTED.fullmatch(name):
        return f"{_AUGMENTED_KEY}{augmented[1]}"
    return str(entry["sha256"])


def part_of(key: str, settings: SplitConfig) -> str:
    """Return train, val or test; equal keys get equal parts, whatever else is in the dataset."""
    digest = hashlib.sha256(f"{settings.seed}:{key}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < settings.test:
        return "test"
    return "val" if share < settings.test + settings.val else "train"


def _near(entries: Sequence[Entry]) -> Iterator[NDArray[np.intp]]:
    """Yield pairs of near-duplicates, (N, 2) places; a picture whose look is unknown has none."""
    known = np.array([place for place, entry in enumerate(entries) if entry.get("look")], np.intp)
    for pairs in near_duplicates([entries[place]["look"] for place in known]):
        yield known[pairs]


def _check_group(index: Sequence[Entry], settings: SplitConfig) -> None:
    """Refuse a pattern that groups nothing, or everything; both look as if it worked."""
    if not settings.group or len(index) < 2:
        return
    keys = [group_key(entry, settings) for entry in index]
    groups = any(key.startswith("group:") for key in keys)
    problem = "matches none of" if not groups else "puts into one group all" if len(set(keys)) == 1 else None
    if problem:
        raise DatasetError(
            f"split.group {settings.group!r} {problem} {len(index)} pictures, such as "
            f"{Path(index[0]['source']).name}; expected a pattern whose match is the same for the pictures of one clip "
            "and differs between clips, such as '^(.*)_f' for clip3_f0043.jpg; or leave it empty"
        )


def _deal(index: Sequence[Entry], families: Sequence[Family], settings: SplitConfig) -> list[str | None]:
    """Return each picture's part: the dataset's own or by hash; a missing val or test is cut from train."""
    if settings.mode == "given" and (without := next((each["source"] for each in index if not each.get("part")), None)):
        raise DatasetError(
            f"{without}: the dataset gives it no part, but split.mode is given; use split.mode: auto, which deals "
            "pictures without a part by hash, or add a dataset with train, val and test of its own"
        )
    own = {entry.get("part") for entry in index} - {None}
    if settings.mode == "hash" or not own:
        dealt = {place: part_of(key, settings) for key, places in families for place in places}
        return [dealt[place] for place in range(len(index))]
    parts: list[str | None] = list(recorded_parts(index, settings))
    for key, places in families:
        if (cut := part_of(key, settings)) not in own and all(parts[place] == "train" for place in places):
            for place in places:
                parts[place] = cut
    return parts


def _across(index: Sequence[Entry], parts: Sequence[str | None], settings: SplitConfig) -> dict[int, str]:
    """Return place → text for each picture that belongs together with one of a later part, and has to be left out.

    Only a dataset's own parts have any: what is dealt by hash stays together, unless `split.near` is refuse. The copies
    that augmentation made of one picture leave together: where one is a near-duplicate, the others show the same.
    """
    if settings.near == "ignore":
        return {}
    ranks = np.array([PARTS.index(part or "train") for part in parts], np.intp)
    by_key: dict[str, list[int]] = {}
    keys = [group_key(entry, settings) for entry in index]
    for place, key in enumerate(keys):
        by_key.setdefault(key, []).append(place)
    last = [(max(places, key=ranks.item), places) for places in by_key.values() if len(places) > 1]
    same_key = np.array([(place, most) for most, places in last for place in places], np.intp).reshape(-1, 2)
    twins: dict[int, str] = {}  # place → the picture of a later part
    for later in (2, 1):  # test, then val without the pictures that test leaves out
        stays = ranks == later
        stays[list(twins)] = False
        for pairs in (same_key, *_near(index)):
            both_ways = np.concatenate([pairs, pairs[:, ::-1]])
            for out, kept in both_ways[(ranks[both_ways[:, 0]] < later) & stays[both_ways[:, 1]]].tolist():
                siblings = by_key[key] if (key := keys[out]).startswith(_AUGMENTED_KEY) else [out]
                for place in siblings:
                    if ranks[place] < later:
                        twins.setdefault(place, f"{index[kept]['source']} ({parts[kept]})")
    found = {
        place: f"{index[place]['source']} ({parts[place]}): belongs together with {twin}"
        for place, twin in sorted(twins.items())
    }
    if found and settings.near == "refuse":
        raise DatasetError(
            "pictures that belong together stand in different parts, so what is measured was trained on:\n"
            + "\n".join(_listed(found.values())[1:])
            + "\nremove one of each pair, or use split.near: keep, which keeps them in one part or leaves one out"
        )
    return found


def _listed(left_out: Iterable[str]) -> list[str]:
    lines = list(left_out)
    more = [f"  … and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    title = f"left out of train and val, as they belong together with pictures of a later part ({len(lines)}):"
    return [title, *(f"  {line}" for line in lines[:SHOWN]), *more] if lines else []


def _remedy(empty: list[str], index: Sequence[Entry], families: Sequence[Family], settings: SplitConfig) -> str:
    shares = (
        "lower split.val and split.test" if "train" in empty else f"raise {' and '.join(f'split.{e}' for e in empty)}"
    )
    finer = "or let split.group match more of the name" if settings.group else "or add a dataset of more pictures"
    if len(families) < len({group_key(entry, settings) for entry in index}):
        finer += "; split.near: ignore parts near-duplicates, and then measures on what was nearly trained on"
    return (
        f"no picture falls into {' and '.join(empty)}: {len(index)} pictures in {len(families)} groups of one clip, of "
        f"copies or of near-duplicates, shares split.val {settings.val:g} and split.test {settings.test:g}; {shares}, "
        f"choose another split.seed, {finer}"
    )


def _table(index: Sequence[Entry], parts: Sequence[str | None], families: Sequence[Family], names: list[str]) -> str:
    """Return a row for pictures, groups and each class, with a column for each part; and the classes without boxes."""
    pictures = Counter(parts)
    groups = Counter(part for _, places in families for part in {parts[place] for place in places})
    boxes = Counter[tuple[str | None, int]]()
    for entry, part in zip(index, parts, strict=True):
        boxes.update((part, int(line.split()[0])) for line in entry["labels"].splitlines())
    rows: list[Row] = [
        ("", *PARTS),
        ("pictures", *(str(pictures[part]) for part in PARTS)),
        ("groups", *(str(groups[part]) for part in PARTS)),
        *((name, *(str(boxes[part, number]) for part in PARTS)) for number, name in enumerate(names)),
    ]
    without = [
        f"{name}: no box in {' and '.join(missing)}"
        for number, name in enumerate(names)
        if (missing := [part for part in PARTS if not boxes[part, number]])
    ]
    return "\n".join([Table("", rows).as_text(), *without])
