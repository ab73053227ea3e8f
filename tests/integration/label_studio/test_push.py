import hashlib
import io
import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.config.edit import get_param
from runner.label_studio import push
from runner.label_studio.feedback_states import KEY
from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.labelling_tasks import PROPOSAL
from runner.label_studio.pull import pull
from runner.label_studio.push import push_captures
from runner.label_studio.setup import set_up
from runner.release.disagreements import missing_looks
from serving.storage.detections import ModelName
from tests.support.annotating import AIRPLANE, HELICOPTER, SIZE, Bench, labelled, picture, pictures
from tests.support.captures import keep_capture
from tests.support.pictures import turned

RIGHT = {"label": "helicopter", "box": {"x1": 0, "y1": 0, "x2": 32, "y2": 24}}
MISSED = {"verdict": "missed", "boxes": [RIGHT], "comment": "it hovers", "time": "2026-11-30T10:00:00.000+00:00"}
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
    expected |= {"request_id": request_id, "priority": "0.38", "uncertainty": "0.90", "diversity": "1.00"}
    assert data | expected == data and data["requests"] == [request_id]
    # The hour's pictures can be kept in one part by `split.group`.
    assert re.fullmatch(rf"dev-{datetime.now(UTC):%Y%m%d}-\d{{6}}-{request_id}\.jpg", data["name"])
    assert data["note"] == "Captured because of below:0.5 by planes 3"
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.35
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
    bench.set(labels={"captures_per_day": 2, "captures_days": 5})
    set_up(bench.project)
    uri = bench.store.uri
    keep(uri, 0.95)
    low, nothing = keep(uri, 0.4), keep(uri)
    missed = keep(uri, 0.9, feedback={"verdict": "missed"})
    keep(uri, days=6)
    assert push_captures(bench.project).startswith("4 captures without a task: 3 tasks created, at most 0 more today")
    assert request_ids(bench) == [missed, nothing, low]
    assert ": 0 tasks created" in push_captures(bench.project)
    later = keep(uri, 0.9, feedback={"verdict": "missed"})  # of a day whose captures are all created
    push_captures(bench.project)
    assert request_ids(bench) == [missed, nothing, low, later]


def test_the_score_and_its_parts_are_columns_and_order_the_tab(bench: Bench, keep: Keep, tmp_path: Path) -> None:
    """*Label All Tasks* begins with the report, and takes the others of the push in the same order."""
    set_up(bench.project)
    import_pictures(str(pictures(tmp_path / "new", 1)), project=bench.project)
    sure, low, nothing = (keep(bench.store.uri, *confidences) for confidences in ((0.95,), (0.4,), ()))
    missed = keep(bench.store.uri, 0.9, feedback=MISSED)
    push_captures(bench.project)
    columns = bench.label_studio.ask("GET", "/api/dm/columns/", params={"project": bench.id})["columns"]
    parts = {"uncertainty", "nothing_found", "shadow", "rare_class", "diversity"}
    assert parts | {"priority"} <= {each["id"] for each in columns if each.get("parent") == "data"}
    tab = bench.label_studio.ask("GET", "/api/dm/views/", params={"project": bench.id})[0]
    assert not [name for name in tab["data"]["hiddenColumns"]["explore"] if name.removeprefix("tasks:data.") in parts]
    shown = bench.label_studio.ask("GET", "/api/tasks/", params={"view": tab["id"], "project": bench.id})["tasks"]
    order = [missed, nothing, low, sure]
    assert [task["data"].get("request_id") for task in shown] == [*order, None]
    scores = [task["data"]["priority"] for task in shown[1:4]]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == len(scores)
    assert [task["data"]["request_id"] for task in bench.tasks()[1:]] == order
    assert bench.next_task() == shown[0]["id"]


