from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.label_studio.push import push_captures
from runner.label_studio.setup import set_up
from tests.support.annotating import AIRPLANE, SIZE, Bench, picture
from tests.support.captures import keep_capture

RIGHT = {"label": "helicopter", "box": {"x1": 0, "y1": 0, "x2": 32, "y2": 24}}
Keep = Callable[..., str]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Writes a capture whose picture looks like no other, unless a seed is given."""
    seeds = iter(range(500, 1500))

    def make(uri: str, *confidences: float, seed: int | None = None, days: int = 0, **options: Any) -> str:
        data = picture(tmp_path / "captured.jpg", next(seeds) if seed is None else seed).read_bytes()
        time = datetime.now(UTC) - timedelta(days=days)
        return keep_capture(uri, *confidences, data=data, size=SIZE, time=time, **options)

    return make


def request_ids(bench: Bench) -> list[str]:
    return [task["data"]["request_id"] for task in bench.tasks()]


def test_the_models_boxes_are_on_the_task_when_pushed(either_bench: Bench, keep: Keep) -> None:
    set_up(either_bench.project)
    assert ": 0 tasks created" in push_captures(either_bench.project)
    request_id = keep(either_bench.store.uri, 0.9, 0.35)
    assert ": 1 tasks created" in push_captures(either_bench.project)
    (task,) = either_bench.tasks()
    data = task["data"]
    expected = {"origin": "capture", "reason": "below:0.5", "model": "planes 3", "environment": "dev"}
    expected |= {"request_id": request_id, "name": f"{request_id}.jpg"}
    assert data.items() >= expected.items()
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
    assert request_ids(either_bench) == [first]
    third = keep(either_bench.store.uri, seed=2)
    push_captures(either_bench.project)
    push_captures(either_bench.project)
    assert request_ids(either_bench) == [first, third]


def test_the_most_useful_come_first_when_only_some_may(bench: Bench, keep: Keep) -> None:
    bench.set(labels={"captures_per_day": 3, "captures_days": 5})
    set_up(bench.project)
    uri = bench.store.uri
    keep(uri, 0.95)
    low, nothing = keep(uri, 0.4), keep(uri)
    missed = keep(uri, 0.9, feedback={"verdict": "missed"})
    keep(uri, days=6)
    assert push_captures(bench.project).startswith("4 captures without a task: 3 tasks created")
    assert request_ids(bench) == [missed, nothing, low]
    assert ": 0 tasks created" in push_captures(bench.project)


def test_a_persons_boxes_are_on_the_task_when_sent_at_once_or_later(bench: Bench, keep: Keep) -> None:
    """Later feedback leaves a task alone that was annotated."""
    set_up(bench.project)
    uri, feedback = bench.store.uri, {"verdict": "wrong", "boxes": [RIGHT], "comment": "it hovers"}
    at_once, later, done = keep(uri, 0.9, feedback=feedback), keep(uri, 0.9), keep(uri, 0.8)
    push_captures(bench.project)
    (finished,) = [task["id"] for task in bench.tasks() if task["data"]["request_id"] == done]
    bench.draw(finished, AIRPLANE)
    for request_id in (later, done):
        keep(uri, 0.9, feedback=feedback, request_id=request_id)
    assert "1 tasks updated" in push_captures(bench.project)
    assert "updated" not in push_captures(bench.project)
    tasks = {task["data"]["request_id"]: task for task in bench.tasks()}
    for request_id in (at_once, later):
        (prediction,) = tasks[request_id]["predictions"]
        assert prediction["model_version"] == "a person"
        assert prediction["result"][0]["value"]["rectanglelabels"] == ["helicopter"]
        expected = {"origin": "feedback", "verdict": "wrong", "comment": "it hovers"}
        assert tasks[request_id]["data"].items() >= expected.items()
    assert [each["model_version"] for each in tasks[done]["predictions"]] == ["planes 3"]
    assert "verdict" not in tasks[done]["data"] and len(tasks) == 3


def test_captures_are_read_from_elsewhere_when_a_source_is_given(
    bucket_bench: Bench, keep: Keep, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A folder, or a prefix of another bucket: Label Studio cannot read it, so the pictures come into the store."""
    set_up(bucket_bench.project)
    other = f"{request.getfixturevalue('minio').bucket()['STORE_URI']}/a/prefix"
    for source in (str(tmp_path / "captured"), other):
        keep(source)
        assert ": 1 tasks created" in push_captures(bucket_bench.project, source)
    folders = {tuple(task["data"]["image"].split("/")[3:5]) for task in bucket_bench.tasks()}
    assert folders == {("datasets", bucket_bench.title.replace(" ", "-"))}


def test_unusable_boxes_and_captures_are_left_out_when_pushed(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    keep(bench.store.uri, 0.9, label="zeppelin")
    damaged = keep(bench.store.uri, 0.9)
    next(Path(bench.store.uri).rglob(f"{damaged}.json")).write_text("{")
    text = push_captures(bench.project)
    assert ": 1 tasks created" in text and f"{damaged}.json" in text
    (task,) = bench.tasks()
    assert [each["result"] for each in task["predictions"]] == [[]]
