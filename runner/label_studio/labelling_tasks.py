"""Tasks in Label Studio: their data, reading and creating them; each picture once.

A task's `data` identifies its picture for later runs:

    image       address for Label Studio: s3://bucket/key, or /data/upload/… for a file that it holds itself
    sha256      of the picture's bytes, in hex: the picture's identity everywhere
    name        of its file, for people and for the dataset
    dhash       16 hex digits; near-duplicates share most bits
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

PAGE = 200  # [tasks] per request
BATCH = 50  # [tasks] created per request: all or none


@dataclass(frozen=True)
class Task:
    """An existing task.

    Attributes:
        data: see the module; unchecked, anyone can edit it.
        labelled: an annotation was finished, or the task skipped.
    """

    id: int
    data: dict[str, Any]
    labelled: bool


@dataclass(frozen=True)
class NewTask:
    """A task to create.

    Attributes:
        image: address for Label Studio.
        data: further keys of its data.
        boxes: of a finished annotation; None: not annotated.
        predictions: model version → its boxes.
    """

    image: str
    look: Look
    data: dict[str, Any]
    boxes: Sequence[Box] | None = None
    predictions: Mapping[str, Sequence[Scored]] = field(default_factory=dict)


def tasks_of(its: Project) -> list[Task]:
    """Return all tasks of a project; LabelStudioError when fewer came than there are."""
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
    if len(found) < total:  # the client takes a missing page (404) for the end
        raise LabelStudioError(f"{its.address}: {len(found)} of {total} tasks came, expected all; run this again")
    return found


def create_tasks(its: Project, tasks: Sequence[NewTask]) -> None:
    """Create at most BATCH tasks with their annotations and predictions; all of them, or none.

    Raises:
        ApiError: the server refuses.
        LabelStudioError: it created another number of tasks.
    """
    made = its.server.client.projects.import_tasks(
        its.id, request=[_request(task) for task in tasks], request_options=ONCE
    )
    if made.task_count != len(tasks):
        raise LabelStudioError(f"{its.address}: made {made.task_count} of {len(tasks)} tasks; look into its log")


def prediction(model: str, boxes: Sequence[Scored], size_px: tuple[int, int]) -> dict[str, Any]:
    """Return a prediction in Label Studio's form; its score is the lowest confidence, so uncertain ones sort first."""
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
