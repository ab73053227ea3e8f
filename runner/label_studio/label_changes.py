"""Finished annotations since a version of the dataset: of all tasks, or of those that changed since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from runner.label_studio.annotations import Annotation, export_tasks, newest_annotations, read_tasks, with_digests
from runner.label_studio.labelling_tasks import list_stamps, query_tasks, sha256_in
from runner.label_studio.server import Project
from runner.label_studio.task_images import TaskImages
from runner.label_studio.task_states import (
    Stamp,
    TaskState,
    TaskStates,
    changed_tasks,
    microseconds,
    newest_of_pictures,
    twins,
)

FEW = 200  # [tasks] that are always read one by one; of more, the export of everything is faster from a quarter on


class LabelChanges(NamedTuple):
    """The tasks as they are now, and the annotations that may differ from the version's boxes."""

    states: TaskStates
    newest: dict[str, Annotation]  # by the sha256 of the picture: the newest of each picture whose tasks were read
    notes: list[str]  # boxes that were clipped, replaced or left out
    read: int | None  # number of tasks that were read; None: all


class TasksRead(NamedTuple):
    """Tasks, as they were read."""

    stamps: Mapping[int, Stamp]  # as they were listed before; of other tasks too
    digests: dict[int, str]  # task → the sha256 in its data; empty: it has none
    pairs: list[tuple[str, Annotation]]  # picture's sha256 and newest annotation of each annotated task


class TaskReader(Protocol):
    """What `read_changes` asks for."""

    @property
    def notes(self) -> list[str]:
        """Boxes that were clipped, replaced or left out in what was read."""

    def stamps(self) -> dict[int, Stamp]:
        """Return the state of each task."""

    def everything(self) -> TasksRead:
        """Read all tasks. They are listed first: one that changes in between is read again by the next pull."""

    def some(self, stamps: Mapping[int, Stamp], ids: set[int]) -> TasksRead:
        """Read tasks with these numbers; those that were deleted meanwhile are missing."""


@dataclass(frozen=True)
class LabelReader:
    """Reads tasks with their annotations, and fetches pictures that the dataset lacks; methods as in `TaskReader`."""

    project: Project
    images: TaskImages
    known: set[str]  # digests of the dataset's pictures; others are fetched to `folder`
    classes: Sequence[str]
    rotated: Literal["box", "refuse"]
    folder: Path
    notes: list[str] = field(default_factory=list)

    def stamps(self) -> dict[int, Stamp]:
        """Return the state of each task."""
        return list_stamps(self.project)

    def everything(self) -> TasksRead:
        """Read all tasks, with Label Studio's export."""
        stamps = list_stamps(self.project)
        digests = {task.id: sha256_in(task.data) for task in query_tasks(self.project, "id,data")}
        return TasksRead(stamps, digests, self._annotations(export_tasks(self.project)))

    def some(self, stamps: Mapping[int, Stamp], ids: set[int]) -> TasksRead:
        """Read tasks with these numbers."""
        tasks, digests = read_tasks(self.project, ids) if ids else ([], {})
        return TasksRead(stamps, digests, self._annotations(tasks))

    def _annotations(self, tasks: Sequence[dict[str, Any]]) -> list[tuple[str, Annotation]]:
        found, notes = newest_annotations(self.project, tasks, self.classes, self.rotated)
        self.notes.extend(notes)
        return with_digests(found, self.known, self.images, self.folder)


def read_changes(reader: TaskReader, earlier: TaskStates | None) -> LabelChanges:
    """Return the changes of annotations against a version; `earlier` are its states. None: read everything."""
    if earlier is None:
        return _of_everything(reader)
    stamps = reader.stamps()
    changed, deleted = changed_tasks(earlier, stamps)
    if len(changed) > max(FEW, len(stamps) // 4):
        return _of_everything(reader)
    first = reader.some(stamps, changed)
    pictures = {sha256 for sha256, _ in first.pairs} | set(first.digests.values())
    more = twins(earlier, changed, deleted, pictures)
    rest = reader.some(stamps, more)
    kept = {task: state for task, state in earlier.items() if task not in changed | more | deleted}
    states = kept | _states(first) | _states(rest)
    return LabelChanges(states, _newest(states, first.pairs + rest.pairs), reader.notes, len(changed | more))


def _of_everything(reader: TaskReader) -> LabelChanges:
    read = reader.everything()
    states = _states(read)
    return LabelChanges(states, _newest(states, read.pairs), reader.notes, None)


def _states(read: TasksRead) -> dict[int, TaskState]:
    """Return the states of read tasks; one that was created after the listing has a stamp that no task has."""
    annotated = {annotation.task: (sha256, annotation) for sha256, annotation in read.pairs}
    states = {}
    for task in read.digests.keys() | annotated.keys():
        stamp = read.stamps.get(task, Stamp(0, 0, 0))
        if task not in annotated:
            states[task] = TaskState(stamp, read.digests[task], None, False)
            continue
        sha256, annotation = annotated[task]
        states[task] = TaskState(stamp, sha256, microseconds(annotation.time), annotation.boxes is not None)
    return states


def _newest(states: TaskStates, pairs: Sequence[tuple[str, Annotation]]) -> dict[str, Annotation]:
    """Return the newest annotation of each picture that was read."""
    read = {annotation.task: annotation for _, annotation in pairs}
    return {sha256: read[task] for sha256, task in newest_of_pictures(states).items() if task in read}
