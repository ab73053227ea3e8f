"""Captured pictures in which a challenger and the served model disagree (serving/shadow.py), and who looked at them.

`models --shadow` sums them up. `captures push` makes tasks of them, and notes in feedback/disagreements.json how many
people have finished, which `promote --to prod` reads:

    {"time": "<time>", "tasks_at": "<address>", "challengers": {"flyingthings 4": {"tasks": 12, "looked_at": 9}}}
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.errors import MissingObjectError, ObjectError
from runner.store import Store
from runner.tables import Row, Table
from serving.storage.detections import Detection, ModelName

_KEY = re.compile(r"captures/(?P<environment>[^/]+)/[^/]+/[^/]+/(?P<date>\d{4}-\d\d-\d\d)/[0-9a-f-]+\.shadow\.json")
KEY = "feedback/disagreements.json"
Entry = dict[str, Any]


class LookedAt(BaseModel):
    """Numbers of pictures in which a challenger and the served model disagree."""

    tasks: int = 0  # in Label Studio
    looked_at: int = 0  # of these, with a submitted annotation or skipped


class Disagreement(BaseModel):
    """Content of a capture's .shadow.json; other keys are ignored."""

    model: ModelName
    challenger: ModelName
    detections: list[Detection]  # of the challenger
    only_model: list[Detection]
    only_challenger: list[Detection]


def list_disagreements(store: Store, model: str | None = None) -> list[Entry]:
    """Return an entry for each environment, model and challenger, of one model or of all.

    An entry holds environment, model, version, challenger, challenger_version, pictures, only_model and only_challenger
    (boxes that one alone found), first and last (dates). A file that is damaged or has expired meanwhile is left out.
    """
    entries: dict[tuple[str, ...], Entry] = defaultdict(
        lambda: {"pictures": 0, "only_model": 0, "only_challenger": 0, "first": "9", "last": ""}
    )
    for environment, date, found in _read(store):
        if model is None or found.model.name == model:
            challenger = (found.challenger.name, found.challenger.version or found.challenger.sha256[:12])
            entry = entries[environment, found.model.name, found.model.version or found.model.sha256[:12], *challenger]
            entry["pictures"] += 1
            entry["only_model"] += len(found.only_model)
            entry["only_challenger"] += len(found.only_challenger)
            entry["first"], entry["last"] = min(entry["first"], date), max(entry["last"], date)
    keys = ("environment", "model", "version", "challenger", "challenger_version")
    return [dict(zip(keys, names, strict=True)) | entry for names, entry in sorted(entries.items())]


def _read(store: Store) -> Iterator[tuple[str, str, Disagreement]]:
    for key in store.list("captures/"):
        if match := _KEY.fullmatch(key):
            try:
                yield match["environment"], match["date"], Disagreement.model_validate_json(store.read(key))
            except (ObjectError, ValidationError):
                continue


def disagreements_text(entries: list[Entry], markdown: bool = False) -> str:
    """Return the entries as a table."""
    if not entries:
        return "no picture was captured in which a challenger disagrees; SHADOW_URI of the server names one"
    rows: list[Row] = [
        ("environment", "model", "challenger", "pictures", "model alone", "challenger alone", "from", "to")
    ]
    for each in entries:
        names = (f"{each['model']} {each['version']}", f"{each['challenger']} {each['challenger_version']}")
        counts = (str(each["pictures"]), str(each["only_model"]), str(each["only_challenger"]))
        rows.append((each["environment"], *names, *counts, each["first"], each["last"]))
    return Table("", rows).as_text(markdown=markdown)


class _Note(BaseModel):
    """Content of feedback/disagreements.json."""

    time: datetime
    tasks_at: str  # address of the project in Label Studio
    challengers: dict[str, LookedAt]


def note_looked_at(store: Store, address: str, challengers: Mapping[str, LookedAt], now: datetime) -> None:
    """Write how many tasks of each challenger there are, and how many of them people finished."""
    if challengers or store.exists(KEY):
        note = _Note(time=now, tasks_at=address, challengers=dict(challengers))
        store.replace(KEY, note.model_dump_json(indent=1).encode())


def missing_looks(store: Store, challenger: str, wanted: int) -> str:
    """Return why fewer than `wanted` disagreements of a challenger were looked at, and where they are; empty: enough.

    `challenger` is its name and version, such as `flyingthings 4`.
    """
    try:
        note = _Note.model_validate_json(store.read(KEY))
    except MissingObjectError:
        note = None
    except ValidationError as error:
        raise ObjectError(f"{store.uri}: {KEY} is damaged; `python -m runner captures push` writes it anew") from error
    found = note.challengers.get(challenger) if note else None
    looked_at, tasks = (found.looked_at, found.tasks) if found else (0, 0)
    missing, waiting = wanted - looked_at, tasks - looked_at
    if missing <= 0:
        return ""
    lines = [
        f"people looked at {looked_at} pictures in which it and the served model disagree, expected at least {wanted} "
        f"(gate.disagreements): {missing} are missing"
    ]
    if note and waiting:
        lines.append(f"{waiting} wait at {note.tasks_at}, where the column challengers has its name")
    if waiting < missing:
        lines.append("a server captures more while SHADOW_URI names it")
    lines.append(f"`python -m runner captures push` counts anew{f', last at {note.time:%F %R %Z}' if note else ''}")
    return "; ".join(lines)
