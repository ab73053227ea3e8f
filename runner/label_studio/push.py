"""`captures push`: the model server's captures become tasks, the most useful first; each picture once."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runner.config.compose import compose
from runner.dataset.check import listed
from runner.label_studio.captures import REPORTED, Capture, CaptureStore, read_captures
from runner.label_studio.feedback_states import note_feedback
from runner.label_studio.label_next import Parts, parts_of, shortlist
from runner.label_studio.labelled_dataset import count_boxes, dataset_name
from runner.label_studio.labelling_tasks import (
    Added,
    NewPicture,
    Task,
    add_pictures,
    by_digest,
    by_usefulness,
    identify,
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
from runner.store import open_store
from runner.workspace import scratch


def push_captures(project: Path, source: str | None = None) -> str:
    """Create tasks of captures, with the feedback's boxes as prediction, else the model's; return the counts.

    What was captured of a picture that has a task, and feedback on it, is added to that task; boxes that an annotator
    reported are an annotation. The model servers get what became of each report. `source` is the folder or
    s3://bucket[/prefix] that has captures/ (the server's CAPTURE_URI); None: the store.
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
        left = _left(tasks, config.labels.captures_per_day, now)
        added = Added()
        for is_report in (True, False):  # other captures leave room for what people report
            its = [each for each in new.values() if each.is_reported == is_report]
            if not its or not left[is_report]:
                continue
            order: Iterable[tuple[Capture, Parts | None]] = ((each, None) for each in its)
            if not is_report:
                counts = count_boxes(config, store, project)
                order = _most_useful_first(its, captured, tasks, counts, left[is_report])
            pictures = _pictures(order, captured, images, folder, labels_project, now)
            most, near_bits = left[is_report], config.labels.near
            made = add_pictures(images, tasks, pictures, most=most, near_bits=near_bits)
            left[is_report] -= made.created
            added += made
            tasks = list_tasks(labels_project) if made.created else tasks
        known = by_digest(tasks)
        again = [(known[key], new[picture.data["request_id"]]) for key, picture in added.existing if key in known]
        found = [(task, each) for task, each in _match(captured, captures, tasks) if task and not has(task, each)]
        of_tasks = {each.request: (task, each) for task, each in again + found}.values()
        reported = add_to_tasks(labels_project, of_tasks, now)
        tasks = list_tasks(labels_project) if of_tasks else tasks
        order_tasks(labels_project, tasks)
        second = ask_second_people(labels_project, tasks, config.labels.double_share)
        if any(" " in request for task in tasks for request in requests_in(task.data)):  # feedback has a time
            tasks = list_tasks(labels_project)
            url, classes = config.dataset.url, labels_project.labels
            states = read_states(store, url, classes, config.labels.rotated)
            note_feedback(captured, store, url, config.dataset.sha256, tasks, states)
        note_looked_at(store, labels_project.address, _looked_at(tasks), now)
    lines = [
        f"{len(new)} captures without a task: {added.created} tasks created, at most {left[False]} more today, and "
        f"{left[True]} of reports"
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


def _left(tasks: Sequence[Task], per_day: int, now: datetime) -> dict[bool, int]:
    """Return the tasks that may still be created today, of reports (True) and of other captures: as many of each."""
    today = [task for task in tasks if task.data.get("pushed") == now.date().isoformat()]
    made = Counter(task.data.get("priority") == REPORTED for task in today)
    return {is_report: max(per_day - made[is_report], 0) for is_report in (True, False)}


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
    """Yield captures without feedback by their score, with its parts; then confirmed answers.

    `counts` are the labelled boxes of each class. `most` will be used.
    """
    others = ((each, parts_of(each.evidence(), counts)) for each in captures if not each.feedback)
    yield from by_usefulness(shortlist(others, most), lambda each: captured.read(f"{each.stem}.jpg"), tasks)
    yield from ((each, None) for each in captures if each.feedback)


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
