"""Rules of a pull that reads only the changes; the real server is asked by test_pull_of_changes.py of integration."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.label_studio.annotations import Annotation
from runner.label_studio.label_changes import FEW, TasksRead, read_changes
from runner.label_studio.regions import LabelledBox
from runner.label_studio.task_states import (
    Stamp,
    TaskState,
    format_states,
    newest_of_pictures,
    read_states,
    states_key,
)
from runner.store import SCHEME
from runner.store.folder import FolderStore

PICTURES = ["a" * 64, "b" * 64, "c" * 64]
BEGIN = datetime(2026, 11, 30, tzinfo=UTC)
CLASSES = ["airplane"]


@dataclass
class Tasks:
    """Tasks as a reader finds them: picture, whether the data name it, and (time, label) of each annotation."""

    clock: int = 0
    tasks: dict[int, tuple[str, bool, list[tuple[int, str | None]]]] = field(default_factory=dict)
    updated: dict[int, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    asked: list[set[int]] = field(default_factory=list)

    def stamps(self) -> dict[int, Stamp]:
        return {task: self._stamp(task) for task in self.tasks}

    def everything(self) -> TasksRead:
        return self.some(self.stamps(), set(self.tasks))

    def some(self, stamps: Mapping[int, Stamp], ids: set[int]) -> TasksRead:
        self.asked.append(ids)
        read = TasksRead(stamps, {}, [])
        for task in sorted(ids & self.tasks.keys()):
            picture, named, annotations = self.tasks[task]
            read.digests[task] = picture if named else ""
            if annotations:
                time, label = max(annotations)
                boxes = None if label is None else [LabelledBox(label, (0.5, 0.5, 0.5, 0.5))]
                annotation = Annotation(task, {}, boxes, BEGIN + timedelta(seconds=time))
                read.pairs.append((picture if named or boxes is not None else "", annotation))
        return read

    def edit(self, number: int, kind: str, place: int) -> None:
        """Change a task as people do; `move` is what remove_duplicates does, which touches no time of update."""
        self.clock += 1
        ids = sorted(self.tasks)
        task = ids[place % len(ids)] if ids else 0
        if kind == "create" or not ids:
            self.tasks[1000 + self.clock] = (PICTURES[place % len(PICTURES)], bool(number % 2), [])
            self.updated[1000 + self.clock] = self.clock
            return
        annotations = self.tasks[task][2]
        if kind == "draw":
            annotations.append((self.clock, f"label {number}"))
        elif kind == "skip":
            annotations.append((self.clock, None))
        elif kind == "redraw" and annotations:
            annotations[0] = (self.clock, f"label {number}")
        elif kind == "undo" and annotations:
            annotations.pop()
        elif kind == "delete":
            del self.tasks[task], self.updated[task]
            return
        elif kind == "move":
            for other in ids:
                if other != task and self.tasks[other][:2] == self.tasks[task][:2]:
                    annotations += self.tasks.pop(other)[2]
            return
        # A clock that is wrong: the time of update may be earlier than that of older changes.
        self.updated[task] = self.clock if number % 3 else -self.clock

    def _stamp(self, task: int) -> Stamp:
        annotations = self.tasks[task][2]
        skipped = sum(label is None for _, label in annotations)
        return Stamp(self.updated[task], len(annotations) - skipped, skipped)


EDITS = st.tuples(
    st.integers(0, 9),
    st.sampled_from(["create", "draw", "draw", "skip", "redraw", "undo", "delete", "move"]),
    st.integers(0, 20),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(EDITS, max_size=6), min_size=1, max_size=6))
def test_the_changes_give_what_everything_gives(rounds: list[list[tuple[int, str, int]]]) -> None:
    """A version is picture → its newest finished annotation; pictures stay when their annotation goes."""
    tasks = Tasks()
    version: dict[str, list[LabelledBox]] = {}
    states: dict[int, TaskState] | None = None
    for edits in rounds:
        for edit in edits:
            tasks.edit(*edit)
        changes, everything = read_changes(tasks, states), read_changes(tasks, None)
        assert changes.states == everything.states
        assert newest_of_pictures(changes.states).keys() == everything.newest.keys()
        merged = [
            version | {sha256: each.boxes for sha256, each in found.items() if each.boxes is not None}
            for found in (changes.newest, everything.newest)
        ]
        assert merged[0] == merged[1]
        version, states = merged[0], dict(changes.states)


def test_everything_is_read_when_most_changed() -> None:
    tasks = Tasks()
    for number in range(FEW + 1):
        tasks.edit(2, "create", number)
    assert read_changes(tasks, {}).read is None
    states = read_changes(tasks, None).states
    tasks.edit(1, "draw", 0)
    assert read_changes(tasks, states).read == 1


def test_states_come_back_as_they_were(tmp_path: Path) -> None:
    store, key = FolderStore(tmp_path), "datasets/planes/0123456789ab.jsonl"
    states = {
        7: TaskState(Stamp(1796043641987061, 2, 1), PICTURES[0], 5, True),
        3: TaskState(Stamp(1, 0, 0), "", None, False),
    }
    assert read_states(store, f"{SCHEME}{key}", CLASSES, "box") is None
    store.create(states_key(key), format_states(states, CLASSES, "box"))
    assert read_states(store, f"{SCHEME}{key}", CLASSES, "box") == states
    assert read_states(store, f"{SCHEME}{key}", CLASSES, "refuse") is None
    assert read_states(store, f"{SCHEME}{key}", ["helicopter"], "box") is None
    assert read_states(store, "sample", CLASSES, "box") is None
    assert format_states(states, CLASSES, "box") == format_states(dict(reversed(states.items())), CLASSES, "box")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        format_states({}, CLASSES, "box")[:-9],
        format_states({}, CLASSES, "box")[:12] + b"damaged" + format_states({}, CLASSES, "box")[19:],
        gzip.compress(b'{"format":1,"classes":["airplane"],"rotated":"box"}\n{"a":1}\n', mtime=0),
        gzip.compress(b'{"format":2,"classes":["airplane"],"rotated":"box"}\n', mtime=0),
    ],
    ids=["empty", "no gzip", "cut", "damaged", "no states", "a later format"],
)
def test_everything_is_read_when_the_states_are_damaged(tmp_path: Path, content: bytes) -> None:
    store, key = FolderStore(tmp_path), "datasets/planes/0123456789ab.jsonl"
    store.create(states_key(key), content)
    assert read_states(store, f"{SCHEME}{key}", CLASSES, "box") is None
