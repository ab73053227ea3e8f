"""Finished annotations from Label Studio's JSON export, by picture; of several for one picture, the newest counts.

The export in YOLO's format is not used: it numbers classes by the alphabet, takes the oldest of several annotations,
ignores that boxes are turned, and silently leaves out pictures that it cannot load.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from posixpath import basename
from typing import Any, Literal

from runner.dataset.check import listed
from runner.dataset.files import is_picture
from runner.errors import LabelStudioError
from runner.label_studio.labelling_tasks import PAGE, query_tasks, sha256_in, suffix_of
from runner.label_studio.regions import LabelledBox, agree, labels_of, read_regions
from runner.label_studio.server import OF_ALL_TASKS, Project
from runner.label_studio.task_images import TaskImages
from runner.stages.parallel import threads
from runner.workspace import sha256_of
from serving.vision.picture import PictureError, decode

_TRIES = 3  # people may annotate while the export is made
_READ = "result,updated_at,was_cancelled,completed_by,ground_truth"  # of annotations; other fields are filtered out
_UPLOADED = re.compile("^[0-9a-f]{8}-")  # Label Studio's prefix of an upload's name


@dataclass(frozen=True)
class Annotation:
    """The newest annotation of a task."""

    task: int
    data: dict[str, Any]  # of the task; untrusted
    boxes: list[LabelledBox] | None  # in the upright picture; None: the task was skipped
    time: datetime  # of the last change
    image: Path | None = None  # the fetched picture; None: the dataset has it
    name: str = ""  # of that picture's file; untrusted
    disputed: bool = False  # another person's last annotation of the task has other things

    @property
    def origin(self) -> str:
        """Origin of the task: dataset, import, capture, feedback, or empty."""
        return str(self.data.get("origin") or "")


def newest_annotations(
    project: Project, tasks: Sequence[dict[str, Any]], classes: Collection[str], rotated: Literal["box", "refuse"]
) -> tuple[list[Annotation], list[str]]:
    """Return the newest annotation of each annotated task, and notes on boxes clipped, replaced or left out.

    `tasks` are those of `export_tasks` or `read_tasks`. LabelStudioError names all regions that are not a box of a
    known class.
    """
    newest: list[Annotation] = []
    problems: list[str] = []
    notes: list[str] = []
    for task in tasks:
        where = project.task_address(task["id"])
        time, _, last = max((datetime.fromisoformat(it["updated_at"]), it["id"], it) for it in task["annotations"])
        boxes = None
        if not last["was_cancelled"]:
            found = read_regions(last["result"], classes, rotated)
            problems += [f"{where}: {problem}" for problem in found.problems]
            notes += [f"{where}: {note}" for note in found.notes]
            boxes = found.boxes
        disputed = any(not _agrees(boxes, each, classes) for each in _of_others(task["annotations"], last))
        newest.append(Annotation(task["id"], task["data"], boxes, time, disputed=disputed))
    if problems:
        raise LabelStudioError("\n".join(listed("annotations to correct first; nothing was written", problems)))
    return newest, notes


def _of_others(annotations: Sequence[dict[str, Any]], last: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the newest annotation of each person but the one who made `last`."""
    people = {str(each["completed_by"]): each for each in sorted(annotations, key=lambda each: str(each["updated_at"]))}
    return [each for person, each in people.items() if person != str(last["completed_by"])]


def _agrees(boxes: list[LabelledBox] | None, annotation: dict[str, Any], classes: Collection[str]) -> bool:
    if boxes is None or annotation["was_cancelled"]:
        return boxes is None and bool(annotation["was_cancelled"])
    return agree(boxes, read_regions(annotation["result"], classes, "box").boxes)


def labels_used(project: Project) -> set[str]:
    """Return the labels that annotations use, old annotations too; Label Studio's own counts of them may be wrong."""
    return {
        label for task in export_tasks(project) for each in task["annotations"] for label in labels_of(each["result"])
    }


