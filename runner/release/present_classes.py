"""Classes of a compared model under the dataset's present names: `dataset.classes` may have renamed or merged them."""

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


def present_ids(known: Sequence[str], names: Sequence[str], then: ClassMap, now: ClassMap) -> Ids:
    """Return (C,) the dataset's class id of each class that a model knows; -1 where it has none.

    A class of the same name is that class. Others go back to the names that the mapping of the model's own training,
    `then`, made them of, and on by the present one, `now`; they have an id only where all lead to one class.
    """

    def present(own: str) -> int:
        if own in names:
            return names.index(own)
        before = [name for name, new in then.items() if new == own]
        before += [own] if own in now or not before else []
        targets = {now.get(name, name) for name in before}
        target = targets.pop() if len(targets) == 1 else None
        return names.index(target) if target in names else -1

    return np.array([present(own) for own in known], np.int64)


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
