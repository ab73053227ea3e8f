"""What a report adds to its task, from a capture that the server's own code wrote."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.label_studio.captures import CaptureStore, read_captures
from runner.label_studio.reported import MOST_SHOWN, reported_at, task_data
from tests.support.captures import keep_capture

NOW = "2026-11-30T12:00:00+00:00"


def added(folder: Path, before: dict[str, Any], **feedback: Any) -> dict[str, Any]:
    keep_capture(str(folder), 0.9, feedback={"verdict": "missed", **feedback})
    captures, _ = read_captures(CaptureStore(folder, str(folder)), datetime(2020, 1, 1, tzinfo=UTC).date())
    return task_data(captures[-1], before, ["airplane"], NOW)


def test_a_comment_is_a_line_without_control_characters(tmp_path: Path) -> None:
    """PostgreSQL, which Label Studio has in the cluster, takes no NUL: one comment would stop every push."""
    first = added(tmp_path / "a", {}, comment="it\x00hovers\x1b[2J\r\n\u2028over the\tfield\x0b")
    assert first["comment"] == "it hovers [2J over the field" and "it hovers" in first["note"]
    second = added(tmp_path / "b", first, comment="\n".join(str(number) for number in range(50)))
    assert second["comment"].splitlines()[0] == first["comment"] and len(second["comment"].splitlines()) == 2
    assert added(tmp_path / "c", {}, comment="\x00 \n")["comment"] == ""


def test_a_long_comment_is_cut_above_the_picture_alone(tmp_path: Path) -> None:
    data = added(tmp_path, {}, comment="x" * 2_000)
    assert data["comment"] == "x" * 2_000
    assert f"{'x' * (MOST_SHOWN - 1)}… · " in data["note"] and "x" * MOST_SHOWN not in data["note"]


@pytest.mark.parametrize("verdict", ["missed", "wrong", "correct"])
def test_the_time_and_priority_are_those_of_a_wrong_answer(tmp_path: Path, verdict: str) -> None:
    data = added(tmp_path, {}, verdict=verdict)
    assert (data["verdict"], "reported" in data, "priority" in data) == (verdict, *(verdict != "correct",) * 2)


@pytest.mark.parametrize("value", [None, "", "yesterday", 7, ["a"]])
def test_the_time_is_unknown_when_the_tasks_data_have_none(value: object) -> None:
    assert reported_at({"reported": value}) is None
    assert reported_at({"reported": "2026-11-30T12:00:00"}) == datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_a_disagreement_asks_for_no_look_when_people_had_finished_the_task(tmp_path: Path) -> None:
    keep_capture(str(tmp_path), 0.9, challenger=[0.4])
    (capture,), _ = read_captures(CaptureStore(tmp_path, str(tmp_path)), datetime(2020, 1, 1, tzinfo=UTC).date())
    before = {"requests": [], "challengers": "planes 2"}
    data = task_data(capture, before, ["airplane"], NOW)
    assert data["challengers"] == "planes 2, planes 4" and data["disagreement"] in data["note"]
    assert task_data(capture, before, ["airplane"], NOW, labelled=True) == {"requests": [capture.request]}
