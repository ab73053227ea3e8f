"""`captures push` on a real server: what the model server kept becomes tasks, the most useful first, each once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.label_studio.push import push_captures
from runner.label_studio.setup import set_up
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.objects import write
from tests.support.annotating import AIRPLANE, SIZE, Bench, picture

Keep = Callable[..., str]


def corners(x1: float, y1: float, x2: float, y2: float) -> dict[str, float]:
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2}


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Writes a capture as the server does (tests/unit/runner/label_studio/test_captures.py uses its own code)."""
    numbers = iter(range(1000))

    def make(
        uri: str,
        *confidences: float,
        seed: int | None = None,
        said: dict[str, Any] | None = None,
        label: str = "airplane",
        days: int = 0,
        request_id: str = "",
    ) -> str:
        number = next(numbers)
        request_id = request_id or f"{number:032x}"
        time = datetime.now(UTC) - timedelta(days=days)
        place = f"captures/dev/planes/3/{time:%Y-%m-%d}/{request_id}"
        found = [
            {"label": label, "class_id": 0, "confidence": it, "box": corners(16, 12, 32, 24)} for it in confidences
        ]
        answered = {
            "request_id": request_id,
            "time": time.isoformat(),
            "environment": "dev",
            "reasons": ["feedback"] if said else ["nothing_found"] if not found else ["below:0.5"],
            "model": {"name": "planes", "version": "3", "sha256": "ab" * 32, "commit": None},
            "thresholds": {"airplane": 0.3},
            "width": SIZE[0],
            "height": SIZE[1],
            "detections": found,
            "almost": [],
        }
        endpoint = endpoint_of_environment()
        data = picture(tmp_path / "kept.jpg", 500 + (number if seed is None else seed)).read_bytes()
        write(uri, f"{place}.jpg", data, "image/jpeg", endpoint)
        write(uri, f"{place}.json", json.dumps(answered).encode(), "application/json", endpoint)
        if said:
            write(uri, f"{place}.feedback.json", json.dumps(said).encode(), "application/json", endpoint)
        return request_id

    return make


def names(bench: Bench) -> list[str]:
    return [task["data"]["request_id"] for task in bench.tasks()]


def test_nothing_is_made_when_nothing_was_kept(either_bench: Bench) -> None:
    set_up(either_bench.project)
    assert push_captures(either_bench.project).startswith("0 captures that are no tasks yet: 0 made tasks of")
    assert either_bench.tasks() == []


def test_the_models_boxes_are_on_the_task_when_pushed(either_bench: Bench, keep: Keep) -> None:
    set_up(either_bench.project)
    request_id = keep(either_bench.store.uri, 0.9, 0.35)
    assert "1 made tasks of" in push_captures(either_bench.project)
    (task,) = either_bench.tasks()
    data = task["data"]
    assert {key: data[key] for key in ("origin", "reason", "model", "environment", "request_id", "name")} == {
        "origin": "capture",
        "reason": "below:0.5",
        "model": "planes 3",
        "environment": "dev",
        "request_id": request_id,
        "name": f"{request_id}.jpg",
    }
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("planes 3", 0.35)
    assert [region["score"] for region in prediction["result"]] == [0.9, 0.35]
    value = prediction["result"][0]["value"]
    assert [value[key] for key in ("x", "y", "width", "height")] == pytest.approx([25, 25, 25, 25])
    in_place = f"{either_bench.store.uri}/captures/dev/planes/3/{datetime.now(UTC):%Y-%m-%d}/{request_id}.jpg"
    assert data["image"] == in_place if in_place.startswith("s3://") else data["image"].startswith("/data/upload/")


def test_each_is_pushed_once_when_pushed_again(either_bench: Bench, keep: Keep) -> None:
    set_up(either_bench.project)
    first = keep(either_bench.store.uri, seed=1)
    keep(either_bench.store.uri, seed=1)
    push_captures(either_bench.project)
    assert names(either_bench) == [first]
    third = keep(either_bench.store.uri, seed=2)
    push_captures(either_bench.project)
    push_captures(either_bench.project)
    assert names(either_bench) == [first, third]