def test_a_persons_boxes_are_on_the_task_when_sent_at_once_or_later(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    uri = bench.store.uri
    at_once, later, done = keep(uri, 0.9, feedback=MISSED), keep(uri, 0.9), keep(uri, 0.8)
    push_captures(bench.project)
    (finished,) = [task["id"] for task in bench.tasks() if task["data"]["request_id"] == done]
    bench.draw(finished, AIRPLANE)
    for request_id in (later, done):
        keep(uri, 0.9, feedback=MISSED, request_id=request_id)
    assert re.search(
        r"\n2 tasks got feedback, 1 of them annotated before.*/projects/\d+/", push_captures(bench.project)
    )
    assert "got feedback" not in push_captures(bench.project)
    tasks = {task["data"]["request_id"]: task for task in bench.tasks()}
    assert len(tasks) == 3
    for request_id in (at_once, later, done):
        check_reported(tasks[request_id])


def test_both_models_boxes_are_on_the_task_and_looks_are_counted(either_bench: Bench, keep: Keep) -> None:
    bench = either_bench
    set_up(bench.project)
    again = keep(bench.store.uri, 0.9, seed=1)
    push_captures(bench.project)
    keep(bench.store.uri, 0.9, seed=1, challenger=[0.4, 0.3])  # of the same picture, which has a task
    keep(bench.store.uri, challenger=[0.6])
    keep(bench.store.uri, 0.8)
    push_captures(bench.project)
    first, second, other = sorted(bench.tasks(), key=lambda task: str(task["data"].get("disagreement", "~")))
    assert first["data"]["request_id"] == again and "challengers" not in other["data"]
    expected = {PROPOSAL: [0.9], "planes 4": [0.4, 0.3]}, {PROPOSAL: [], "planes 4": [0.6]}
    for task, scores in zip((first, second), expected, strict=True):
        found = {each["model_version"]: [box["score"] for box in each["result"]] for each in task["predictions"]}
        assert (found, task["data"]["challengers"]) == (scores, "planes 4")
    assert first["data"]["note"].endswith(" by planes 3 · planes 3 alone: 1 airplane · planes 4 alone: 2 airplane")
    assert second["data"]["note"].endswith(" by planes 3 · planes 4 alone: 1 airplane")
    assert "looked at 0 " in missing_looks(bench.store, "planes 4", 2)
    bench.draw(first["id"], AIRPLANE)
    bench.draw(second["id"], cancelled=True)
    push_captures(bench.project)
    assert missing_looks(bench.store, "planes 4", 2) == ""
    said = missing_looks(bench.store, "planes 4", 3)
    assert "looked at 2 " in said and "1 are missing; a server captures more" in said


def test_boxes_are_shown_in_label_all_tasks_whoever_drew_them(bench: Bench, keep: Keep) -> None:
    """Label Studio shows there the boxes of one name alone, and would keep that of the first model."""
    set_up(bench.project)
    keep(bench.store.uri, 0.9, seed=1)
    push_captures(bench.project)
    keep(bench.store.uri, 0.8, seed=2, model=ModelName(name="planes", version="4", sha256="4" * 64))
    keep(bench.store.uri, 0.7, seed=3, feedback=MISSED)
    keep(bench.store.uri, 0.6, seed=4, challenger=[0.4])
    push_captures(bench.project)
    assert "nothing to change" in set_up(bench.project)
    scores = []
    for _ in range(4):
        options = {"id": "next_task", "project": bench.id}
        task = bench.label_studio.ask("POST", "/api/dm/actions/", params=options, json={})
        scores.append([box["score"] for each in task["predictions"] for box in each["result"]])
        bench.draw(task["id"], AIRPLANE)
    assert scores == [[1.0], [0.9], [0.6], [0.8]]  # the reported one, then by age and use


def test_boxes_of_an_older_version_of_ours_are_shown_until_there_are_new_ones(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    old = {"data": {"image": "/a.jpg"}, "predictions": [{"model_version": "planes 2", "score": 0.5, "result": []}]}
    bench.label_studio.ask("POST", f"/api/projects/{bench.id}/import", json=[old])
    bench.label_studio.ask("PATCH", f"/api/projects/{bench.id}", json={"model_version": "planes 2"})
    assert "nothing to change" in set_up(bench.project)
    keep(bench.store.uri, 0.9)
    push_captures(bench.project)
    assert f"+ Label All Tasks shows the boxes of '{PROPOSAL}'" in set_up(bench.project)
    assert "nothing to change" in set_up(bench.project)


def check_reported(task: dict[str, Any]) -> None:
    """Assert that an annotator sees the report MISSED, and its box; that the task is open, and before others."""
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], task["data"]["boxes_by"]) == (PROPOSAL, "a person")
    assert [each["value"]["rectanglelabels"] for each in prediction["result"]] == [["helicopter"]]
    expected = {"origin": "feedback", "verdict": "missed", "comment": "it hovers", "priority": "1 reported"}
    assert task["data"] | expected == task["data"]
    assert task["data"]["note"].startswith("Reported as missed · it hovers · ")
    assert (task["is_labeled"], task["overlap"]) == (False, 2)


