"""`models --shadow`: captured pictures in which a challenger and the served model disagree (serving/shadow.py)."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.errors import ObjectError
from runner.store import Store
from runner.tables import Row, Table
from serving.storage.detections import Detection, ModelName

_KEY = re.compile(r"captures/(?P<environment>[^/]+)/[^/]+/[^/]+/(?P<date>\d{4}-\d\d-\d\d)/[0-9a-f-]+\.shadow\.json")
Entry = dict[str, Any]


class _Disagreement(BaseModel):
    """Content of a capture's .shadow.json; other keys are ignored."""

    model: ModelName
    challenger: ModelName
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


def _read(store: Store) -> Iterator[tuple[str, str, _Disagreement]]:
    for key in store.list("captures/"):
        if match := _KEY.fullmatch(key):
            try:
                yield match["environment"], match["date"], _Disagreement.model_validate_json(store.read(key))
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
