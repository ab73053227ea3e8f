"""The next dataset: the current one with the annotations, joined by the digest of each picture."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.config.schema import SplitConfig
from runner.dataset.check import make_row, read_facts
from runner.dataset.index import Index, PictureRow
from runner.dataset.names import name_pictures, stem_key
from runner.errors import LabelStudioError
from runner.label_studio.annotations import Annotation
from runner.label_studio.labelled_dataset import read_boxes, write_boxes
from runner.label_studio.regions import LabelledBox
from runner.stages.split import recorded_parts

SAME = 1e-5  # [fraction] of a picture: boxes closer than this are equal, as writing and reading round them


@dataclass
class MergedDataset:
    """The next dataset, and the names of the changed pictures."""

    index: Index
    files: dict[str, Path] = field(default_factory=dict)  # digest → file of each added picture
    added: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    origins: Counter[str] = field(default_factory=Counter)  # origin → number of added and relabelled pictures

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of changed pictures."""
        return {"added": len(self.added), "relabelled": len(self.relabelled), "removed": len(self.removed)}


def merge(
    before: Index, annotations: Mapping[str, Annotation], removed: Collection[str], classes: list[str]
) -> MergedDataset:
    """Return the dataset with the annotations; a picture with unchanged boxes keeps its row.

    `annotations` and the pictures to leave out, `removed`, are by sha256. `classes` are the new dataset's, in id order;
    LabelStudioError when they lack a class that has boxes.
    """
    check_classes(before, classes)
    same_ids = classes[: len(before.classes)] == before.classes
    rows: list[PictureRow] = []
    merged = MergedDataset(Index(classes, before.about, rows))
    for row in sorted(before.rows, key=lambda row: row.name):
        if row.sha256 in removed:
            merged.removed.append(row.name)
            continue
        annotation = annotations.get(row.sha256)
        drawn = annotation.boxes if annotation else None
        if annotation and drawn is not None and not same_boxes(drawn, read_boxes(row.labels, before.classes)):
            merged.relabelled.append(row.name)
            merged.origins[annotation.origin] += 1
            row = row._replace(labels=write_boxes(drawn, classes))
        elif not same_ids:
            row = row._replace(labels=write_boxes(read_boxes(row.labels, before.classes), classes))
        rows.append(row)
    taken = {stem_key(row.name) for row in before.rows}
    known = {row.sha256 for row in before.rows}
    for sha256, annotation in sorted(annotations.items()):
        if sha256 not in known and annotation.image and annotation.boxes is not None:
            merged.files[sha256] = annotation.image
    for sha256, facts in zip(merged.files, read_facts(list(merged.files.values())), strict=True):
        annotation = annotations[sha256]
        name = free_name(annotation.name, sha256, taken)
        merged.added.append(name)
        merged.origins[annotation.origin] += 1
        rows.append(make_row(name, facts, None, write_boxes(annotation.boxes or [], classes)))
    return merged


def assign_parts(merged: MergedDataset, before: Index, settings: SplitConfig) -> None:
    """Assign new pictures to parts if the dataset has parts of its own: their group's part, else as `split` would."""
    if any(row.part for row in before.rows):
        rows = merged.index.rows
        entries = [{"source": row.name, "sha256": row.sha256, "part": row.part} for row in rows]
        for place, part in enumerate(recorded_parts(entries, settings)):
            rows[place] = rows[place]._replace(part=part)


def check_classes(dataset: Index, classes: list[str]) -> None:
    """Raise LabelStudioError when the dataset has boxes of a class that is not among `classes`."""
    used = {name: count for name, count in zip(dataset.classes, dataset.boxes, strict=True) if count}
    if missing := {name: count for name, count in used.items() if name not in classes}:
        counts = " and ".join(f"{count} boxes of {name}" for name, count in missing.items())
        raise LabelStudioError(
            f"params.yaml: dataset.classes lists {', '.join(classes)}, but the dataset has {counts}; list the class "
            "again. To withdraw it, give its boxes another label in Label Studio, or delete them, and pull first"
        )


def check_merged(merged: MergedDataset, before: Index) -> None:
    """Compare counts of pictures, names and files; LabelStudioError when they differ."""
    rows, names = merged.index.rows, {row.name for row in merged.index.rows}
    files = len({row.sha256 for row in rows} & (merged.files.keys() | {row.sha256 for row in before.rows}))
    pictures = len({row.sha256 for row in rows})
    expected = len(before.rows) + len(merged.added) - len(merged.removed)
    if not (len(rows) == len(names) == expected and files == pictures):
        raise LabelStudioError(
            f"{len(rows)} pictures, {len(names)} names, {pictures - files} without a file, but {expected} expected; "
            "nothing was written: this is a bug in `labels pull`, report it"
        )


def same_boxes(one: Sequence[LabelledBox], other: Sequence[LabelledBox]) -> bool:
    """Whether two pictures have the same boxes, in any order; duplicates count once."""
    return all(any(_same(box, each) for each in there) for here, there in ((one, other), (other, one)) for box in here)


def free_name(name: str, sha256: str, taken: set[str]) -> str:
    """Return a file name that is safe on every disk and whose stem is not taken, and add the stem to `taken`.

    The picture's own name if possible, else with eight or more digits of its digest behind the stem. So a picture keeps
    its name when others are added later.
    """
    (safe,) = name_pictures([name]).values()
    stem, _, suffix = safe.rpartition(".")
    digits = 8
    while stem_key(safe) in taken:
        safe = f"{stem}-{sha256[:digits]}.{suffix}"
        digits += 1
    taken.add(stem_key(safe))
    return safe


def _same(one: LabelledBox, other: LabelledBox) -> bool:
    return one.label == other.label and all(abs(a - b) < SAME for a, b in zip(one.xywhn, other.xywhn, strict=True))
