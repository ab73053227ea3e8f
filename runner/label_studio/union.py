"""Union of the current dataset and the annotations, joined by the digest of each picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runner.dataset.labels import format_labels
from runner.dataset.names import fold, name_pictures
from runner.errors import LabelStudioError
from runner.label_studio.browser_pictures import as_kept, turn_of
from runner.label_studio.current import Dataset, Picture
from runner.label_studio.regions import Box

SAME = 1e-5  # [fraction] of a picture: boxes closer than this are equal, as writing and reading round them


@dataclass(frozen=True)
class Finding:
    """A person's annotation of a picture.

    Attributes:
        image: None when the dataset has the picture already.
        name: of its file, from the task; untrusted.
        boxes: in the picture as a person sees it.
        origin: of the task: dataset, import, capture, feedback, or empty.
        part: for a new picture of a dataset with parts of its own.
    """

    image: Path | None
    name: str
    boxes: list[Box]
    origin: str
    part: str | None = None


@dataclass
class Union:
    """The next dataset, and the changes.

    Attributes:
        added, relabelled, removed: names of pictures.
        origins: origin → number of added and relabelled pictures.
    """

    dataset: Dataset
    added: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    origins: Counter[str] = field(default_factory=Counter)

    @property
    def news(self) -> int:
        """Number of changed pictures."""
        return len(self.added) + len(self.relabelled) + len(self.removed)


def unite(
    before: Dataset,
    findings: Mapping[str, Finding],
    gone: Collection[str],
    classes: list[str],
    frame: Literal["stored", "seen"],
) -> Union:
    """Return the dataset with the annotations; a picture with unchanged boxes keeps its label file, byte for byte.

    Args:
        findings: sha256 → annotation.
        gone: sha256 of pictures to leave out.
        classes: of the new dataset, in id order; LabelStudioError when they lack a class that has boxes.
        frame: of the dataset's boxes (`prepare.exif_boxes`).
    """
    _check_classes(before, classes)
    same_ids = classes[: len(before.classes)] == before.classes
    made = Union(Dataset(classes, [], before.about))
    for picture in before.pictures:
        finding = findings.get(picture.sha256)
        if picture.sha256 in gone:
            made.removed.append(picture.name)
            continue
        boxes = as_kept(finding.boxes, turn_of(picture.image), frame) if finding else picture.boxes
        if finding and not same_boxes(boxes, picture.boxes):
            made.relabelled.append(picture.name)
            made.origins[finding.origin] += 1
            made.dataset.pictures.append(_relabelled(picture, boxes, classes))
        elif same_ids or picture.text is None:
            made.dataset.pictures.append(picture)
        else:
            made.dataset.pictures.append(_relabelled(picture, picture.boxes, classes))
    taken = {_stem(picture.name) for picture in before.pictures}
    known = {picture.sha256 for picture in before.pictures}
    for sha256, finding in sorted(findings.items()):
        if sha256 in known or finding.image is None:
            continue
        name = free_name(finding.name, sha256, taken)
        boxes = as_kept(finding.boxes, turn_of(finding.image), frame)
        made.added.append(name)
        made.origins[finding.origin] += 1
        text = label_text(boxes, classes)
        made.dataset.pictures.append(Picture(name, finding.image, sha256, text, boxes, finding.part))
    return made


def same_boxes(one: Sequence[Box], other: Sequence[Box]) -> bool:
    """Whether two pictures have the same boxes, in any order; duplicates count once."""
    return _within(one, other) and _within(other, one)


def free_name(name: str, sha256: str, taken: set[str]) -> str:
    """Return a file name that is safe on every disk and whose stem is not taken, and add the stem to `taken`.

    The picture's own name if possible, else with eight or more digits of its digest behind the stem. So a picture keeps
    its name when others are added later.
    """
    (safe,) = name_pictures([name]).values()
    stem, _, suffix = safe.rpartition(".")
    digits = 8
    while _stem(safe) in taken:
        safe = f"{stem}-{sha256[:digits]}.{suffix}"
        digits += 1
    taken.add(_stem(safe))
    return safe


def label_text(boxes: Sequence[Box], classes: list[str]) -> bytes:
    """Return a label file's content; independent of the order in which boxes were drawn."""
    rows = sorted((classes.index(box.label), box.xywhn) for box in boxes)
    return format_labels([number for number, _ in rows], [xywhn for _, xywhn in rows]).encode()


def _relabelled(picture: Picture, boxes: list[Box], classes: list[str]) -> Picture:
    text = label_text(boxes, classes)
    return Picture(picture.name, picture.image, picture.sha256, text, boxes, picture.part)


def _check_classes(before: Dataset, classes: list[str]) -> None:
    used = Counter(box.label for picture in before.pictures for box in picture.boxes)
    if lost := [name for name in before.classes if used[name] and name not in classes]:
        raise LabelStudioError(
            f"params.yaml: dataset.classes lists {', '.join(classes)}, but the dataset has {used[lost[0]]} boxes of "
            f"{lost[0]}; list it too"
        )


def _within(some: Sequence[Box], all_of: Sequence[Box]) -> bool:
    return all(any(_same(box, other) for other in all_of) for box in some)


def _same(one: Box, other: Box) -> bool:
    return one.label == other.label and all(abs(a - b) < SAME for a, b in zip(one.xywhn, other.xywhn, strict=True))


def _stem(name: str) -> str:
    return fold(name.rpartition(".")[0])
