"""Tasks of the project: list them, and add pictures as tasks, each picture once.

A task's `data` identifies its picture for later runs:

    image       address for Label Studio: s3://bucket/key, or /data/upload/… for a file that it holds itself
    sha256      of the picture's bytes, in hex: the picture's identity everywhere
    name        of its file, for people and for the dataset
    dhash       16 hex digits; near-duplicates share most bits
    origin      dataset | import | capture | feedback | review
    priority    1 reported, or the score of `label_next.py`, 0.00 to 0.99; the greatest text comes first, none last
    uncertainty, nothing_found, shadow, rare_class, diversity: the parts of that score, 0.00 to 1.00
    note        shown above the picture
    reviewed    digest of the boxes for which the picture was sent for review; see `review.py`
    second, agreement: of tasks that two people annotate; see `second_annotations.py`

and of captures, and pictures with feedback:

    reason, model, environment, pushed (the day)
    sent_sha256 of the file that the server got, where the capture is another one (a PNG, a turned JPEG)
    requests    requests whose capture or feedback the task has; request_id is the newest of them
    verdict, comment, reported (the time when the task got them)
    boxes_by    `a person`, where one drew the proposed boxes, or the annotator whose annotation they are
    challengers, disagreement: which models find otherwise than the served one, and what each alone finds
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from runner.dataset.names import shown
from runner.errors import LabelStudioError
from runner.label_studio.label_next import Item, Parts, most_useful
from runner.label_studio.regions import LabelledBox, ScoredBox, region
from runner.label_studio.server import OF_ALL_TASKS, ONCE, Project, all_pages
from runner.label_studio.task_images import TaskImages
from runner.label_studio.task_states import Stamp, microseconds
from runner.stages.parallel import threads
from serving.vision.picture import PictureError, decode
from serving.vision.similarity import difference_hash

PROPOSAL = "proposal"  # model version of the boxes that *Label All Tasks* shows: it takes those of one name alone
PAGE = 200  # [tasks] per request
STAMPS_PAGE = 100_000  # [tasks] per request of their states alone; one page: between pages, a deletion shifts tasks
BATCH = 50  # [tasks] created per request: all or none
BROWSER_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "AVIF")
Predictions = Mapping[str, Sequence[ScoredBox]]  # model → its boxes on a picture
Predict = Callable[[bytes], Predictions]  # of a picture's bytes
_COUNTS = "total_annotations,cancelled_annotations"
_SHA256 = re.compile("[0-9a-f]{64}")
_DHASH = re.compile("[0-9a-f]{16}")
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2"}


@dataclass(frozen=True)
class Task:
    """An existing task."""

    id: int
    data: dict[str, Any]  # see the module; unchecked, anyone can edit it
    labelled: bool  # an annotation was finished, or the task skipped
    finished: bool = False  # an annotation was finished
    overlap: int = 1  # number of people who are asked for an annotation
    annotations: int = 0  # finished ones, and skips


@dataclass(frozen=True)
class NewPicture:
    """A picture to add as a task."""

    path: Path
    data: dict[str, Any]  # of its task: `name`, `origin`, and those of captures
    image: str | None = None  # its address for Label Studio; None: it is stored first
    boxes: Sequence[LabelledBox] | None = None  # of a finished annotation, in the upright picture; None: not annotated
    predictions: Predictions = field(default_factory=dict)


@dataclass
class Added:
    """Result of `add_pictures`."""

    created: int = 0
    annotated: int = 0  # created tasks with a finished annotation
    existing: list[tuple[str, NewPicture]] = field(default_factory=list)  # sha256 and picture, which has a task already
    left_out: list[str] = field(default_factory=list)  # `name: reason` for each picture that browsers do not show
    similar: list[str] = field(default_factory=list)  # `name and name` for each near-duplicate of an earlier picture

    def __add__(self, other: "Added") -> "Added":
        """Return what both did."""
        return Added(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


class PictureInfo(NamedTuple):
    """Properties of a picture that browsers show."""

    size_px: tuple[int, int]  # width and height of the upright picture
    suffix: str  # of its format, with the dot
    dhash: int  # 64 bits


def list_tasks(project: Project) -> list[Task]:
    """Return all tasks of a project; LabelStudioError when fewer came than there are."""
    tasks = []
    for task in query_tasks(project, f"id,data,{_COUNTS},overlap"):
        finished = task.total_annotations or 0
        count = finished + (task.cancelled_annotations or 0)
        tasks.append(Task(task.id, dict(task.data), bool(count), bool(finished), task.overlap or 1, count))
    return tasks


def list_stamps(project: Project) -> dict[int, Stamp]:
    """Return the state of each task, by its number; LabelStudioError when fewer came than there are.

    Not by the client, which takes longer to check each task than the server to send it.
    """
    options = {"project": project.id, "fields": "task_only", "include": f"id,updated_at,{_COUNTS}"}
    stamps: dict[int, Stamp] = {}
    for page in count(1):
        path = f"/api/tasks/?{urlencode({**options, 'page': page, 'page_size': STAMPS_PAGE})}"
        answer = json.loads(project.server.get(path, seconds=OF_ALL_TASKS["timeout_in_seconds"]))
        for task in answer["tasks"]:
            updated = microseconds(datetime.fromisoformat(task["updated_at"]))
            stamps[task["id"]] = Stamp(updated, task["total_annotations"], task["cancelled_annotations"])
        if len(stamps) >= answer["total"]:
            break
        if not answer["tasks"]:
            raise LabelStudioError(
                f"{project.address}: got {len(stamps)} of {answer['total']} tasks; run this command again"
            )
    return stamps


def query_tasks(project: Project, include: str, ids: Collection[int] | None = None) -> list[Any]:
    """Return these fields of all tasks, or of those with these numbers; LabelStudioError when a page is missing.

    With `annotations` among the fields, these come with their regions.
    """
    client, options = project.server.client, dict[str, Any]()
    if ids is not None:
        options["query"] = json.dumps({"selectedItems": {"all": False, "included": sorted(ids)}})
    listed: Any = client.tasks.list(
        project=project.id,
        fields="all" if "annotations" in include.split(",") else "task_only",
        include=include,
        resolve_uri=False,
        page_size=PAGE,
        **options,
    )
    total = int(listed.response.total) if listed.response else 0
    found: list[Any] = all_pages(islice(listed, total))  # asks for no page after the last
    if len(found) < total:
        raise LabelStudioError(f"{project.address}: got {len(found)} of {total} tasks; run this command again")
    return found


def identify(images: TaskImages, tasks: Sequence[Task], folder: Path) -> list[Task]:
    """Return the tasks, with the digests of the pictures that people added in Label Studio's page.

    Those pictures are fetched to `folder`, and their digests written into the tasks' data. A task whose picture cannot
    be read stays as it is; a pull names it once it is annotated.
    """

    def identified(task: Task) -> Task:
        path = folder / f"task-{task.id}"
        try:
            images.fetch(task.id, str(task.data.get("image")), path)
        except LabelStudioError:
            return task
        data = path.read_bytes()
        path.unlink()
        info = inspect_picture(data)
        if isinstance(info, str):
            return task
        found = {"sha256": hashlib.sha256(data).hexdigest(), "dhash": f"{info.dhash:016x}"}
        images.project.server.client.tasks.update(str(task.id), data={"origin": "import", **task.data, **found})
        return replace(task, data={**task.data, **found})

    new = {task.id: task for task in threads(identified, [t for t in tasks if not sha256_in(t.data)], "fetching")}
    return [new.get(task.id, task) for task in tasks]


def sha256_in(data: Mapping[str, object], key: str = "sha256") -> str:
    """Return the digest in a task's data; empty when there is none."""
    sha256 = data.get(key)
    return sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else ""