@pytest.mark.parametrize("origin", ["import", "dataset", "upload", "capture"])
@pytest.mark.parametrize("annotated", [False, True])
def test_feedback_reaches_the_task_that_its_picture_has(
    bench: Bench, keep: Keep, tmp_path: Path, origin: str, annotated: bool
) -> None:
    """The server saw the same bytes under another request, whatever became of them before."""
    set_up(bench.project)
    file = picture(tmp_path / "new" / "images" / "sky.jpg", 1000)
    match origin:
        case "import":
            import_pictures(str(file.parent), project=bench.project)
        case "dataset":
            source = labelled(tmp_path / "dataset", {"sky.jpg": "0 0.5 0.5 0.25 0.25\n"})
            import_pictures(str(source), project=bench.project)
        case "upload":
            bench.upload(file)
        case "capture":
            keep(bench.store.uri, 0.9, seed=1000)
            push_captures(bench.project)
    (task,) = bench.tasks()
    if annotated and not task["annotations"]:
        bench.draw(task["id"], AIRPLANE)
    keep(bench.store.uri, 0.9, seed=1000, feedback=MISSED)
    text = push_captures(bench.project)
    assert text.startswith("0 captures without a task: 0 tasks created") and "\n1 tasks got feedback" in text
    (after,) = bench.tasks()
    check_reported(after)
    kept = ("id", "annotations", "total_annotations")
    assert [after[key] for key in kept[::2]] == [task["id"], int(annotated or origin == "dataset")]
    assert after["data"]["image"] == task["data"]["image"]
    again = push_captures(bench.project)
    assert again.startswith("0 captures without a task") and "got feedback" not in again


