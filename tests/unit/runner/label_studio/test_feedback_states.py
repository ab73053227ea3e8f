import json
from pathlib import Path
from typing import Any

import pytest

from runner.label_studio.captures import CaptureStore
from runner.label_studio.feedback_states import KEY, note_feedback
from runner.label_studio.labelling_tasks import Task
from runner.label_studio.task_states import Stamp, TaskState
from runner.store import open_store

ONE, TWO = "1" * 64, "2" * 64
TIME, PUSHED = "2026-11-30T10:00:00.000+00:00", "2026-11-30T10:17:00+00:00"
PUSHED_US = 1796033820000000  # PUSHED, in microseconds since 1970
STAMP = Stamp(PUSHED_US, 1, 0)


def noted(folder: Path, task: Task, pulled: TaskState | None = None, version: str = ONE) -> dict[str, Any]:
    store = open_store(folder)
    for digest, previous in ((ONE, None), (TWO, ONE)):
        store.create(f"datasets/planes/{digest[:12]}.json", json.dumps({"previous": previous}).encode())
    states = {task.id: pulled} if pulled else None
    note_feedback(CaptureStore(folder), store, f"store:datasets/planes/{version[:12]}.jsonl", version, [task], states)
    content: dict[str, Any] = json.loads(store.read(KEY))
    return content


def task(*, labelled: bool = False, finished: bool = False, overlap: int = 1) -> Task:
    return Task(7, {"requests": ["a", f"b {TIME}"], "reported": PUSHED}, labelled, finished, overlap)


@pytest.mark.parametrize(
    ("found", "pulled", "state"),
    [
        (task(), None, "open"),
        (task(labelled=True, finished=True, overlap=2), None, "open"),  # annotated before the report
        (task(labelled=True, finished=True), None, "labelled"),
        (task(labelled=True), None, "skipped"),
        (task(labelled=True, finished=True), TaskState(STAMP, ONE, PUSHED_US - 1, True), "labelled"),
        (task(labelled=True, finished=True), TaskState(STAMP, ONE, PUSHED_US, True), "in_dataset"),
        (task(labelled=True), TaskState(STAMP, ONE, PUSHED_US, False), "skipped"),
    ],
)
def test_a_report_has_the_state_of_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Task, pulled: TaskState | None, state: str
) -> None:
    monkeypatch.setenv("STORE_URI", str(tmp_path / "store"))
    content = noted(tmp_path, found, pulled)
    version = ONE if state == "in_dataset" else None
    assert content["reports"] == {"b": {"state": state, "since": TIME, "version": version}}  # none for a mere capture
    assert content["versions"] == [ONE]


def test_the_first_version_stays_when_there_are_later_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_URI", str(tmp_path / "store"))
    done, pulled = task(labelled=True, finished=True), TaskState(STAMP, ONE, PUSHED_US, True)
    noted(tmp_path, done, pulled)
    content = noted(tmp_path, done, pulled, TWO)
    assert (content["reports"]["b"]["version"], content["versions"]) == (ONE, [ONE, TWO])
    again = Task(7, {**done.data, "requests": ["b 2026-11-30T11:00:00.000+00:00"]}, True, True, 2)  # reported anew
    assert noted(tmp_path, again, None, TWO)["reports"]["b"]["state"] == "open"


def test_a_report_stays_in_its_version_when_its_task_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_URI", str(tmp_path / "store"))
    noted(tmp_path, task(labelled=True, finished=True), TaskState(STAMP, ONE, PUSHED_US, True))
    other = Task(8, {"requests": [f"c {TIME}"], "reported": PUSHED}, False)
    assert {key: each["state"] for key, each in noted(tmp_path, other)["reports"].items()} == {
        "b": "in_dataset",
        "c": "open",
    }