def hashes_in(tasks: Iterable[Task]) -> dict[int, str]:
    """Return difference hash, 64 bits → the name of its picture."""
    return {
        int(dhash, 16): str(task.data.get("name") or f"task {task.id}")
        for task in tasks
        if _DHASH.fullmatch(dhash := str(task.data.get("dhash")))
    }


def by_digest(tasks: Iterable[Task]) -> dict[str, Task]:
    """Return digest of a picture → its task; the digests of the captured and of the sent file both lead to one."""
    keys = ("sent_sha256", "sha256")
    return {sha256: task for key in keys for task in tasks if (sha256 := sha256_in(task.data, key))}


def add_pictures(
    images: TaskImages,
    tasks: Sequence[Task],
    pictures: Iterable[NewPicture],
    *,
    most: int | None = None,
    near_bits: int = -1,
    predict: Predict | None = None,
) -> Added:
    """Create a task for each picture that has none, a batch at a time; an error keeps the batches before it.

    `tasks` are the existing ones, `most` the number to create (None: all). Near-duplicates differ in at most
    `near_bits` of 64 hash bits; -1: none are reported. `predict` is for pictures that are not annotated; None: they
    keep their own predictions.
    """
    added = Added()
    known = set(by_digest(tasks))
    hashes = hashes_in(tasks)
    rest = iter(pictures)
    while batch := list(islice(rest, BATCH if most is None else min(BATCH, most - added.created))):
        new: list[tuple[NewPicture, str, PictureInfo]] = []
        for picture, (sha256, info) in zip(batch, threads(partial(_read, known), batch, "reading"), strict=True):
            name = picture.data["name"]
            if info is None or sha256 in known:
                added.existing.append((sha256, picture))
                continue
            known.add(sha256)
            if isinstance(info, str):
                added.left_out.append(f"{shown(name)}: {info}")
                continue
            nearest = min(hashes, key=lambda dhash: (dhash ^ info.dhash).bit_count(), default=info.dhash)
            if hashes and (nearest ^ info.dhash).bit_count() <= near_bits:
                added.similar.append(f"{shown(name)} and {shown(hashes[nearest])}")
            hashes[info.dhash] = name
            new.append((picture, sha256, info))
        _create(images, new, predict)
        added.created += len(new)
        added.annotated += sum(picture.boxes is not None for picture, *_ in new)
    return added


