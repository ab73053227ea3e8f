"""`captures push`: the model server's captures become tasks, the most useful first, each once."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from runner.config.compose import compose
from runner.dataset.check import listed
from runner.label_studio.captures import PERSON, Capture, CaptureStore, read_captures
from runner.label_studio.labelled_dataset import dataset_name
from runner.label_studio.labelling_tasks import NewPicture, Task, add_pictures, list_tasks, model_version, prediction
from runner.label_studio.regions import ScoredBox
from runner.label_studio.server import ONCE, Server, connected
from runner.label_studio.task_images import TaskImages
from runner.store import open_store
from runner.workspace import scratch


def push_captures(project: Path, source: str | None = None) -> str:
    """Create tasks of captures, with the feedback's boxes as prediction, else the model's; return the counts.

    `source` is the folder or s3://bucket[/prefix] that has captures/ (the server's CAPTURE_URI); None: the store.
    """
    config, _ = compose(project)
    store, captured = open_store(project), CaptureStore(project, source)
    now = datetime.now(UTC)
    today = now.date().isoformat()
    with scratch("labels-", project) as folder, connected() as server:
        labels_project = server.project(config.labels.title)
        labels, tasks = labels_project.labels, list_tasks(labels_project)
        known = {str(task.data["request_id"]): task for task in tasks if "request_id" in task.data}
        since = (now - timedelta(days=config.labels.captures_days)).date()
        captures, unusable = read_captures(captured, since, known.keys())
        new: list[Capture] = []
        updated = 0
        for capture in captures:
            if task := known.get(capture.answer.request_id):
                updated += _add_feedback(server, task, capture, labels)
            else:
                new.append(capture)
        new.sort(key=lambda each: (each.rank(), each.stem))
        room = max(config.labels.captures_per_day - sum(task.data.get("pushed") == today for task in tasks), 0)
        images = TaskImages(labels_project, store, dataset_name(config))
        pictures = _pictures(new, captured, images, folder, labels, today)
        added = add_pictures(labels_project, images, tasks, pictures, most=room)
    lines = [f"{len(new)} captures without a task: {added.created} tasks created, of at most {room} more today"]
    if updated:
        lines.append(f"{updated} tasks updated with later feedback")
    return "\n".join([*lines, *listed("unusable captures", [*unusable, *added.left_out])])


def _pictures(
    captures: Sequence[Capture],
    captured: CaptureStore,
    images: TaskImages,
    folder: Path,
    labels: Sequence[str],
    today: str,
) -> Iterator[NewPicture]:
    """Yield the captures' pictures, downloaded to a folder one by one."""
    for number, capture in enumerate(captures):
        answer, key, path = capture.answer, f"{capture.stem}.jpg", folder / f"{number}.jpg"
        path.write_bytes(captured.read(key))
        data = {
            "name": f"{answer.request_id}.jpg",
            "origin": capture.origin,
            "reason": ", ".join(answer.reasons),
            "model": model_version(answer.model),
            "environment": answer.environment,
            "request_id": answer.request_id,
            "pushed": today,
            **_feedback_data(capture, labels),
        }
        address = captured.uri_of(key)
        image = address if images.key_of(address) else None  # Label Studio reads only the store's bucket
        model = PERSON if capture.is_corrected else data["model"]
        yield NewPicture(path, data, image, predictions={model: _usable(capture, labels)})


def _add_feedback(server: Server, task: Task, capture: Capture, labels: Sequence[str]) -> bool:
    """Add later feedback to a picture's task, unless it was annotated; return whether there was any."""
    data = _feedback_data(capture, labels)
    if task.labelled or not data or data.items() <= task.data.items():
        return False
    if capture.is_corrected:
        there = server.client.predictions.list(task=task.id)
        if not any(each.model_version == PERSON for each in there):
            request = prediction(PERSON, _usable(capture, labels), (capture.answer.width, capture.answer.height))
            server.client.predictions.create(task=task.id, **request, request_options=ONCE)
        for each in there:  # of several predictions, Label Studio would show an arbitrary one
            if each.model_version != PERSON and each.id is not None:
                server.client.predictions.delete(each.id)
    server.client.tasks.update(str(task.id), data={**task.data, **data, "origin": capture.origin})
    return True


def _feedback_data(capture: Capture, labels: Sequence[str]) -> dict[str, Any]:
    """Return verdict and comment; boxes of classes that the project does not have are named in the comment."""
    if (feedback := capture.feedback) is None:
        return {}
    unknown = [each for each in feedback.boxes or [] if each.label not in labels]
    places = [
        f"{each.label} at {at.x1:.0f} {at.y1:.0f} {at.x2:.0f} {at.y2:.0f}" for each in unknown for at in [each.box]
    ]
    comment = "; ".join([*filter(None, [feedback.comment]), *places])
    return {"verdict": feedback.verdict, **({"comment": comment} if comment else {})}


def _usable(capture: Capture, labels: Sequence[str]) -> list[ScoredBox]:
    """Return the boxes, without empty ones and without those of classes that the project no longer has."""
    return [(box, score) for box, score in capture.boxes() if box.label in labels and min(box.xywhn[2:]) > 0]
