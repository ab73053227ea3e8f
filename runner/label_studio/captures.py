"""Captures of the model server in the store, with people's feedback.

Written by serving/captures/writer.py and serving/routes/feedback.py:

    captures/<environment>/<model>/<version>/<date>/<request id>.jpg  .json  .feedback.json  .shadow.json
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import BaseModel, Field, ValidationError

from runner.errors import StoreError
from runner.label_studio.label_next import Evidence
from runner.label_studio.regions import LabelledBox, ScoredBox, one_each
from runner.release.disagreements import Disagreement
from runner.stages.parallel import threads
from runner.store import open_store
from serving.storage.detections import Box, Detection, ModelName, RightBox

_Parsed = TypeVar("_Parsed", bound=BaseModel)
PERSON = "a person"  # who drew the boxes in a person's feedback
CAPTURED, FEEDBACK = "captured", "feedback"  # what is counted
REPORTED = "1 reported"  # priority of a picture on which an answer was reported as wrong
_KEY = re.compile(
    r"(?P<stem>captures/[^/]+/(?P<model>[^/]+)/(?P<version>[^/]+)/(?P<date>\d{4}-\d\d-\d\d)/"
    r"(?P<request_id>[0-9a-f]{32}(?:-\d{1,4})?))(?P<suffix>\.jpg|\.json|\.feedback\.json|\.shadow\.json)"
)


class CapturedAnswer(BaseModel):
    """The server's answer, in a capture's .json; other keys are ignored."""

    request_id: str
    time: datetime
    environment: str
    sent_sha256: str = ""  # of the file that the server got, in hex; empty: an older server
    reasons: list[str]
    model: ModelName
    thresholds: dict[str, float] = Field(default_factory=dict)  # of each class, 0 to 1; empty: an older server
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    detections: list[Detection]
    almost: list[Detection]


class CapturedFeedback(BaseModel):
    """A person's feedback about an answer; other keys are ignored."""

    time: str = ""
    verdict: Literal["missed", "wrong", "correct"]
    boxes: list[RightBox] | None = None
    annotator: str | None = Field(default=None, max_length=100)  # whose annotation the boxes are; None: a proposal
    comment: str | None = None


@dataclass(frozen=True)
class Capture:
    """A captured picture with the model's answer."""

    stem: str  # its key in the store, without a suffix
    answer: CapturedAnswer
    feedback: CapturedFeedback | None
    disagreement: Disagreement | None = None

    @property
    def origin(self) -> Literal["capture", "feedback"]:
        """Origin of the task."""
        return "feedback" if self.feedback else "capture"

    @property
    def request(self) -> str:
        """Entry in a task's `requests`: the request id, and the time of its feedback, which may be sent again."""
        answer = self.answer
        return f"{answer.request_id} {self.feedback.time}" if self.feedback else answer.request_id

    @property
    def name(self) -> str:
        """Name of the picture's file: the parts of it let `split.group` keep the pictures of an hour together."""
        answer = self.answer
        return f"{answer.environment}-{answer.time.astimezone(UTC):%Y%m%d-%H%M%S}-{answer.request_id}.jpg"

    @property
    def is_reported(self) -> bool:
        """Whether a person said that the answer was wrong."""
        return self.feedback is not None and self.feedback.verdict != "correct"

    @property
    def annotator(self) -> str:
        """Who drew the boxes as an annotation; empty: they are a proposal, or there are none."""
        return (self.feedback.annotator or "") if self.feedback and self.feedback.boxes is not None else ""

    @property
    def is_corrected(self) -> bool:
        """Whether a person sent the correct boxes."""
        return self.feedback is not None and self.feedback.boxes is not None

    def boxes(self) -> dict[str, list[ScoredBox]]:
        """Return who found them → boxes: a person's alone if any were sent, else the model's.

        Of a disagreement these are what each of the two models answers; otherwise those just below the model's
        thresholds are among them.
        """
        answer = self.answer
        size = answer.width, answer.height

        def boxed(label: str, at: Box) -> LabelledBox:
            return LabelledBox.from_corners(label, (at.x1, at.y1, at.x2, at.y2), size)

        def scored(found: Sequence[Detection]) -> list[ScoredBox]:
            return one_each([(boxed(each.label, each.box), each.confidence) for each in found])

        if self.feedback and self.feedback.boxes is not None:
            return {PERSON: [(boxed(each.label, each.box), 1.0) for each in self.feedback.boxes]}
        if other := self.disagreement:
            return {answer.model.title: scored(answer.detections), other.challenger.title: scored(other.detections)}
        return {answer.model.title: scored(answer.detections + answer.almost)}

    def evidence(self) -> Evidence:
        """Return what the models say of the picture, for its score."""
        answer, other = self.answer, self.disagreement
        boxes, thresholds = answer.detections + answer.almost, answer.thresholds
        margins = (abs(each.confidence - thresholds[each.label]) for each in boxes if each.label in thresholds)
        labels, shadow = [each.label for each in boxes], 0.0
        if other:
            labels += [each.label for each in other.detections]
            alone = len(other.only_model) + len(other.only_challenger)
            shadow = alone / max(len(other.only_model) + len(other.detections), 1)
        return Evidence(labels, len(answer.detections), min(margins, default=None), shadow)