def with_digests(
    annotations: Sequence[Annotation], known: Collection[str], images: TaskImages, folder: Path
) -> list[tuple[str, Annotation]]:
    """Return each annotation with the sha256 of its picture; empty: skipped, and its data has no digest.

    Pictures whose sha256 is not `known`, as those of the dataset are, are fetched to `folder`.
    """
    new = [each for each in annotations if each.boxes is not None and sha256_in(each.data) not in known]
    folder.mkdir(exist_ok=True)
    fetched = {pair[1].task: pair for pair in threads(partial(_fetch, images, folder), new, "fetching")}
    return [fetched.get(each.task) or (sha256_in(each.data), each) for each in annotations]


def read_tasks(project: Project, ids: Collection[int]) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Return those of the tasks with annotations, in the form of `export_tasks`, and the digest in each one's data.

    A task that was deleted meanwhile is in neither.
    """
    annotated: list[dict[str, Any]] = []
    digests: dict[int, str] = {}
    rest = sorted(ids)
    while batch := rest[:PAGE]:
        del rest[:PAGE]
        for task in query_tasks(project, f"id,data,annotations,{_READ}", batch):
            digests[task.id] = sha256_in(task.data)
            if task.annotations:
                annotated.append({"id": task.id, "data": dict(task.data), "annotations": list(task.annotations)})
    return annotated, digests


def export_tasks(project: Project) -> list[dict[str, Any]]:
    """Return all tasks with annotations, skipped ones too; LabelStudioError when the server counts other numbers."""
    for _ in range(_TRIES):
        before = _count(project)
        exports = project.server.client.projects.exports
        raw = b"".join(exports.download_sync(project.id, export_type="JSON", request_options=OF_ALL_TASKS))
        try:
            tasks: list[dict[str, Any]] = json.loads(raw)
        except ValueError as error:
            raise LabelStudioError(
                f"{project.address}: the export is incomplete ({error}); run this command again"
            ) from error
        skipped = sum(bool(each["was_cancelled"]) for task in tasks for each in task["annotations"])
        found = (sum(len(task["annotations"]) for task in tasks) - skipped, skipped)
        if found in (before, _count(project)):
            return tasks
    raise LabelStudioError(
        f"{project.address}: the export has {found[0]} annotations and {found[1]} skipped, but the project counts "
        f"{before[0]} and {before[1]}; nothing was written: run this command again"
    )


def _count(project: Project) -> tuple[int, int]:
    """Return the numbers of annotations and of skipped tasks.

    `num_tasks_with_annotations` would leave out those that count as ground truth, as imported ones do.
    """
    counts = project.server.client.projects.get(project.id)
    return counts.total_annotations_number or 0, counts.skipped_annotations_number or 0


def _fetch(images: TaskImages, folder: Path, annotation: Annotation) -> tuple[str, Annotation]:
    """Fetch the picture of a task; return its digest, and the annotation with its file and name."""
    where, image = f"task {annotation.task}", annotation.data.get("image")
    if not isinstance(image, str):
        raise LabelStudioError(f"{where}: its data has no image; delete the task")
    path = folder / str(annotation.task)
    images.fetch(annotation.task, image, path)
    sha256, expected = sha256_of(path), sha256_in(annotation.data)
    if expected and sha256 != expected:
        raise LabelStudioError(
            f"{where}: its picture {image[:200]} was replaced: its sha256 is {sha256}, but it was {expected} when the "
            "task was created; restore the old picture, or delete the task and import the new one"
        )
    try:
        suffix = suffix_of(decode(path.read_bytes(), fit=64).format)
    except PictureError as error:
        raise LabelStudioError(f"{where}: its picture {image[:200]}: {error}; delete the task") from error
    name = annotation.data.get("name")
    if not isinstance(name, str) or not name:
        name = _UPLOADED.sub("", basename(image))
    return sha256, replace(annotation, image=path, name=name if is_picture(name) else f"{name}{suffix}")