def test_the_most_useful_come_first_when_only_some_may(bench: Bench, keep: Keep) -> None:
    bench.set(labels={"captures_per_day": 3, "captures_days": 5})
    set_up(bench.project)
    uri = bench.store.uri
    keep(uri, 0.95)
    low, nothing = keep(uri, 0.4), keep(uri)
    missed = keep(uri, 0.9, said={"verdict": "missed"})
    keep(uri, days=6)
    said = push_captures(bench.project)
    assert said.startswith("4 captures that are no tasks yet: 3 made tasks of, at most 3 more today")
    assert names(bench) == [missed, nothing, low]
    assert "0 made tasks of, at most 0 more today" in push_captures(bench.project)


def test_a_persons_boxes_are_on_the_task_when_they_were_sent(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    right = {"label": "helicopter", "box": corners(0, 0, 32, 24)}
    keep(bench.store.uri, 0.9, said={"verdict": "wrong", "boxes": [right], "comment": "it hovers"})
    push_captures(bench.project)
    (task,) = bench.tasks()
    assert (task["data"]["origin"], task["data"]["verdict"], task["data"]["comment"]) == (
        "feedback",
        "wrong",
        "it hovers",
    )
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "a person"
    assert prediction["result"][0]["value"]["rectanglelabels"] == ["helicopter"]


def test_feedback_reaches_the_task_when_it_comes_later(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    uri = bench.store.uri
    open_one, done = keep(uri, 0.9), keep(uri, 0.8)
    push_captures(bench.project)
    (finished,) = [task["id"] for task in bench.tasks() if task["data"]["request_id"] == done]
    bench.draw(finished, AIRPLANE)
    right = [{"label": "helicopter", "box": corners(0, 0, 32, 24)}]
    for number, request_id in enumerate((open_one, done)):
        keep(uri, 0.9, seed=number, said={"verdict": "wrong", "boxes": right}, request_id=request_id)
    assert "1 tasks got the feedback that came later" in push_captures(bench.project)
    assert "feedback that came later" not in push_captures(bench.project)
    tasks = {task["data"]["request_id"]: task for task in bench.tasks()}
    assert [each["model_version"] for each in tasks[open_one]["predictions"]] == ["a person"]
    assert tasks[open_one]["data"]["verdict"] == "wrong" and tasks[open_one]["data"]["origin"] == "feedback"
    assert [each["model_version"] for each in tasks[done]["predictions"]] == ["planes 3"]
    assert "verdict" not in tasks[done]["data"] and len(tasks) == 2


def test_captures_are_read_from_elsewhere_when_a_source_is_given(
    bucket_bench: Bench, keep: Keep, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A folder, or a prefix of another bucket: Label Studio cannot read it, so the pictures come into the store."""
    set_up(bucket_bench.project)
    other = f"{request.getfixturevalue('minio').bucket()['STORE_URI']}/a/prefix"
    for source in (str(tmp_path / "captured"), other):
        keep(source)
        assert "1 made tasks of" in push_captures(bucket_bench.project, source)
    assert [task["data"]["image"].split("/")[3:5] for task in bucket_bench.tasks()] == [
        ["datasets", bucket_bench.title.replace(" ", "-")]
    ] * 2


def test_boxes_of_other_classes_are_not_drawn_when_the_project_lacks_them(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    keep(bench.store.uri, 0.9, label="zeppelin")
    push_captures(bench.project)
    (task,) = bench.tasks()
    assert [each["result"] for each in task["predictions"]] == [[]]


def test_what_cannot_be_used_is_named_when_pushed(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    keep(bench.store.uri, 0.9)
    request_id = keep(bench.store.uri, 0.9)
    (file,) = Path(bench.store.uri).rglob(f"{request_id}.json")
    file.write_text("{")
    said = push_captures(bench.project)
    assert "1 made tasks of" in said and "cannot be used (1):" in said and request_id in said
