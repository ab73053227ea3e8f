"""Classes of a compared model under the present names, as the dataset or `dataset.classes` may have renamed them."""

from collections.abc import Sequence

import numpy as np

from runner.stages.evaluate.metrics import Boxes, Ids, overlaps
from serving.storage.manifest import Manifest

ClassMap = dict[str, str | None]  # `dataset.classes` where it maps names


def class_map(classes: object) -> ClassMap:
    """Return `dataset.classes` where it maps names, as a configuration has it; else an empty mapping."""
    return classes if isinstance(classes, dict) else {}


def class_map_of(manifest: Manifest) -> ClassMap:
    """Return the mapping of `dataset.classes` that a version was trained with; empty where it had none."""
    dataset = manifest.params.get("dataset")
    return class_map(dataset.get("classes") if isinstance(dataset, dict) else None)


def present_ids(
    known: Sequence[str], names: Sequence[str], then: ClassMap, now: ClassMap, renamed: ClassMap | None = None
) -> Ids:
    """Return (C,) the dataset's class id of each class that a model knows; -1 where it has none.

    A class of the same name is that class. Others have the name that `renamed` (`gate.renamed`) gives them. Others go
    back to the names that the mapping of the model's own training, `then`, made them of, and on by the present one,
    `now`; they have an id only where all lead to one class.
    """

    def present(own: str) -> int:
        targets = {own} if own in names else _targets(own, then, now, renamed or {})
        target = targets.pop() if len(targets) == 1 else None
        return names.index(target) if target in names else -1

    return np.array([present(own) for own in known], np.int64)


def is_dropped(own: str, then: ClassMap, now: ClassMap, renamed: ClassMap) -> bool:
    """Whether the mappings of `present_ids` say that a class is no longer looked for."""
    return _targets(own, then, now, renamed) == {None}


def _targets(own: str, then: ClassMap, now: ClassMap, renamed: ClassMap) -> set[str | None]:
    if own in renamed:
        return {renamed[own]}
    before = [name for name, new in then.items() if new == own]
    before += [own] if own in now or not before else []
    return {now.get(name, name) for name in before}


def suppress_merged(found: Sequence[Boxes], ids: Ids, iou: float) -> list[Boxes]:
    """Return the boxes of the dataset's classes; of two that overlap by more than `iou`, the more confident.

    Suppression concerns the classes that several of the model's became; the others' boxes stay as they are.

    Args:
        found: boxes of each picture with class ids of `ids`, the most confident first.
        ids: (C,) the dataset's class id of each of the model's classes, -1 for none.
        iou: 0 to 1.
    """
    own, counts = np.unique(ids[ids >= 0], return_counts=True)
    merged = own[counts > 1]
    return [_suppressed(each.take(np.flatnonzero(each.class_ids >= 0)), merged, iou) for each in found]


def _suppressed(boxes: Boxes, merged: Ids, iou: float) -> Boxes:
    kept = np.ones(len(boxes.class_ids), np.bool_)
    for class_id in merged:
        rows = np.flatnonzero(boxes.class_ids == class_id)
        rivals = overlaps(boxes.xyxy_px[rows], boxes.xyxy_px[rows]) > iou
        for place, row in enumerate(rows):
            if kept[row]:
                kept[rows[place + 1 :][rivals[place, place + 1 :]]] = False
    return boxes.take(np.flatnonzero(kept))
