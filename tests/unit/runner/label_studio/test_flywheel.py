"""The report of the wheel, from what publish, pull and the server leave in a store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.errors import StageError
from runner.label_studio.flywheel import report
from runner.store import open_store
from tests.conftest import PROJECT

DATASETS = {name: name * 64 for name in "abc"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("STORE_URI", raising=False)
    monkeypatch.delenv("RUNNER_WORK", raising=False)
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    return tmp_path


def publish(project: Path, number: int, dataset: str, map50: float, *, passed: bool = True, **classes: float) -> None:
    """Put a version's manifest into the store, as `publish` writes it."""
    manifest = {
        "name": "flyingthings",
        "version": number,
        "onnx_sha256": "0" * 64,
        "classes": list(classes),
        "metrics": {"map50": map50, "pictures": 40 + number, "classes": {n: {"map50": v} for n, v in classes.items()}},
        "verdict": {"passed": passed},
        "dataset": {"sha256": DATASETS[dataset], "url": f"store:datasets/planes/{DATASETS[dataset][:12]}.zip"},
    }
    key = f"models/flyingthings/{number}/manifest.json"
    open_store(project).create(key, json.dumps(manifest).encode())


def record(project: Path, dataset: str, **content: Any) -> None:
    key = f"datasets/planes/{DATASETS[dataset][:12]}.json"
    open_store(project).create(key, json.dumps(content).encode())


def capture(project: Path, version: int, count: int, *, feedback: int = 0) -> None:
    for number in range(count):
        stem = f"captures/dev/flyingthings/{version}/2026-11-25/{version:016x}{number:016x}"
        for suffix in (".jpg", ".json", *([".feedback.json"] if number < feedback else [])):
            open_store(project).create(f"{stem}{suffix}", b"{}")


def cells(text: str) -> list[list[str]]:
    """The rows of a Markdown text's tables."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_there_is_no_report_when_nothing_was_published(project: Path) -> None:
    with pytest.raises(StageError, match=r"no version of flyingthings was published yet; the wheel begins with the fi"):
        report(project)


def test_each_dataset_is_a_round_when_several_models_were_trained_on_it(project: Path) -> None:
    publish(project, 1, "a", 0.5, airplane=0.6, helicopter=0.4)
    publish(project, 2, "a", 0.55, airplane=0.6, helicopter=0.5)
    publish(project, 3, "a", 0.3, passed=False, airplane=0.3, helicopter=0.3)
    capture(project, 1, 2)
    capture(project, 2, 5, feedback=3)
    record(project, "b", added=4, relabelled=2, removed=0, origins={"capture": 3, "feedback": 2, "import": 1})
    publish(project, 4, "b", 0.7, airplane=0.8, helicopter=0.6)
    capture(project, 4, 1)
    said = report(project, markdown=True)
    rows = cells(said)
    assert rows[2:5] == [
        ["1", "aaaaaaaaaaaa", "0", "0", "-", "-", "-", "2", "42", "0.550", ""],
        ["2", "bbbbbbbbbbbb", "7", "3", "5", "4", "2", "4", "44", "0.700", "+0.150"],
        ["next", "", "1", "0", "", "", "", "", "", "", ""],
    ]
    assert rows[7:] == [["airplane", "0.600", "0.800", "+0.200"], ["helicopter", "0.500", "0.600", "+0.100"]]
    assert "the wheel turns: captured pictures came back in 1 of 2 rounds; 1 captures and 0 verdicts since" in said
    with Image.open(project / ".work" / "flywheel.png") as drawn:
        assert drawn.width > 1000


def test_it_stands_still_when_nothing_came_back(project: Path) -> None:
    publish(project, 1, "a", 0.5, airplane=0.5)
    assert "the wheel stands still: nothing was captured; set CAPTURE_URI" in report(project)
    capture(project, 1, 3, feedback=1)
    assert "the wheel stands still: 3 captures and 1 verdicts since the last round, none came back" in report(project)


def test_classes_may_come_and_go_when_the_list_changes(project: Path) -> None:
    publish(project, 1, "a", 0.5, airplane=0.5, glider=0.5)
    publish(project, 2, "b", 0.6, airplane=0.6, zeppelin=0.6)
    assert cells(report(project, markdown=True))[7:] == [
        ["airplane", "0.500", "0.600", "+0.100"],
        ["glider", "0.500", "-", ""],
        ["zeppelin", "-", "0.600", ""],
    ]


def test_the_version_that_did_not_pass_is_marked_when_there_is_no_other(project: Path) -> None:
    publish(project, 1, "a", 0.2, passed=False, airplane=0.2)
    assert "1 (did not pass)" in report(project)