def by_usefulness(
    candidates: Sequence[tuple[Item, Parts]], read: Callable[[Item], bytes | None], tasks: Iterable[Task]
) -> Iterator[tuple[Item, Parts]]:
    """Yield candidates of `shortlist`, the most useful to label first, with the parts of their scores.

    `read` returns the bytes of a candidate's picture; None: there is none. `tasks` are the existing ones.
    """

    def dhash_of(candidate: tuple[Item, Parts]) -> int | None:
        data = read(candidate[0])
        info = inspect_picture(data) if data is not None else ""
        return None if isinstance(info, str) else info.dhash

    hashes = list(threads(dhash_of, candidates, "pictures"))
    for place, parts in most_useful([parts for _, parts in candidates], hashes, hashes_in(tasks), len(candidates)):
        yield candidates[place][0], parts


def inspect_picture(data: bytes) -> PictureInfo | str:
    """Return the properties of a picture; a text with the reason when browsers would not show it."""
    try:
        picture = decode(data, fit=64)
    except PictureError as error:
        return str(error)
    if picture.format not in BROWSER_FORMATS:
        return f"browsers do not show {picture.format}; convert it to one of {', '.join(BROWSER_FORMATS)}"
    return PictureInfo((picture.width, picture.height), suffix_of(picture.format), difference_hash(picture.image))


def suffix_of(kind: str) -> str:
    """Return the file suffix of a format, with the dot."""
    return _SUFFIXES.get(kind, f".{kind.lower()}")


def predictions_of(found: Predictions, size_px: tuple[int, int]) -> list[dict[str, Any]]:
    """Return predictions in Label Studio's form: the first is the PROPOSAL, others have their names.

    The score of each is its lowest confidence, so uncertain ones sort first.
    """
    predictions = []
    for place, (name, boxes) in enumerate(found.items()):
        score = min((confidence for _, confidence in boxes), default=0.0)
        result = [region(box, size_px, number, confidence) for number, (box, confidence) in enumerate(boxes)]
        predictions.append({"model_version": name if place else PROPOSAL, "score": score, "result": result})
    return predictions


def _read(known: set[str], picture: NewPicture) -> tuple[str, PictureInfo | str | None]:
    """Return the digest of a picture, and its properties or why it is left out; None: its digest is known."""
    data = picture.path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return sha256, None if sha256 in known else inspect_picture(data)


def _create(images: TaskImages, new: list[tuple[NewPicture, str, PictureInfo]], predict: Predict | None) -> None:
    """Store the pictures and create their tasks in one request: all of them, or none."""
    if not new:
        return
    files = [(picture.path, f"{sha256}{info.suffix}") for picture, sha256, info in new if not picture.image]
    stored = iter(images.store(files))
    requests: Any = []
    for picture, sha256, info in new:
        data = {"image": picture.image or next(stored), "sha256": sha256, **picture.data, "dhash": f"{info.dhash:016x}"}
        request: dict[str, Any] = {"data": data}
        predictions = picture.predictions
        if picture.boxes is not None:
            result = [region(box, info.size_px, number) for number, box in enumerate(picture.boxes)]
            request["annotations"] = [{"result": result}]
        elif predict:
            predictions = predict(picture.path.read_bytes())
        if predictions:
            request["predictions"] = predictions_of(predictions, info.size_px)
        requests.append(request)
    project = images.project
    made = project.server.client.projects.import_tasks(project.id, request=requests, request_options=ONCE)
    if made.task_count != len(requests):
        raise LabelStudioError(
            f"{project.address}: created {made.task_count} of {len(requests)} tasks; see the log of Label Studio"
        )
