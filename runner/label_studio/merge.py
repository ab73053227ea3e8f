"""The next dataset: the current one with the annotations, joined by the digest of each picture."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.config.schema import SplitConfig
from runner.dataset.labels import format_labels
from runner.dataset.names import name_pictures, stem_key
from runner.errors import LabelStudioError
from runner.label_studio.annotations import Annotation
from runner.label_studio.labelled_dataset import Frame, LabelledDataset, LabelledPicture, dataset_boxes, parse_boxes
from runner.label_studio.regions import LabelledBox
from runner.stages.split import recorded_parts

SAME = 1e-5  # [fraction] of a picture: boxes closer than this are equal, as writing and reading round them


@dataclass
class MergedDataset:
    """The next dataset, and the names of the changed pictures."""

    dataset: LabelledDataset
    added: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    origins: Counter[str] = field(default_factory=Counter)  # origin → number of added and relabelled pictures

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of changed pictures."""
        return {"added": len(self.added), "relabelled": len(self.relabelled), "removed": len(self.removed)}


def merge(
    before: LabelledDataset,
    annotations: Mapping[str, Annotation],
    removed: Collection[str],
    classes: list[str],
    frame: Frame,
) -> MergedDataset:
    """Return the dataset with the annotations; a picture with unchanged boxes keeps its label file, byte for byte.

    `annotations` and the pictures to leave out, `removed`, are by sha256. `classes` are the new dataset's, in id order;
    LabelStudioError when they lack a class that has boxes.
    """
    _check_classes(before, classes)
    same_ids = classes[: len(before.classes)] == before.classes
    merged = MergedDataset(LabelledDataset(classes, [], before.about))
    pictures = merged.dataset.pictures
    for picture in before.pictures:
        if picture.sha256 in removed:
            merged.removed.append(picture.name)
            continue
        boxes = picture.boxes
        annotation = annotations.get(picture.sha256)
        if annotation and annotation.boxes is not None:
            new = dataset_boxes(annotation.boxes, picture.image, frame)
            if not same_boxes(new, boxes):
                merged.relabelled.append(picture.name)
                merged.origins[annotation.origin] += 1
                boxes = new
        if boxes is not picture.boxes or not (same_ids or picture.text is None):
            picture = replace(picture, text=label_text(boxes, classes), boxes=boxes)
        pictures.append(picture)
    taken = {stem_key(picture.name) for picture in before.pictures}
    known = {picture.sha256 for picture in before.pictures}
    for sha256, annotation in sorted(annotations.items()):
        if sha256 in known or annotation.image is None or annotation.boxes is None:
            continue
        name = free_name(annotation.name, sha256, taken)
        boxes = dataset_boxes(annotation.boxes, annotation.image, frame)
        merged.added.append(name)
        merged.origins[annotation.origin] += 1
        pictures.append(LabelledPicture(name, annotation.image, sha256, label_text(boxes, classes), boxes, None))
    return merged


def assign_parts(merged: MergedDataset, before: LabelledDataset, settings: SplitConfig) -> None:
    """Assign new pictures to parts if the dataset has parts of its own: their group's part, else as `split` would."""
    if any(picture.part for picture in before.pictures):
        pictures = merged.dataset.pictures
        entries = [{"source": each.name, "sha256": each.sha256, "part": each.part} for each in pictures]
        for place, part in enumerate(recorded_parts(entries, settings)):
            pictures[place] = replace(pictures[place], part=part)


def check_merged(merged: MergedDataset, before: LabelledDataset) -> None:
    """Compare counts of pictures, names and files, and boxes with label files; LabelStudioError when they differ."""
    dataset = merged.dataset
    names = {picture.name for picture in dataset.pictures}
    files = sum(picture.image.is_file() for picture in dataset.pictures)
    expected = len(before.pictures) + len(merged.added) - len(merged.removed)
    if not len(dataset.pictures) == len(names) == files == expected:
        raise LabelStudioError(
            f"{len(dataset.pictures)} pictures, {len(names)} names, {files} files, but {expected} expected; nothing "
            "was written: this is a bug in `labels pull`, report it"
        )
    for picture in dataset.pictures:
        if not same_boxes(parse_boxes(picture.text or b"", dataset.classes), picture.boxes):
            raise LabelStudioError(f"{picture.name}: its label file would have other boxes; nothing was written")


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


def label_text(boxes: Sequence[LabelledBox], classes: list[str]) -> bytes:
    """Return a label file's content; independent of the order in which boxes were drawn."""
    rows = sorted((classes.index(box.label), box.xywhn) for box in boxes)
    return format_labels([number for number, _ in rows], [xywhn for _, xywhn in rows]).encode()


def _check_classes(before: LabelledDataset, classes: list[str]) -> None:
    used = Counter(box.label for picture in before.pictures for box in picture.boxes)
    if missing := [name for name in before.classes if used[name] and name not in classes]:
        raise LabelStudioError(
            f"params.yaml: dataset.classes lists {', '.join(classes)}, but the dataset has {used[missing[0]]} boxes of "
            f"{missing[0]}; add it to dataset.classes"
        )


def _same(one: LabelledBox, other: LabelledBox) -> bool:
    return one.label == other.label and all(abs(a - b) < SAME for a, b in zip(one.xywhn, other.xywhn, strict=True))
