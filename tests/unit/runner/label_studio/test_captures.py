"""Captures and feedback in a store, written by the server's own code."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pytest

from runner.label_studio.captures import Capture, CaptureStore, count_captures, read_captures
from runner.label_studio.regions import LabelledBox
from tests.support.captures import MODEL, keep_capture
from tests.support.trees import write_tree

LONG_AGO = date(2020, 1, 1)
Keep = Callable[..., str]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Writes a capture into the folder."""
    return partial(keep_capture, str(tmp_path))


def captures(folder: Path, *known: str, since: date = LONG_AGO) -> list[Capture]:
    found, unusable = read_captures(CaptureStore(folder, str(folder)), since, known)
    assert not unusable
    return found


def request_ids(found: list[Capture]) -> list[str]:
    return [each.answer.request_id for each in found]


def test_the_models_boxes_are_fractions_when_nobody_corrected_them(tmp_path: Path, keep: Keep) -> None:
    keep(0.9, 0.25, almost=1)
    (capture,) = captures(tmp_path)
    box = LabelledBox("airplane", (0.375, 0.375, 0.25, 0.25))
    ((who, boxes),) = capture.boxes().items()
    assert (who, [(each, round(score, 2)) for each, score in boxes]) == ("planes 3", [(box, 0.9), (box, 0.25)])
    assert (capture.origin, capture.is_corrected, len(capture.answer.detections)) == ("capture", False, 1)


def test_a_persons_boxes_take_their_place_when_they_were_sent(tmp_path: Path, keep: Keep) -> None:
    right = {"label": "helicopter", "box": {"x1": -5, "y1": 0, "x2": 20, "y2": 60}}
    keep(0.9, feedback={"verdict": "wrong", "boxes": [right], "comment": "no airplane"})
    (capture,) = captures(tmp_path)
    assert capture.boxes() == {"a person": [(LabelledBox("helicopter", (0.25, 0.5, 0.5, 1.0)), 1.0)]}
    assert (capture.origin, capture.is_corrected) == ("feedback", True)
    assert capture.feedback and capture.feedback.comment == "no airplane"


def test_both_models_answers_are_there_when_a_challenger_disagrees(tmp_path: Path, keep: Keep) -> None:
    keep(0.9, 0.25, almost=1, challenger=[])
    keep(0.9, challenger=[0.4], feedback={"verdict": "missed", "boxes": []})
    found = captures(tmp_path)
    scores = [{who: [round(score, 2) for _, score in boxes] for who, boxes in each.boxes().items()} for each in found]
    assert scores == [{"planes 3": [0.9], "planes 4": []}, {"a person": []}]


def test_the_file_is_named_when_a_disagreement_is_damaged(tmp_path: Path, keep: Keep) -> None:
    keep(challenger=[0.4])
    next(tmp_path.rglob("*.shadow.json")).write_text('{"model": 1}')
    found, (unusable,) = read_captures(CaptureStore(tmp_path, str(tmp_path)), LONG_AGO)
    assert not found and ".shadow.json: model: " in unusable


def test_what_the_model_says_is_known_for_the_score(tmp_path: Path, keep: Keep) -> None:
    """The threshold is 0.3."""
    keep(0.8, 0.35), keep(0.25, almost=1), keep(), keep(0.9, label="drone")
    low, below, nothing, drone = (each.evidence() for each in captures(tmp_path))
    assert [each.labels for each in (low, below, nothing, drone)] == [["airplane"] * 2, ["airplane"], [], ["drone"]]
    assert [each.found for each in (low, below, nothing, drone)] == [2, 0, 0, 1]
    assert [low.margin, below.margin, drone.margin] == pytest.approx([0.05, 0.05, 0.6]) and nothing.margin is None
    keep(0.9, challenger=[0.4, 0.8])
    disagreed = captures(tmp_path)[-1].evidence()
    assert (disagreed.shadow, low.shadow, len(disagreed.labels)) == (1, 0, 3)
    first = min(tmp_path.rglob("*.json"))
    first.write_text(first.read_text().replace("thresholds", "x"))
    assert captures(tmp_path)[0].evidence().margin is None  # of an older server


def test_an_answer_is_reported_unless_it_was_confirmed(tmp_path: Path, keep: Keep) -> None:
    keep(0.9, feedback={"verdict": "correct"}), keep(0.9), keep(feedback={"verdict": "missed", "boxes": None})
    assert [each.is_reported for each in captures(tmp_path)] == [False, False, True]


def test_old_and_known_captures_are_left_out_unless_they_have_feedback(tmp_path: Path, keep: Keep) -> None:
    assert captures(tmp_path) == []
    keep(time=datetime(2026, 1, 1, tzinfo=UTC))
    new, known = keep(time=datetime(2026, 1, 2, tzinfo=UTC)), keep()
    with_feedback = keep(feedback={"verdict": "missed"})
    found = captures(tmp_path, known, with_feedback, since=date(2026, 1, 2))
    assert request_ids(found) == [new, with_feedback]


def test_the_feedback_is_named_when_its_picture_was_not_captured(tmp_path: Path, keep: Keep) -> None:
    """Other files are left out."""
    gone = keep(feedback={"verdict": "missed"})
    picture = next(tmp_path.rglob("*.jpg"))
    for file in (picture, picture.with_suffix(".json")):
        file.unlink()
    for name in ("x.jpg", "x.json", f"{'f' * 32}.exe", f"{'f' * 32}.json", f"../someday/{'f' * 32}.feedback.json"):
        write_tree(picture.parent, {name: b"{}"})
    found, (unusable,) = read_captures(CaptureStore(tmp_path, str(tmp_path)), LONG_AGO)
    assert not found and f"{gone}.feedback.json: " in unusable


def test_captures_are_counted_by_version_when_asked(tmp_path: Path, keep: Keep) -> None:
    store, versions = CaptureStore(tmp_path, str(tmp_path)), {"ab" * 32: 3, "cd" * 32: 4}
    assert not any(count_captures(store, "planes", versions))
    keep(feedback={"verdict": "missed"})
    keep()
    keep(model=MODEL.model_copy(update={"version": "4"}))
    keep(model=MODEL.model_copy(update={"name": "birds"}))
    keep(model=MODEL.model_copy(update={"version": "5", "sha256": "ef" * 32}))
    ours, others = count_captures(store, "planes", versions)
    # `birds` has the file of version 3, under another name.
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert ours == {(3, today, "captured"): 3, (3, today, "feedback"): 1, (4, today, "captured"): 1}
    assert others == {("planes", "5", "captured"): 1}
