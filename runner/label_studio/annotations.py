"""Finished annotations, from Label Studio's JSON export.

The export in YOLO's format is not used: it numbers classes by the alphabet, takes the oldest of several annotations,
ignores that boxes are turned, and silently leaves out pictures that it cannot load.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from runner.dataset.check import listed
from runner.errors import LabelStudioError
from runner.label_studio.project import Project
from runner.label_studio.regions import Box, labels_of, read_regions

_TRIES = 3  # people may annotate while the export is made


@dataclass(frozen=True)
class Annotated:
    """The newest annotation of a task.

    Attributes:
        boxes: in the picture as a person sees it; None: the task was skipped.
        time: of the last change.
    """

    task: int
    data: dict[str, Any]
    boxes: list[Box] | None
    time: datetime


def exported(its: Project) -> list[dict[str, Any]]:
    """Return all tasks with annotations, skipped ones too; LabelStudioError when the server counts other numbers."""
    for _ in range(_TRIES):
        before = _counted(its)
        raw = b"".join(its.server.client.projects.exports.download_sync(its.id, export_type="JSON"))
        try:
            tasks: list[dict[str, Any]] = json.loads(raw)
        except ValueError as error:
            raise LabelStudioError(f"{its.address}: the export ends too early ({error}); run this again") from error
        cancelled = sum(bool(each["was_cancelled"]) for task in tasks for each in task["annotations"])
        found = (sum(len(task["annotations"]) for task in tasks) - cancelled, cancelled)
        if found == before or found == _counted(its):
            return tasks
    raise LabelStudioError(
        f"{its.address}: the export has {found[0]} annotations and {found[1]} skipped, but it counts {before[0]} and "
        f"{before[1]}; nothing was written: run this again"
    )


def newest_annotations(
    its: Project, classes: Collection[str], rotated: Literal["box", "refuse"]
) -> tuple[list[Annotated], list[str]]:
    """Return the newest annotation of each annotated task, and notes on boxes clipped, straightened or left out.

    Raises:
        LabelStudioError: naming every region that is no box of a known class.
    """
    newest: list[Annotated] = []
    problems: list[str] = []
    notes: list[str] = []
    for task in exported(its):
        where = its.task_address(task["id"])
        last = max(task["annotations"], key=lambda each: (_time(each), each["id"]))
        boxes = None
        if not last["was_cancelled"]:
            drawn = read_regions(last["result"], classes, rotated)
            problems += [f"{where}: {problem}" for problem in drawn.problems]
            notes += [f"{where}: {note}" for note in drawn.notes]
            boxes = drawn.boxes
        newest.append(Annotated(task["id"], task["data"], boxes, _time(last)))
    if problems:
        raise LabelStudioError("\n".join([*listed("annotations to correct first; nothing was written", problems)]))
    return newest, notes


def labels_used(its: Project) -> set[str]:
    """Return the labels that annotations use, old annotations too."""
    return {label for task in exported(its) for each in task["annotations"] for label in labels_of(each["result"])}


def _counted(its: Project) -> tuple[int, int]:
    """Return the numbers of annotations and of skipped tasks.

    `num_tasks_with_annotations` would leave out those that count as ground truth, as imported ones do.
    """
    found = its.server.client.projects.get(its.id)
    return found.total_annotations_number or 0, found.skipped_annotations_number or 0


def _time(annotation: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(annotation["updated_at"])