class CaptureStore:
    """Store of captures: the store itself, a folder, or a prefix of a bucket."""

    def __init__(self, project: Path, uri: str | None = None) -> None:
        """Open the server's CAPTURE_URI, a folder or s3://bucket[/prefix]; None: the store of STORE_URI."""
        found = re.fullmatch(r"(s3://[^/]+)/+(.*?)/*", uri or "")
        self._prefix = f"{found[2]}/" if found and found[2] else ""
        self._store = open_store(project, found[1] if found else uri)

    def list(self) -> Iterator[re.Match[str]]:
        """Yield the key of each file, from captures/ on: stem, model, version, date, request_id, suffix."""
        keys = (key.removeprefix(self._prefix) for key in self._store.list(f"{self._prefix}captures/"))
        return (match for key in keys if (match := _KEY.fullmatch(key)))

    def read(self, key: str) -> bytes:
        """Return an object's content."""
        return self._store.read(self._prefix + key)

    def write(self, key: str, content: bytes) -> None:
        """Write a small object, in place of an earlier one."""
        self._store.replace(self._prefix + key, content)

    def uri_of(self, key: str) -> str:
        """Return an object's address in a task."""
        return self._store.uri_of(self._prefix + key)


def read_captures(store: CaptureStore, since: date, known: Collection[str] = ()) -> tuple[list[Capture], list[str]]:
    """Return the captures since a day, and `key: reason` of those that cannot be used.

    Those whose request id is `known` are skipped unless they have feedback.
    """
    files: dict[str, set[str]] = {}
    for match in store.list():
        if match["date"] >= since.isoformat():
            files.setdefault(match["stem"], set()).add(match["suffix"])
    stems = [
        stem
        for stem, suffixes in files.items()
        if ".feedback.json" in suffixes or ({".jpg", ".json"} <= suffixes and stem.rpartition("/")[2] not in known)
    ]

    def read(stem: str) -> Capture | str:
        try:
            if ".jpg" not in files[stem]:
                return f"{stem}.feedback.json: its picture was not captured"
            answer = _parsed(CapturedAnswer, store, f"{stem}.json")
            feedback = disagreement = None
            if ".feedback.json" in files[stem]:
                feedback = _parsed(CapturedFeedback, store, f"{stem}.feedback.json")
            if ".shadow.json" in files[stem]:
                disagreement = _parsed(Disagreement, store, f"{stem}.shadow.json")
        except StoreError as error:
            return str(error)
        return Capture(stem, answer, feedback, disagreement)

    found = list(threads(read, stems, "captures"))
    return [each for each in found if isinstance(each, Capture)], [each for each in found if isinstance(each, str)]


def _parsed(kind: type[_Parsed], store: CaptureStore, key: str) -> _Parsed:
    try:
        return kind.model_validate_json(store.read(key))
    except ValidationError as error:
        first = error.errors()[0]
        raise StoreError(f"{key}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class CaptureCounts(NamedTuple):
    """Numbers of captures and feedbacks."""

    of_versions: Counter[tuple[int, str, str]]  # (published version of the model, day, `captured` | `feedback`) → count
    of_others: Counter[tuple[str, str, str]]  # (other model, its version, `captured` | `feedback`) → count


def count_captures(store: CaptureStore, model: str, versions: Mapping[str, int]) -> CaptureCounts:
    """Return the captures and feedbacks of the published versions of a model, `versions`: sha256 of its file → number.

    A server that was started with a model's file and no manifest files its captures under the file's name: one capture
    of each such folder is read for the digest of its model.
    """
    kinds = {".json": CAPTURED, ".feedback.json": FEEDBACK}
    counts: Counter[tuple[str, str, str, str]] = Counter()
    sample: dict[tuple[str, str], str] = {}
    for match in store.list():
        if kind := kinds.get(match["suffix"]):
            counts[match["model"], match["version"], match["date"], kind] += 1
            if kind == CAPTURED:
                sample.setdefault((match["model"], match["version"]), match[0])
    by_name = {(model, str(number)): number for number in versions.values()}
    by_name |= {
        place: versions[digest]
        for place, key in sample.items()
        if place not in by_name and (digest := _model_digest(store, key)) in versions
    }
    found = CaptureCounts(Counter(), Counter())
    for (name, version, day, kind), count in counts.items():
        if number := by_name.get((name, version)):
            found.of_versions[number, day, kind] += count
        else:
            found.of_others[name, version, kind] += count
    return found


def _model_digest(store: CaptureStore, key: str) -> str:
    """Return the digest of the model that made a capture; empty when it cannot be read."""
    try:
        return CapturedAnswer.model_validate_json(store.read(key)).model.sha256
    except (StoreError, ValidationError):
        return ""