@pytest.mark.parametrize("kind", ["png", "turned"])
def test_feedback_reaches_the_task_when_the_capture_is_another_file(bench: Bench, tmp_path: Path, kind: str) -> None:
    """The server keeps an upright JPEG of a PNG, or of a phone's turned picture; the imported file is the sent one."""
    set_up(bench.project)
    out = io.BytesIO()
    Image.open(picture(tmp_path / "a.jpg", 3)).save(out, "PNG")
    data = out.getvalue() if kind == "png" else turned(6)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ("a.png" if kind == "png" else "a.jpg")).write_bytes(data)
    import_pictures(str(tmp_path / "new"), project=bench.project)
    keep_capture(bench.store.uri, 0.9, data=data, size=SIZE if kind == "png" else (40, 30), feedback=MISSED)
    push_captures(bench.project)
    (task,) = bench.tasks()
    check_reported(task)
    assert task["data"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_all_reports_are_kept_when_a_picture_has_several(bench: Bench, keep: Keep) -> None:
    """Of one push and of later ones, also when today's tasks are all created; the newest verdict and boxes count."""
    bench.set(labels={"captures_per_day": 1})
    set_up(bench.project)
    uri = bench.store.uri
    right = {"label": "airplane", "box": {"x1": 0, "y1": 0, "x2": 32, "y2": 24}}
    drone = {"label": "drone", "box": {"x1": 0, "y1": 0, "x2": 32, "y2": 24}}
    keep(uri, 0.9, seed=1, feedback=MISSED)
    second = {"verdict": "wrong", "comment": "no plane", "time": "2026-11-30T11:00:00.000+00:00"}
    keep(uri, 0.9, seed=1, feedback=second)
    push_captures(bench.project)
    (task,) = bench.tasks()
    assert (task["data"]["verdict"], task["data"]["comment"]) == ("wrong", "it hovers\nno plane")
    check = {"verdict": "wrong", "boxes": [right, drone], "time": "2026-11-30T12:00:00.000+00:00"}
    keep(uri, 0.9, seed=1, feedback=check)
    keep(uri, 0.9, seed=2, feedback=MISSED)
    text = push_captures(bench.project)
    assert text.startswith("1 captures without a task: 0 tasks created") and "\n1 tasks got feedback" in text
    (task,) = bench.tasks()
    assert "drone" in task["data"]["comment"] and "no plane" in task["data"]["comment"]
    (prediction,) = task["predictions"]
    assert [each["value"]["rectanglelabels"] for each in prediction["result"]] == [["airplane"]]


def test_reported_pictures_come_first_when_all_tasks_are_labelled(bench: Bench, keep: Keep, tmp_path: Path) -> None:
    """Not only among themselves: older tasks wait. Once annotated, they are asked for no more."""
    set_up(bench.project)
    import_pictures(str(pictures(tmp_path / "new", 3)), project=bench.project)
    second = bench.label_studio.join(f"{uuid.uuid4().hex}@example.com")
    bench.draw(bench.task("0001.jpg")["id"], AIRPLANE)
    assert bench.next_task(second) == bench.task("0000.jpg")["id"]
    keep(bench.store.uri, 0.9, feedback={"verdict": "correct"})
    keep(bench.store.uri, 0.9, feedback=MISSED)
    keep(bench.store.uri, 0.9, seed=1, feedback=MISSED)  # of 0001.jpg
    push_captures(bench.project)
    reported = [task["id"] for task in bench.tasks() if task["data"].get("priority") == "1 reported"]
    assert reported[0] == bench.task("0001.jpg")["id"] and len(reported) == 2
    bench.draw(bench.task("0000.jpg")["id"], AIRPLANE, person=second)  # ends the lock on it
    third = bench.label_studio.join(f"{uuid.uuid4().hex}@example.com")
    for task in reported:
        assert bench.next_task(second) == task
        assert bench.next_task(third) not in (None, bench.task("0001.jpg")["id"])  # it has one annotation, and a lock
        bench.draw(task, HELICOPTER, person=second)
    assert bench.next_task(second) == bench.task("0002.jpg")["id"]
    push_captures(bench.project)
    assert {(task["overlap"], task["is_labeled"]) for task in bench.tasks() if task["id"] in reported} == {(1, True)}
    assert bench.next_task() not in (None, *reported)


def test_near_duplicates_are_named_when_pushed(bench: Bench, tmp_path: Path) -> None:
    set_up(bench.project)
    Image.open(picture(tmp_path / "a.jpg", 3)).save(tmp_path / "b.jpg", quality=80)
    for name in ("a.jpg", "b.jpg"):
        keep_capture(bench.store.uri, 0.9, data=(tmp_path / name).read_bytes(), size=SIZE)
    assert re.search(r"near-duplicates.* \(1\):\n  dev-\S+ and dev-", push_captures(bench.project))


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


def test_a_report_is_followed_until_it_is_in_a_version(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    request_id = keep(bench.store.uri, 0.9, feedback=MISSED)

    def state() -> tuple[str, str | None]:
        push_captures(bench.project)
        report = json.loads(bench.store.read(KEY))["reports"][request_id]
        return report["state"], report["version"]

    assert state() == ("open", None)
    (task,) = bench.tasks()
    bench.draw(task["id"], HELICOPTER)
    assert state() == ("labelled", None)
    pull(bench.project)
    version = get_param(bench.project / "params.yaml", ("dataset", "sha256"))
    assert state() == ("in_dataset", version)
    assert state() == ("in_dataset", version)


BY_ANNA = {**MISSED, "annotator": "anna"}


@pytest.mark.parametrize("before", ["no task", "waiting", "annotated", "reported"])
def test_boxes_are_an_annotation_when_an_annotator_reports_them(bench: Bench, keep: Keep, before: str) -> None:
    """Nobody has to look at the task again; what a pull finds is her boxes, and the next report opens it as ever."""
    set_up(bench.project)
    uri = bench.store.uri
    if before != "no task":
        keep(uri, 0.9, seed=1, feedback=MISSED if before == "reported" else None)
        push_captures(bench.project)
    if before == "annotated":
        bench.draw(bench.tasks()[0]["id"], AIRPLANE)
    later = {**BY_ANNA, "time": "2026-11-30T11:00:00.000+00:00"}
    request_id = keep(uri, 0.9, seed=1, feedback=later)
    assert "\n1 tasks got feedback, 1 of them annotated by who reported" in push_captures(bench.project)
    assert "got feedback" not in push_captures(bench.project)
    (task,) = bench.tasks()
    assert (task["is_labeled"], task["overlap"], len(task["annotations"])) == (True, 1, 1 + (before == "annotated"))
    newest = max(task["annotations"], key=lambda each: each["id"])
    assert [each["value"]["rectanglelabels"] for each in newest["result"]] == [["helicopter"]]
    assert (task["data"]["boxes_by"], task["data"]["verdict"], bench.next_task()) == ("anna", "missed", None)
    assert json.loads(bench.store.read(KEY))["reports"][request_id]["state"] == "labelled"
    pull(bench.project)
    assert [box.label for boxes in bench.boxes().values() for box in boxes] == ["helicopter"]
    last = {**MISSED, "time": "2026-11-30T12:00:00.000+00:00", "comment": "no"}
    keep(uri, 0.9, seed=1, feedback=last)
    assert "1 of them annotated before and open again" in push_captures(bench.project)
    (task,) = bench.tasks()
    assert (task["is_labeled"], task["overlap"]) == (False, 2)  # for another person than made the annotation


def test_an_annotators_boxes_are_an_annotation_when_others_report_too(bench: Bench, keep: Keep) -> None:
    """In one push, as in several: what was reported before hers is answered, what comes later opens the task again."""
    set_up(bench.project)
    uri = bench.store.uri
    plane = {**RIGHT, "label": "airplane"}
    answered, opened = keep(uri, 0.9, seed=1, feedback=MISSED), keep(uri, 0.9, seed=2, feedback=BY_ANNA)
    later = "2026-11-30T11:00:00.000+00:00"
    keep(uri, 0.9, seed=1, feedback={**BY_ANNA, "boxes": [plane], "time": later})
    keep(uri, 0.9, seed=2, feedback={**MISSED, "boxes": [plane], "time": later})
    push_captures(bench.project)
    states = {each["data"]["requests"][0]: (each["is_labeled"], each["overlap"]) for each in bench.tasks()}
    assert sorted(states.values()) == [(False, 2), (True, 1)]
    drawn = [
        [box["value"]["rectanglelabels"] for box in each["result"]]
        for task in bench.tasks()
        for each in task["annotations"]
    ]
    assert sorted(drawn) == [[["airplane"]], [["helicopter"]]]
    reports = json.loads(bench.store.read(KEY))["reports"]
    assert (reports[answered]["state"], reports[opened]["state"]) == ("labelled", "open")
    assert "got feedback" not in push_captures(bench.project)


def test_a_confirmed_answer_opens_no_task_again(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    missed = keep(bench.store.uri, 0.9, seed=1, feedback=MISSED)
    push_captures(bench.project)
    (task,) = bench.tasks()
    bench.draw(task["id"], HELICOPTER)
    confirmed = {"verdict": "correct", "time": "2026-11-30T11:00:00.000+00:00"}
    keep(bench.store.uri, 0.9, seed=1, feedback=confirmed)
    assert "open again" not in push_captures(bench.project)
    (task,) = bench.tasks()
    assert (task["is_labeled"], task["overlap"], bench.next_task()) == (True, 1, None)
    pull(bench.project)
    push_captures(bench.project)
    assert json.loads(bench.store.read(KEY))["reports"][missed]["state"] == "in_dataset"


def test_reports_are_pushed_when_somebody_edited_the_time_of_a_task(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    first = keep(bench.store.uri, 0.9, seed=1, feedback=MISSED)
    push_captures(bench.project)
    (task,) = bench.tasks()
    for time in ("yesterday", "2026-11-30T10:00:00", 7):
        data = {**task["data"], "reported": time}
        bench.label_studio.ask("PATCH", f"/api/tasks/{task['id']}/", json={"data": data})
        bench.draw(task["id"], HELICOPTER)
        push_captures(bench.project)
    assert json.loads(bench.store.read(KEY))["reports"][first]["state"] == "labelled"


def test_boxes_of_an_annotator_are_a_proposal_when_the_project_lacks_a_class(bench: Bench, keep: Keep) -> None:
    set_up(bench.project)
    boxes = [RIGHT, {**RIGHT, "label": "balloon"}]
    keep(bench.store.uri, 0.9, feedback={**BY_ANNA, "boxes": boxes})
    push_captures(bench.project)
    (task,) = bench.tasks()
    assert not task["annotations"] and not task["is_labeled"] and "balloon at 0 0 32 24" in task["data"]["comment"]
    assert [each["value"]["rectanglelabels"] for each in task["predictions"][0]["result"]] == [["helicopter"]]


def test_the_annotation_is_made_when_a_push_was_killed_after_the_task(
    bench: Bench, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(bench.project)
    keep(bench.store.uri, 0.9, feedback=BY_ANNA)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(push, "add_to_tasks", raising(KeyboardInterrupt()))
        push_captures(bench.project)
    assert [task["annotations"] for task in bench.tasks()] == [[]]
    push_captures(bench.project)
    (task,) = bench.tasks()
    assert len(task["annotations"]) == 1 and task["data"]["boxes_by"] == "anna"


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail
