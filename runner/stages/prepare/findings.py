"""Findings of `prepare`, and the data gate, which decides whether the dataset may be trained on."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runner.config.schema import PrepareConfig
from runner.dataset.labels import Labels, too_many_clipped


@dataclass
class Findings:
    """Counts, and everything that was left out or changed, with its reason."""

    pictures: int = 0
    kept: int = 0  # pictures
    background: int = 0  # kept pictures without a box
    unusable_pictures: int = 0
    duplicates: int = 0
    label_lines: int = 0
    unusable_lines: int = 0
    clipped: int = 0
    boxes: Counter[int] = field(default_factory=Counter)  # of kept pictures, by class id
    sides: "array[float]" = field(
        default_factory=lambda: array("d")
    )  # square root of the area of each of these boxes, as a fraction of its picture's
    unwanted: Counter[int] = field(
        default_factory=Counter
    )  # boxes of each class that dataset.classes leaves out, by own id
    left_out: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, file: str, reason: str) -> None:
        """Note a file, or a line of one, that is left out."""
        self.left_out.append({"file": file, "reason": reason})

    def keep(self, labels: Labels) -> None:
        """Count a picture that is kept, with its boxes."""
        self.kept += 1
        self.background += not len(labels.class_ids)
        self.boxes.update(labels.class_ids.tolist())
        self.sides.extend(np.sqrt(labels.boxes_xywhn[:, 2:].prod(axis=1)).tolist())

    def summary(self, names: list[str]) -> dict[str, Any]:
        """Return the content of report.json, from the class names in id order."""
        return {
            "pictures": {
                "found": self.pictures,
                "kept": self.kept,
                "background": self.background,
                "duplicates": self.duplicates,
                "unusable": self.unusable_pictures,
            },
            "labels": {"found": self.label_lines, "unusable": self.unusable_lines},
            "boxes": {name: self.boxes[number] for number, name in enumerate(names)},
            "left_out": self.left_out,
            "notes": self.notes,
        }

    def refusals(self, summary: dict[str, Any], settings: PrepareConfig) -> list[str]:
        """Return the reasons against training on the dataset; empty when it passes."""
        refusals = []
        if (kept := summary["pictures"]["kept"]) < (least := settings.min_pictures):
            refusals.append(f"{kept} pictures are left, expected at least prepare.min_pictures = {least}")
        for what, folder, unusable, total in (
            ("pictures", "images/", self.unusable_pictures, self.pictures),
            ("label lines", "labels/", self.unusable_lines, self.label_lines),
        ):
            if unusable > settings.max_rejected * total:
                first = next(item for item in self.left_out if item["file"].startswith(folder))
                refusals.append(
                    f"{unusable} of {total} {what} cannot be used, expected at most prepare.max_rejected = "
                    f"{settings.max_rejected:g} of them; the first: {first['file']}: {first['reason']}"
                )
        refusals += too_many_clipped(self.clipped, sum(summary["boxes"].values()), settings)
        for name, count in summary["boxes"].items():
            if count < (least := settings.min_per_class):
                refusals.append(f"{count} boxes of {name}, expected at least prepare.min_per_class = {least}")
        return refusals
