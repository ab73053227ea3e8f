"""What the server kept, read from where it really writes it: its own code makes the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.label_studio.captures import Capture, Place, count_captures, read_captures
from runner.label_studio.regions import Box
from serving.capture import CaptureWriter
from serving.monitoring import Metrics
from serving.prediction import Prediction
from serving.responses import Result, Timings
from serving.settings import Settings
from serving.storage.detections import Box as Corners
from serving.storage.detections import Detection, ModelName
from tests.support.pictures import encoded, gradient

MODEL = ModelName(name="planes", version="3", sha256="ab" * 32)
LONG_AGO = date(2020, 1, 1)
Keep = Callable[..., str]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Lets the server's own code keep a capture, with detections of these confidences, and what somebody said."""
    settings = Settings(capture_uri=str(tmp_path), environment="dev")
    writer = CaptureWriter(settings, Metrics())
    numbers = iter(range(1000))

    def make(
        *confidences: float,
        almost: int = 0,
        said: dict[str, Any] | None = None,
        reasons: list[str] | None = None,
        time: datetime | None = None,
        model: ModelName = MODEL,
    ) -> str:
        request_id = f"{next(numbers):032x}"
        box = Corners(x1=10, y1=3, x2=20, y2=15)
        detections = [Detection(label="airplane", class_id=0, confidence=it, box=box) for it in confidences]
        time = time or datetime.now(UTC)
        shown = detections[: len(detections) - almost]
        timings = Timings(waiting=0, decode=0, inference=0, suppression=0, total=0)
        result = Result(width=40, height=30, detections=shown, counts={}, timings_ms=timings)
        below, thresholds = detections[len(shown) :], {"airplane": 0.3}
        prediction = Prediction(request_id, encoded(gradient()), model, result, below, thresholds, time)
        writer.keep(prediction, reasons or ["nothing_found"])
        if said is not None:
            writer.keep_feedback(request_id, model, time, said)
        return request_id

    return make


def captures(folder: Path, *leave_out: str) -> list[Capture]:
    found = read_captures(Place(folder, str(folder)), LONG_AGO, leave_out)
    assert not found.unusable
    return found.captures


def test_nothing_is_found_when_nothing_was_kept(tmp_path: Path) -> None:
    assert captures(tmp_path) == []
    assert not count_captures(Place(tmp_path, str(tmp_path)), "planes")


def test_boxes_are_fractions_when_read(tmp_path: Path, keep: Keep) -> None:
    keep(0.9, 0.25, almost=1)
    (capture,) = captures(tmp_path)
    box = Box("airplane", (0.375, 0.3, 0.25, 0.4))
    assert [(each, round(score, 2)) for each, score in capture.found()] == [(box, 0.9), (box, 0.25)]
    assert (capture.model, capture.origin, capture.corrected()) == ("planes 3", "capture", None)
    assert len(capture.answered.detections) == 1


def test_the_most_useful_come_first_when_sorted(tmp_path: Path, keep: Keep) -> None:
    right = keep(0.9, said={"verdict": "correct"})
    sure = keep(0.9)
    low = keep(0.8, 0.31)
    nothing = keep(0.29, almost=1)
    missed = keep(said={"verdict": "missed", "boxes": None})
    found = sorted(captures(tmp_path), key=lambda each: (each.rank(), each.stem))
    assert [each.answered.request_id for each in found] == [missed, nothing, low, sure, right]


def test_the_boxes_of_a_person_are_read_when_there_are_any(tmp_path: Path, keep: Keep) -> None:
    right = {"label": "helicopter", "box": {"x1": -5, "y1": 0, "x2": 20, "y2": 60}}
    keep(0.9, said={"verdict": "wrong", "boxes": [right], "comment": "no airplane"})
    (capture,) = captures(tmp_path)
    assert capture.corrected() == [(Box("helicopter", (0.25, 0.5, 0.5, 1.0)), 1.0)]
    assert capture.origin == "feedback" and capture.said and capture.said.comment == "no airplane"


def test_known_ones_are_left_unless_somebody_said_something(tmp_path: Path, keep: Keep) -> None:
    silent, heard = keep(), keep(said={"verdict": "missed"})
    assert [each.answered.request_id for each in captures(tmp_path, silent, heard)] == [heard]


def test_old_ones_are_left_when_a_first_day_is_given(tmp_path: Path, keep: Keep) -> None:
    keep(time=datetime(2026, 1, 1, tzinfo=UTC))
    new = keep(time=datetime(2026, 1, 2, tzinfo=UTC))
    found = read_captures(Place(tmp_path, str(tmp_path)), date(2026, 1, 2)).captures
    assert [each.answered.request_id for each in found] == [new]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Invalid JSON"),
        (b"[]", "Input should be an object"),
        (json.dumps({"width": 0}).encode(), "Field required"),
    ],
)
def test_the_reason_is_given_when_a_file_is_damaged(tmp_path: Path, keep: Keep, content: bytes, reason: str) -> None:
    whole = keep()
    damaged = keep()
    (file,) = tmp_path.rglob(f"{damaged}.json")
    file.write_bytes(content)
    found = read_captures(Place(tmp_path, str(tmp_path)), LONG_AGO)
    assert [each.answered.request_id for each in found.captures] == [whole]
    assert len(found.unusable) == 1 and f"{damaged}.json: " in found.unusable[0] and reason in found.unusable[0]


def test_verdicts_are_counted_when_their_picture_was_not_kept(tmp_path: Path, keep: Keep) -> None:
    gone = keep(said={"verdict": "missed"})
    for suffix in (".jpg", ".json"):
        next(tmp_path.rglob(f"{gone}{suffix}")).unlink()
    found = read_captures(Place(tmp_path, str(tmp_path)), LONG_AGO)
    assert (found.captures, found.without_picture) == ([], 1)


def test_strange_files_are_not_taken_when_they_lie_there(tmp_path: Path, keep: Keep) -> None:
    keep()
    place = next(tmp_path.rglob("*.jpg")).parent
    for name in ("x.jpg", "x.json", f"{'f' * 32}.exe", f"{'f' * 32}.json"):
        (place / name).write_bytes(b"{}")
    (tmp_path / "captures" / "dev" / "planes" / "3" / "someday").mkdir()
    assert len(captures(tmp_path)) == 1


def test_captures_are_counted_by_version_when_asked(tmp_path: Path, keep: Keep) -> None:
    keep(said={"verdict": "missed"})
    keep()
    keep(model=MODEL.model_copy(update={"version": "4"}))
    keep(model=MODEL.model_copy(update={"name": "birds"}))
    counts = count_captures(Place(tmp_path, str(tmp_path)), "planes")
    assert dict(counts) == {("3", "captured"): 2, ("3", "feedback"): 1, ("4", "captured"): 1}
