import uuid
from pathlib import Path
from typing import Any

from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.push import push_captures
from runner.label_studio.setup import set_up
from tests.support.annotating import AIRPLANE, HELICOPTER, SIZE, Bench, picture, pictures
from tests.support.captures import keep_capture


def state(task: dict[str, Any]) -> tuple[bool, int, str | None, str | None]:
    return task["is_labeled"], task["overlap"], task["data"].get("second"), task["data"].get("agreement")


def test_a_second_person_annotates_what_one_has_and_their_agreement_is_a_column(bench: Bench, tmp_path: Path) -> None:
    bench.set(labels={"double_share": 1})
    set_up(bench.project)
    second = bench.label_studio.join(f"{uuid.uuid4().hex}@example.com")
    import_pictures(str(pictures(tmp_path / "new", 2)), project=bench.project)
    assert "second person" not in push_captures(bench.project)
    _, done = bench.tasks()
    bench.draw(done["id"], AIRPLANE)
    for _ in range(2):
        assert "\n1 tasks wait for a second person: " in push_captures(bench.project)
        assert state(bench.tasks()[1]) == (False, 2, "wanted", None)
    action = {"id": "next_task", "project": bench.id}
    given = bench.label_studio.ask("POST", "/api/dm/actions/", token=second, params=action, json={})
    assert (given["id"], given["annotations"]) == (done["id"], [])  # before the other, and without the first one's box
    bench.draw(done["id"], AIRPLANE, HELICOPTER, person=second)
    assert "second person" not in push_captures(bench.project)
    assert state(bench.tasks()[1]) == (True, 2, None, "0.67")


def test_reported_pictures_come_before_second_annotations(bench: Bench, tmp_path: Path) -> None:
    bench.set(labels={"double_share": 1})
    set_up(bench.project)
    import_pictures(str(pictures(tmp_path / "new", 1)), project=bench.project)
    (done,) = bench.tasks()
    bench.draw(done["id"], AIRPLANE)
    push_captures(bench.project)
    data = picture(tmp_path / "reported.jpg", 500).read_bytes()
    keep_capture(bench.store.uri, data=data, size=SIZE, feedback={"verdict": "missed"})
    push_captures(bench.project)
    done, reported = bench.tasks()
    assert state(done) == (True, 1, None, None)
    assert bench.next_task(bench.label_studio.join(f"{uuid.uuid4().hex}@example.com")) == reported["id"]
    bench.draw(reported["id"], HELICOPTER)
    push_captures(bench.project)
    assert [state(task)[2] for task in bench.tasks()] == ["wanted", None]
    bench.set(labels={"double_share": 0})
    push_captures(bench.project)
    assert state(bench.tasks()[0]) == (True, 1, None, None)
