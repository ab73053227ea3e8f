"""`captures push`: the model server's captures become tasks, the most useful first; each picture once."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from runner.config.compose import compose
from runner.dataset.check import listed
from runner.label_studio.captures import Capture, CaptureStore, read_captures
from runner.label_studio.feedback_states import note_feedback
from runner.label_studio.label_next import Parts, most_useful, parts_of, shortlist
from runner.label_studio.labelled_dataset import count_boxes, dataset_name
from runner.label_studio.labelling_tasks import (
    NewPicture,
    Task,
    add_pictures,
    by_digest,
    hashes_in,
    identify,
    inspect_picture,
    list_tasks,
)
from runner.label_studio.reported import (
    add_to_tasks,
    annotation,
    challengers_in,
    has,
    order_tasks,
    requests_in,
    task_data,
    usable_boxes,
)
from runner.label_studio.second_annotations import ask_second_people
from runner.label_studio.server import Project, connected
from runner.label_studio.task_images import TaskImages
from runner.label_studio.task_states import read_states
from runner.release.disagreements import LookedAt, note_looked_at
from runner.stages.parallel import threads
from runner.store import key_of_url, open_store
from runner.workspace import scratch


def push_captures(project: Path, source: str | None = None) -> str:
    """Create tasks of captures, with the feedback's boxes as prediction, else the model's; return the counts.

    What was captured of a picture that has a task, and feedback on it, is added to that task; boxes that an annotator
    reported are an annotation. The model servers get
    what became of each report. `source` is the folder or s3://bucket[/prefix] that has captures/ (the server's
    CAPTURE_URI); None: the store.
    """
    config, _ = compose(project)
    store, captured = open_store(project), CaptureStore(project, source)
    now = datetime.now(UTC)
    with scratch("labels-", project) as folder, connected() as server:
        labels_project = server.project(config.labels.title)
        images = TaskImages(labels_project, store, dataset_name(config))
        tasks = identify(images, list_tasks(labels_project), folder)
        since = (now - timedelta(days=config.labels.captures_days)).date()
        captures, unusable = read_captures(captured, since, _by_request(tasks).keys())
        new = {each.answer.request_id: each for task, each in _match(captured, captures, tasks) if task is None}
        today = sum(task.data.get("pushed") == now.date().isoformat() for task in tasks)
        room = max(config.labels.captures_per_day - today, 0)
        order: Iterable[tuple[Capture, Parts | None]] = ()
        if new and room:
            counts = count_boxes(config, store, project)
            order = _most_useful_first(new.values(), captured, tasks, counts, room)
        pictures = _pictures(order, captured, images, folder, labels_project, now)
        added = add_pictures(labels_project, images, tasks, pictures, most=room, near_bits=config.labels.near)
        tasks = list_tasks(labels_project) if added.created else tasks
        known = by_digest(tasks)
        again = [(known[sha256], new[picture.data["request_id"]]) for sha256, picture in added.existing]
        found = [(task, each) for task, each in _match(captured, captures, tasks) if task and not has(task, each)]
        of_tasks = {each.request: (task, each) for task, each in again + found}.values()
        reported = add_to_tasks(labels_project, of_tasks, now)
        tasks = list_tasks(labels_project) if of_tasks else tasks
        order_tasks(labels_project, tasks)
        second = ask_second_people(labels_project, tasks, config.labels.double_share)
        if any(task.data.get("reported") for task in tasks):
            tasks = list_tasks(labels_project)
            url, classes = config.dataset.url, labels_project.labels
            states = read_states(store, key_of_url(url), classes, config.labels.rotated) if url != "sample" else None
            note_feedback(captured, store, url, config.dataset.sha256, tasks, states)
        note_looked_at(store, labels_project.address, _looked_at(tasks), now)
    lines = [
        f"{len(new)} captures without a task: {added.created} tasks created, at most {room - added.created} more today"
    ]
    if reported:
        did = {
            "annotated by who reported": sum(each.annotated for each in reported),
            "annotated before and open again": sum(each.opened_again for each in reported),
        }
        said = "".join(f", {count} of them {what}" for what, count in did.items() if count)
        lines.append(f"{len(reported)} tasks got feedback{said}: {labels_project.address}")
    if second:
        lines.append(f"{second} tasks wait for a second person: {labels_project.address}")
    near = listed("near-duplicates; keep one of each, or keep them together with split.group", added.similar)
    return "\n".join([*lines, *near, *listed("unusable captures", [*unusable, *added.left_out])])


def _by_request(tasks: Sequence[Task]) -> dict[str, Task]:
    """Return request id → the task that has its capture."""
    return {request.partition(" ")[0]: task for task in tasks for request in requests_in(task.data)}


def _looked_at(tasks: Iterable[Task]) -> dict[str, LookedAt]:
    """Return challenger → tasks in which it disagrees with the served model, and how many of them people finished."""
    found: dict[str, LookedAt] = {}
    for task in tasks:
        for challenger in challengers_in(task.data):
            counts = found.setdefault(challenger, LookedAt())
            counts.tasks += 1
            counts.looked_at += task.labelled
    return found


def _match(
    captured: CaptureStore, captures: Sequence[Capture], tasks: Sequence[Task]
) -> Iterator[tuple[Task | None, Capture]]:
    """Yield each capture with the task of its request, or with feedback that of its picture; None: it has no task.

    Pictures without feedback are compared when they are added, or every run would read all that are still to be added.
    """
    by_request, known = _by_request(tasks), by_digest(tasks)

    def find(capture: Capture) -> Task | None:
        task = by_request.get(capture.answer.request_id) or known.get(capture.answer.sent_sha256)
        if task is None and capture.feedback and known:
            task = known.get(hashlib.sha256(captured.read(f"{capture.stem}.jpg")).hexdigest())
        return task

    ordered = sorted(captures, key=lambda each: each.stem)
    return zip(threads(find, ordered, "captures"), ordered, strict=True)


def _most_useful_first(
    captures: Collection[Capture], captured: CaptureStore, tasks: Sequence[Task], counts: Mapping[str, int], most: int
) -> Iterator[tuple[Capture, Parts | None]]:
    """Yield reported captures, then those without feedback by their score, with its parts; last, confirmed answers.

    `counts` are the labelled boxes of each class. `most` will be used.
    """
    yield from ((each, None) for each in captures if each.is_reported)
    others = ((each, parts_of(each.evidence(), counts)) for each in captures if not each.feedback)
    short = shortlist(others, most)
    hashes = list(threads(partial(_hash, captured), [capture for capture, _ in short], "captures"))
    for place, parts in most_useful([its for _, its in short], hashes, hashes_in(tasks), len(short)):
        yield short[place][0], parts
    yield from ((each, None) for each in captures if each.feedback and not each.is_reported)


def _hash(captured: CaptureStore, capture: Capture) -> int | None:
    info = inspect_picture(captured.read(f"{capture.stem}.jpg"))
    return None if isinstance(info, str) else info.dhash


def _pictures(
    captures: Iterable[tuple[Capture, Parts | None]],
    captured: CaptureStore,
    images: TaskImages,
    folder: Path,
    labels_project: Project,
    now: datetime,
) -> Iterator[NewPicture]:
    """Yield the captures' pictures, downloaded to a folder one by one."""
    labels = labels_project.labels
    for number, (capture, parts) in enumerate(captures):
        key, path = f"{capture.stem}.jpg", folder / f"{number}.jpg"
        path.write_bytes(captured.read(key))
        data = {"name": capture.name, "pushed": now.date().isoformat(), **(parts.task_data() if parts else {})}
        if annotation(capture, labels) is not None:  # `add_to_tasks` makes the annotation once the task is there
            capture = replace(capture, feedback=None)
        data |= task_data(capture, {}, labels, now.isoformat())
        if capture.answer.sent_sha256:
            data["sent_sha256"] = capture.answer.sent_sha256
        address = captured.uri_of(key)
        image = address if images.key_of(address) else None  # Label Studio reads only the store's bucket
        yield NewPicture(path, data, image, predictions=usable_boxes(capture, labels))
