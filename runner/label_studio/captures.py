"""Captures of the model server in the store, with people's feedback.

Written by serving/capture.py and serving/routes/feedback.py:

    captures/<environment>/<model>/<version>/<date>/<request id>.jpg  .json  .feedback.json
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.errors import StoreError
from runner.label_studio.regions import Box, Scored
from runner.stages.parallel import threads
from runner.store import open_store
from serving.storage.detections import Box as Corners
from serving.storage.detections import Detection, ModelName, RightBox

_KEY = re.compile(
    r"captures/(?P<environment>[^/]+)/(?P<model>[^/]+)/(?P<version>[^/]+)/(?P<date>\d{4}-\d\d-\d\d)/"
    r"(?P<request_id>[0-9a-f]{32}(?:-\d{1,4})?)(?P<kind>\.jpg|\.json|\.feedback\.json)"
)


class Answered(BaseModel):
    """What the server writes of a capture; what else stands there is of no use here."""

    model_config = ConfigDict(extra="ignore")

    request_id: str
    environment: str
    reasons: list[str]
    model: ModelName
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    detections: list[Detection]
    almost: list[Detection]


class Said(BaseModel):
    """What a person said about an answer."""

    model_config = ConfigDict(extra="ignore")

    verdict: Literal["missed", "wrong", "correct"]
    boxes: list[RightBox] | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Capture:
    """A captured picture with the model's answer.

    Attributes:
        stem: its key in the store, without a suffix.
        said: the feedback, if any.
    """

    stem: str
    answered: Answered
    said: Said | None

    @property
    def origin(self) -> Literal["capture", "feedback"]:
        """Origin of the task."""
        return "feedback" if self.said else "capture"

    @property
    def model(self) -> str:
        """Name and version of the model, as in a prediction."""
        return f"{self.answered.model.name} {self.answered.model.version or self.answered.model.sha256[:12]}"

    def found(self) -> list[Scored]:
        """Return the model's boxes, those just below its thresholds too."""
        return [
            (self._box(each.label, each.box), each.confidence)
            for each in [*self.answered.detections, *self.answered.almost]
        ]

    def corrected(self) -> list[Scored] | None:
        """Return a person's corrected boxes; None when there are none."""
        if self.said is None or self.said.boxes is None:
            return None
        return [(self._box(each.label, each.box), 1.0) for each in self.said.boxes]

    def rank(self) -> tuple[int, float]:
        """Return the sort key, most useful first: feedback, nothing found, low confidence; last, confirmed answers."""
        if self.said:
            return (0, 0.0) if self.said.verdict != "correct" else (3, 0.0)
        if not self.answered.detections:
            return 1, 0.0
        return 2, min(each.confidence for each in self.answered.detections)

    def _box(self, label: str, box: Corners) -> Box:
        width, height = self.answered.width, self.answered.height
        x1, x2 = (min(max(x / width, 0.0), 1.0) for x in (box.x1, box.x2))
        y1, y2 = (min(max(y / height, 0.0), 1.0) for y in (box.y1, box.y2))
        return Box(label, ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))


@dataclass(frozen=True)
class Found:
    """Captures in a store.

    Attributes:
        unusable: `key: reason` of captures that cannot be used.
        without_picture: number of feedbacks whose picture was not captured.
    """

    captures: list[Capture]
    unusable: list[str]
    without_picture: int


class Place:
    """Location of captures/: a store, or a prefix of its bucket."""

    def __init__(self, project: Path, uri: str | None = None) -> None:
        """Open the server's CAPTURE_URI, a folder or s3://bucket[/prefix]; None: the store of STORE_URI."""
        found = re.fullmatch(r"(s3://[^/]+)/+(.*?)/*", uri or "")
        self._prefix = f"{found[2]}/" if found and found[2] else ""
        self._store = open_store(project, found[1] if found else uri)

    def list(self) -> list[str]:
        """Return the keys of all captures' objects, from captures/ on."""
        return [key.removeprefix(self._prefix) for key in self._store.list(f"{self._prefix}captures/")]

    def read(self, key: str) -> bytes:
        """Return an object's content."""
        return self._store.read(self._prefix + key)

    def uri_of(self, key: str) -> str:
        """Return an object's address in a task."""
        return self._store.uri_of(self._prefix + key)


def read_captures(place: Place, since: date, leave_out: Collection[str] = ()) -> Found:
    """Return the captures since a day.

    Args:
        leave_out: request ids to skip unless they have feedback.
    """
    files: dict[str, set[str]] = {}
    for key in place.list():
        match = _KEY.fullmatch(key)
        if match and _is_day(match["date"]) and match["date"] >= since.isoformat():
            files.setdefault(key.removesuffix(match["kind"]), set()).add(match["kind"])
    whole = [stem for stem, kinds in files.items() if {".jpg", ".json"} <= kinds]
    known = set(leave_out)
    wanted = [stem for stem in whole if stem.rpartition("/")[2] not in known or ".feedback.json" in files[stem]]

    def read(stem: str) -> Capture | str:
        try:
            answered = Answered.model_validate_json(place.read(f"{stem}.json"))
            spoken = ".feedback.json" in files[stem]
            said = Said.model_validate_json(place.read(f"{stem}.feedback.json")) if spoken else None
        except ValidationError as error:
            first = error.errors()[0]
            return f"{stem}.json: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        except StoreError as error:
            return str(error)
        return Capture(stem, answered, said)

    read_ones = list(threads(read, wanted, "captures"))
    silent = sum(".feedback.json" in kinds and ".jpg" not in kinds for kinds in files.values())
    return Found(
        [each for each in read_ones if isinstance(each, Capture)],
        [each for each in read_ones if isinstance(each, str)],
        silent,
    )


def count_captures(place: Place, model: str) -> Counter[tuple[str, str]]:
    """Return the captures and feedbacks of each version of a model: (version, `captured` | `feedback`) → count."""
    counts: Counter[tuple[str, str]] = Counter()
    for key in place.list():
        match = _KEY.fullmatch(key)
        if match and match["model"] == model and match["kind"] != ".jpg":
            counts[match["version"], "feedback" if match["kind"] == ".feedback.json" else "captured"] += 1
    return counts


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
