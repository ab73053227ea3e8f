"""`captures push`: the model server's captures become tasks, the most useful first, each once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from runner.config.compose import compose
from runner.dataset.check import listed
from runner.label_studio.browser_pictures import Look, look_at
from runner.label_studio.captures import Capture, Place, read_captures
from runner.label_studio.current import dataset_name, scratch
from runner.label_studio.interface import labels_in
from runner.label_studio.labelling_tasks import BATCH, NewTask, Task, create_tasks, prediction, tasks_of
from runner.label_studio.project import existing_project
from runner.label_studio.regions import Scored
from runner.label_studio.server import ONCE, Server, connected
from runner.label_studio.shelf import File, Shelf
from runner.store import open_store

CALLER = "a person"  # model version for boxes in a person's feedback


def push_captures(project: Path, source: str | None = None) -> str:
    """Make tasks of captures, with the feedback's boxes as prediction, else the model's; return the counts, to print.

    Args:
        source: the folder or s3://bucket[/prefix] that has captures/ (the server's CAPTURE_URI); None: the store.
    Raises:
        LabelStudioError: the server cannot be reached or refuses; run again, it continues after the tasks already made.
    """
    config, _ = compose(project)
    store, kept = open_store(project), Place(project, source)
    now = datetime.now(UTC)
    today = now.date().isoformat()
    with scratch(project) as folder, connected() as server:
        its = existing_project(server, config.labels.title)
        tasks = tasks_of(its)
        known = {str(task.data["request_id"]): task for task in tasks if "request_id" in task.data}
        since = (now - timedelta(days=config.labels.captures_days)).date()
        found = read_captures(kept, since, known.keys())
        labels = labels_in(its.configuration)
        heard = [each for each in found.captures if each.answered.request_id in known]
        new = [each for each in found.captures if each.answered.request_id not in known]
        new.sort(key=lambda each: (each.rank(), each.stem))
        updated = sum(_hear(server, known[each.answered.request_id], each, labels) for each in heard)
        room = config.labels.captures_per_day - sum(task.data.get("pushed") == today for task in tasks)
        shelf = Shelf(its, store, dataset_name(config))
        digests = {str(task.data.get("sha256")) for task in tasks}
        made = 0
        for batch in _batches(new, kept, shelf, folder, digests, labels, today, max(room, 0)):
            create_tasks(its, batch)
            made += len(batch)
    lines = [f"{len(new)} captures that are no tasks yet: {made} made tasks of, at most {max(room, 0)} more today"]
    if updated:
        lines.append(f"{updated} tasks got the feedback that came later")
    if found.without_picture:
        lines.append(f"{found.without_picture} verdicts have no picture")
    return "\n".join([*lines, *listed("cannot be used", found.unusable)])


def _batches(
    captures: Sequence[Capture],
    kept: Place,
    shelf: Shelf,
    folder: Path,
    digests: set[str],
    labels: Sequence[str],
    today: str,
    room: int,
) -> Iterator[list[NewTask]]:
    """Yield batches of tasks to create, at most `room` in all; pictures that have a task already are skipped."""
    batch: list[tuple[Capture, str, Look, Path]] = []
    for capture in captures:
        if not room:
            break
        data = kept.read(f"{capture.stem}.jpg")
        sha256 = hashlib.sha256(data).hexdigest()
        look = look_at(data)
        if sha256 in digests or isinstance(look, str):
            continue
        digests.add(sha256)
        path = folder / f"{sha256}{look.suffix}"
        path.write_bytes(data)
        batch.append((capture, sha256, look, path))
        room -= 1
        if len(batch) == BATCH:
            yield _tasks(batch, kept, shelf, labels, today)
            batch = []
    if batch:
        yield _tasks(batch, kept, shelf, labels, today)


def _tasks(
    batch: Sequence[tuple[Capture, str, Look, Path]], kept: Place, shelf: Shelf, labels: Sequence[str], today: str
) -> list[NewTask]:
    places = [kept.uri_of(f"{capture.stem}.jpg") for capture, *_ in batch]
    if not all(shelf.key_of(place) for place in places):  # Label Studio reads only the store's bucket
        places = shelf.place([File(path, path.name) for *_, path in batch])
    return [
        NewTask(
            image,
            look,
            {
                "sha256": sha256,
                "name": f"{capture.answered.request_id}.jpg",
                "origin": capture.origin,
                "reason": ", ".join(capture.answered.reasons),
                "model": capture.model,
                "environment": capture.answered.environment,
                "request_id": capture.answered.request_id,
                "pushed": today,
                **_said(capture),
            },
            predictions=_predictions(capture, labels),
        )
        for image, (capture, sha256, look, _) in zip(places, batch, strict=True)
    ]


def _hear(server: Server, task: Task, capture: Capture, labels: Sequence[str]) -> bool:
    """Add later feedback to a picture's task, unless it was annotated; return whether there was any."""
    said = _said(capture)
    if task.labelled or not said or said.items() <= task.data.items():
        return False
    corrected = _known(capture.corrected(), labels)
    if corrected is not None:
        there = server.client.predictions.list(task=task.id)
        if not any(each.model_version == CALLER for each in there):
            size_px = (capture.answered.width, capture.answered.height)
            server.client.predictions.create(
                task=task.id, **prediction(CALLER, corrected, size_px), request_options=ONCE
            )
        for each in there:  # of several predictions, Label Studio would show an arbitrary one
            if each.model_version != CALLER and each.id is not None:
                server.client.predictions.delete(each.id)
    server.client.tasks.update(str(task.id), data={**task.data, **said, "origin": capture.origin})
    return True


def _predictions(capture: Capture, labels: Sequence[str]) -> dict[str, Sequence[Scored]]:
    """Return the task's predictions: the feedback's boxes, else the model's."""
    corrected = _known(capture.corrected(), labels)
    if corrected is not None:
        return {CALLER: corrected}
    return {capture.model: _known(capture.found(), labels) or []}


def _known(boxes: Sequence[Scored] | None, labels: Sequence[str]) -> list[Scored] | None:
    """Leave out empty boxes, and boxes of classes that the project no longer has."""
    if boxes is None:
        return None
    return [(box, score) for box, score in boxes if box.label in labels and min(box.xywhn[2:]) > 0]


def _said(capture: Capture) -> dict[str, Any]:
    if capture.said is None:
        return {}
    comment = {"comment": capture.said.comment} if capture.said.comment else {}
    return {"verdict": capture.said.verdict, **comment}
