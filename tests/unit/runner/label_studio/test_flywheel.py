"""The flywheel report, from what publish, pull and the server leave in a store."""

import json
from pathlib import Path

import pytest
from PIL import Image

from runner.errors import StageError
from runner.label_studio.flywheel import report
from runner.store import open_store


def publish(project: Path, number: int, dataset: str, map50: float, *, passed: bool = True, **classes: float) -> None:
    """Put a version's manifest into the store, as `publish` writes it."""
    manifest = {
        "name": "flyingthings",
        "version": number,
        "onnx_sha256": "0" * 64,
        "classes": list(classes),
        "metrics": {"map50": map50, "pictures": 40 + number, "classes": {n: {"map50": v} for n, v in classes.items()}},
        "verdict": {"passed": passed},
        "dataset": {"sha256": dataset * 64, "url": f"store:datasets/planes/{dataset * 12}.zip"},
    }
    key = f"models/flyingthings/{number}/manifest.json"
    open_store(project).create(key, json.dumps(manifest).encode())


def capture(project: Path, version: int, count: int, *, feedback: int = 0) -> None:
    for number in range(count):
        stem = f"captures/dev/flyingthings/{version}/2026-11-25/{version:016x}{number:016x}"
        for suffix in (".jpg", ".json", *([".feedback.json"] if number < feedback else [])):
            open_store(project).create(f"{stem}{suffix}", b"{}")


def cells(text: str) -> list[list[str]]:
    """The rows of a Markdown text's tables."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_there_is_no_report_when_nothing_was_published(configured: Path) -> None:
    with pytest.raises(StageError, match="flyingthings"):
        report(configured)


def test_each_dataset_is_a_round_when_several_models_were_trained_on_it(configured: Path) -> None:
    publish(configured, 1, "a", 0.5, airplane=0.6, helicopter=0.4)
    publish(configured, 2, "a", 0.55, airplane=0.6, helicopter=0.5)
    publish(configured, 3, "a", 0.3, passed=False, airplane=0.3, helicopter=0.3)
    capture(configured, 1, 2)
    capture(configured, 2, 5, feedback=3)
    record = {"made_by": "labels pull", "added": 4, "relabelled": 2, "removed": 0}
    record |= {"origins": {"capture": 3, "feedback": 2, "import": 1}}
    open_store(configured).create("datasets/planes/bbbbbbbbbbbb.json", json.dumps(record).encode())
    publish(configured, 4, "b", 0.7, airplane=0.8, helicopter=0.6)
    capture(configured, 4, 1)
    text = report(configured, markdown=True)
    rows = cells(text)
    assert rows[2:5] == [
        ["1", "aaaaaaaaaaaa", "0", "0", "-", "-", "-", "2", "42", "0.550", ""],
        ["2", "bbbbbbbbbbbb", "7", "3", "5", "4", "2", "4", "44", "0.700", "+0.150"],
        ["next", "", "1", "0", "", "", "", "", "", "", ""],
    ]
    assert rows[7:] == [["airplane", "0.600", "0.800", "+0.200"], ["helicopter", "0.500", "0.600", "+0.100"]]
    assert "1 of 2 rounds added" in text and "1 captures and 0 feedbacks since" in text
    with Image.open(configured / ".work" / "flywheel.png") as drawn:
        assert drawn.width > 1000


def test_the_next_step_is_named_when_no_capture_came_back(configured: Path) -> None:
    publish(configured, 1, "a", 0.2, passed=False, airplane=0.5)
    text = report(configured)
    assert "CAPTURE_URI" in text and "1 (did not pass)" in text
    capture(configured, 1, 3, feedback=1)
    text = report(configured)
    assert "3 captures and 1 feedbacks" in text and "`captures push`" in text


def test_classes_may_come_and_go_when_the_list_changes(configured: Path) -> None:
    publish(configured, 1, "a", 0.5, airplane=0.5, glider=0.5)
    publish(configured, 2, "b", 0.6, airplane=0.6, zeppelin=0.6)
    assert cells(report(configured, markdown=True))[7:] == [
        ["airplane", "0.500", "0.600", "+0.100"],
        ["glider", "0.500", "-", ""],
        ["zeppelin", "-", "0.600", ""],
    ]
