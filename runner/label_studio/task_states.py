"""What a version of the dataset has of Label Studio's tasks, so that the next pull reads only those that changed.

Stored beside the version, as datasets/<name>/<sha256[:12]>.tasks.gz: every annotation of every task in it, in the state
that is noted, is part of the version. A task whose state differs, in whatever direction, is read anew; so no clock
matters, neither Label Studio's nor ours. Lines of JSON, packed:

{"format":1,"classes":["airplane"],"rotated":"box"}
[17,1796043641987061,1,0,"<sha256>",1796043641987061,true]
"""

import gzip
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from runner.errors import MissingObjectError
from runner.store import SCHEME, Store, key_of_url

_FORMAT = 1


class Stamp(NamedTuple):
    """State of a task in Label Studio, which each change of its annotations alters."""

    updated_us: int  # [microseconds] since 1970
    annotations: int  # finished ones
    skipped: int


class TaskState(NamedTuple):
    """A task, as a pull read it."""

    stamp: Stamp
    sha256: str  # of its picture, in hex; empty: unknown, since it has no finished annotation and its data no digest
    time_us: int | None  # [microseconds] since 1970: the newest annotation's last change; None: no annotation
    finished: bool  # whether that annotation is finished; False: the task was skipped, or has none


TaskStates = Mapping[int, TaskState]  # by the number of the task


def states_key(key: str) -> str:
    """Return the key of the states beside a version's key."""
    return re.sub(r"\.(jsonl|zip)$", ".tasks.gz", key)


def format_states(states: TaskStates, classes: Sequence[str], rotated: str) -> bytes:
    """Return the states in stored form; equal states give equal bytes. `classes` and `rotated` decide the boxes."""
    head = {"format": _FORMAT, "classes": list(classes), "rotated": rotated}
    rows = ([number, *state.stamp, *state[1:]] for number, state in sorted(states.items()))
    text = "".join(f"{json.dumps(line, ensure_ascii=False, separators=(',', ':'))}\n" for line in (head, *rows))
    return gzip.compress(text.encode(), mtime=0)


def read_states(store: Store, url: str, classes: Sequence[str], rotated: str) -> TaskStates | None:
    """Return the states beside a version; None: there are none, or they are of other classes or another format.

    None too for the sample, and where they cannot be read: a pull of everything is right in any case.
    """
    if not url.startswith(SCHEME):
        return None
    try:
        head, *lines = map(json.loads, gzip.decompress(store.read(states_key(key_of_url(url)))).splitlines())
        if head != {"format": _FORMAT, "classes": list(classes), "rotated": rotated}:
            return None
        return {line[0]: TaskState(Stamp(*line[1:4]), *line[4:]) for line in lines}
    except (MissingObjectError, OSError, EOFError, zlib.error, ValueError, TypeError, LookupError):
        return None


def changed_tasks(states: TaskStates, stamps: Mapping[int, Stamp]) -> tuple[set[int], set[int]]:
    """Return the tasks to read: those that are new or were changed; and those of `states` that were deleted."""
    changed = {task for task, stamp in stamps.items() if task not in states or states[task].stamp != stamp}
    return changed, states.keys() - stamps.keys()


def twins(states: TaskStates, changed: set[int], deleted: set[int], pictures: set[str]) -> set[int]:
    """Return other tasks that show a picture of which a task was changed or deleted: their annotation may count now.

    `pictures` are those of the changed tasks, as they are now.
    """
    affected = pictures | {states[task].sha256 for task in (changed | deleted) & states.keys()}
    affected.discard("")
    return {task for task, state in states.items() if state.sha256 in affected} - changed - deleted


def newest_of_pictures(states: TaskStates) -> dict[str, int]:
    """Return picture → the task with its newest annotation; those whose picture is unknown are left out."""
    dated = ((state.time_us, task) for task, state in states.items() if state.time_us is not None and state.sha256)
    return {states[task].sha256: task for _, task in sorted(dated)}


def microseconds(time: datetime) -> int:
    """Return the microseconds of a time since 1970."""
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
