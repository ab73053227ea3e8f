"""What a task of ours holds, which tasks there are, and new ones: each picture once.

A task's `data` says where its picture is and what it is, so that every later run recognises it:

    image       what Label Studio shows: s3://bucket/key, or /data/upload/… where it holds the file itself
    sha256      of the picture's bytes, in hex: the picture's identity everywhere
    name        of its file, for people and for the dataset
    dhash       16 hex digits that look-alikes share most bits of
    origin      dataset | import | capture | feedback
    reason, model, environment, request_id, verdict, comment, pushed      of captures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.errors import LabelStudioError
from runner.label_studio.browser_pictures import Look
from runner.label_studio.project import Project
from runner.label_studio.regions import Box, Scored, region
from runner.label_studio.server import ONCE

PAGE = 200  # [tasks] asked for at a time
BATCH = 50  # [tasks] made at a time: all of them or none


@dataclass(frozen=True)
class Task:
    """A task that is there.

    Attributes:
        id: its number.
        data: see the head of this file; whatever anyone put there.
        labelled: whether an annotation was finished or the task skipped.
    """

    id: int
    data: dict[str, Any]
    labelled: bool


@dataclass(frozen=True)
class NewTask:
    """A task to make.

    Attributes:
        image: as Label Studio is to show it.
        look: of the picture.
        data: the rest of its data.
        boxes: what is drawn already, as a finished annotation; None: nobody looked at it yet.
        predictions: model version → its boxes.
    """

    image: str
    look: Look
    data: dict[str, Any]
    boxes: Sequence[Box] | None = None
    predictions: Mapping[str, Sequence[Scored]] = field(default_factory=dict)


def tasks_of(its: Project) -> list[Task]:
    """Return all tasks of a project.

    Raises:
        LabelStudioError: fewer came than there are.
    """
    listed: Any = its.server.client.tasks.list(
        project=its.id,
        fields="task_only",
        include="id,data,total_annotations,cancelled_annotations",
        resolve_uri=False,
        page_size=PAGE,
    )
    total = int(listed.response.total) if listed.response else 0
    found = [
        Task(task.id, dict(task.data), bool((task.total_annotations or 0) + (task.cancelled_annotations or 0)))
        for task in listed
    ]
    if len(found) < total:  # the client takes a page that is not found for the end
        raise LabelStudioError(f"{its.address}: {len(found)} of {total} tasks came, expected all; run this again")
    return found


def create_tasks(its: Project, tasks: Sequence[NewTask]) -> None:
    """Make tasks with their annotations and predictions; all of them, or none.

    Args:
        its: the project.
        tasks: at most BATCH, none of which is there.
    Raises:
        ApiError: the server refuses.
        LabelStudioError: it made another number of them.
    """
    made = its.server.client.projects.import_tasks(
        its.id, request=[_request(task) for task in tasks], request_options=ONCE
    )
    if made.task_count != len(tasks):
        raise LabelStudioError(f"{its.address}: made {made.task_count} of {len(tasks)} tasks; look into its log")


def prediction(model: str, boxes: Sequence[Scored], size_px: tuple[int, int]) -> dict[str, Any]:
    """Return a prediction as Label Studio takes it; its score is the least confidence: doubtful ones sort first."""
    return {
        "model_version": model,
        "score": min((confidence for _, confidence in boxes), default=0.0),
        "result": [region(box, size_px, number, score) for number, (box, score) in enumerate(boxes)],
    }


def _request(task: NewTask) -> Any:
    data = {"image": task.image, **task.data, "dhash": f"{task.look.dhash:016x}"}
    size_px = task.look.size_px
    request: dict[str, Any] = {"data": data}
    if task.boxes is not None:
        request["annotations"] = [{"result": [region(box, size_px, i) for i, box in enumerate(task.boxes)]}]
    if task.predictions:
        request["predictions"] = [prediction(model, boxes, size_px) for model, boxes in task.predictions.items()]
    return request
