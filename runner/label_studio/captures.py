"""What the model server kept, as it lies in the store: captures and what people said about them.

Written by serving/capture.py and serving/feedback.py:

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
    """A picture that the server kept, and why.

    Attributes:
        stem: its key in the store, without a suffix.
        answered: what the model found.
        said: what a person said, if anyone did.
    """

    stem: str
    answered: Answered
    said: Said | None

    @property
    def origin(self) -> Literal["capture", "feedback"]:
        """What the task's origin is."""
        return "feedback" if self.said else "capture"

    @property
    def model(self) -> str:
        """Name and version of the model, as a prediction carries them."""
        return f"{self.answered.model.name} {self.answered.model.version or self.answered.model.sha256[:12]}"

    def found(self) -> list[Scored]:
        """Return the boxes that the model drew, those just below its thresholds too."""
        return [
            (self._box(each.label, each.box), each.confidence)
            for each in [*self.answered.detections, *self.answered.almost]
        ]

    def corrected(self) -> list[Scored] | None:
        """Return the boxes that a person drew instead; None where nobody did."""
        if self.said is None or self.said.boxes is None:
            return None
        return [(self._box(each.label, each.box), 1.0) for each in self.said.boxes]

    def rank(self) -> tuple[int, float]:
        """Return what sorts the most useful first: feedback, nothing found, low confidence; last, what was right."""
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
        captures: those that can be used.
        unusable: `key: reason` for the others.
        without_picture: how many people said something about a picture that was not kept.
    """

    captures: list[Capture]
    unusable: list[str]
    without_picture: int


class Place:
    """Where captures/ is: a store, or below a prefix of its bucket."""

    def __init__(self, project: Path, uri: str | None = None) -> None:
        """Take what the server's CAPTURE_URI is, a folder or s3://bucket[/prefix]; None: the store of STORE_URI.

        Raises:
            StoreError: it names no store.
        """
        found = re.fullmatch(r"(s3://[^/]+)/+(.*?)/*", uri or "")
        self._prefix = f"{found[2]}/" if found and found[2] else ""
        self._store = open_store(project, found[1] if found else uri)

    def list(self) -> list[str]:
        """Return the keys of all that was kept, from captures/ on."""
        return [key.removeprefix(self._prefix) for key in self._store.list(f"{self._prefix}captures/")]

    def read(self, key: str) -> bytes:
        """Return an object.

        Raises:
            StoreError: it is missing, or cannot be read.
        """
        return self._store.read(self._prefix + key)

    def uri_of(self, key: str) -> str:
        """Return how a task names an object."""
        return self._store.uri_of(self._prefix + key)


def read_captures(place: Place, since: date, leave_out: Collection[str] = ()) -> Found:
    """Return the captures that are not older than a day.

    Args:
        place: where they are.
        since: the first day.
        leave_out: request ids of those that are of no interest, unless somebody said something about them.
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
    """Return how many captures and verdicts there are of each version of a model: (version, kind) → count.

    Kinds are `captured` and `feedback`.
    """
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
