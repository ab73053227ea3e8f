"""The flywheel report, from what publish, pull and the server leave in a store."""

import json
from pathlib import Path

import pytest
from PIL import Image

from runner.errors import StageError
from runner.label_studio.flywheel import report
from runner.store import open_store
from serving.storage.detections import ModelName
from tests.support.captures import keep_capture
from tests.support.projects import set_params


def publish(
    project: Path,
    number: int,
    dataset: str,
    map50: float,
    *,
    passed: bool = True,
    created: str | None = None,
    **classes: float,
) -> None:
    """Put a version's manifest into the store, as `publish` writes it; the digest of its file is its number."""
    manifest = {
        "name": "flyingthings",
        "version": number,
        "onnx_sha256": f"{number:064x}",
        "classes": list(classes),
        "metrics": {"map50": map50, "pictures": 40 + number, "classes": {n: {"map50": v} for n, v in classes.items()}},
        "verdict": {"passed": passed},
        "created": created,
        "dataset": {"sha256": dataset * 64, "url": f"store:datasets/planes/{dataset * 12}.zip"},
    }
    key = f"models/flyingthings/{number}/manifest.json"
    open_store(project).create(key, json.dumps(manifest).encode())


def capture(project: Path, version: int, count: int, *, feedback: int = 0) -> None:
    for number in range(count):
        stem = f"captures/dev/flyingthings/{version}/2026-11-25/{version:016x}{number:016x}"
        for suffix in (".jpg", ".json", *([".feedback.json"] if number < feedback else [])):
            open_store(project).create(f"{stem}{suffix}", b"{}")


def pulled(project: Path, dataset: str, previous: str, added: int, captured: int = 0, relabelled: int = 0) -> None:
    """Put the record of a version into the store, as `labels pull` writes it."""
    record = {"made_by": "labels pull", "previous": previous * 64, "added": added, "relabelled": relabelled}
    record |= {"removed": 0, "origins": {"capture": captured, "import": added + relabelled - captured}}
    open_store(project).create(f"datasets/planes/{dataset * 12}.json", json.dumps(record).encode())


def name_dataset(project: Path, dataset: str) -> None:
    """Name a version in params.yaml."""
    version = {"name": "planes", "url": f"store:datasets/planes/{dataset * 12}.jsonl", "sha256": dataset * 64}
    set_params(project, {"dataset": version})


def next_line(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith("next: ")]
    return line


def cells(text: str) -> list[list[str]]:
    """The rows of a Markdown text's tables."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_there_is_no_report_when_nothing_was_published(configured: Path) -> None:
    with pytest.raises(StageError, match="flyingthings"):
        report(configured)


def test_the_others_are_reported_when_a_version_or_record_is_damaged(configured: Path) -> None:
    publish(configured, 1, "a", 0.5, airplane=0.5)
    open_store(configured).create("models/flyingthings/2/manifest.json", b'{"name": ')
    publish(configured, 3, "b", 0.7, airplane=0.7)
    open_store(configured).create("datasets/planes/bbbbbbbbbbbb.json", b"<html>")
    text = report(configured, markdown=True)
    assert [row[7] for row in cells(text)[2:4]] == ["1", "3"]
    (line,) = [line for line in text.splitlines() if line.startswith("left out: ")]
    assert "models/flyingthings/2/manifest.json" in line


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


def test_the_next_step_is_named_when_nothing_or_something_was_captured(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where Label Studio, which knows more, does not answer."""
    publish(configured, 1, "a", 0.2, passed=False, airplane=0.5)
    text = report(configured)
    assert "CAPTURE_URI" in next_line(text) and "1 (did not pass)" in text
    capture(configured, 1, 3, feedback=1)
    for url in ("", "http://127.0.0.1:9"):
        monkeypatch.setenv("LABEL_STUDIO_URL", url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "none")
        text = report(configured)
        assert "3 captures and 1 feedbacks" in text and "captures push" in next_line(text)


def test_pulls_are_summed_when_several_lie_between_two_models(configured: Path) -> None:
    """Those before the first model count to it; what an earlier round has is not counted again."""
    publish(configured, 1, "a", 0.2, airplane=0.2)
    pulled(configured, "a", "0", 7)
    capture(configured, 1, 6)
    pulled(configured, "b", "a", 4, captured=3)
    pulled(configured, "c", "b", 2, captured=2, relabelled=1)
    publish(configured, 2, "c", 0.3, airplane=0.3)
    pulled(configured, "d", "c", 1)
    publish(configured, 3, "d", 0.3, airplane=0.3)
    rows = cells(report(configured, markdown=True))
    #               annotated, added, relabelled
    assert [row[4:7] for row in rows[2:5]] == [["0", "7", "0"], ["5", "6", "1"], ["0", "1", "0"]]
    assert "1 of 3 rounds added" in report(configured)


def test_training_is_the_next_step_when_the_pulled_version_has_no_model(configured: Path) -> None:
    publish(configured, 1, "a", 0.2, airplane=0.2)
    capture(configured, 1, 3)
    pulled(configured, "b", "a", 2, captured=1)
    name_dataset(configured, "a")
    text = report(configured, markdown=True)
    assert "pull request" in next_line(text) and "b" * 12 in next_line(text)
    name_dataset(configured, "b")
    text = report(configured, markdown=True)
    assert cells(text)[3] == ["next", "b" * 12, "3", "0", "1", "2", "0", "", "", "", ""]
    assert "dvc repro" in next_line(text) and "captures push" not in next_line(text)


def test_captures_are_found_when_the_server_had_a_bare_file_of_the_model(configured: Path) -> None:
    """Its folder has the name of the file, and the digest instead of the version."""
    publish(configured, 1, "a", 0.2, airplane=0.2)
    uri = str(configured / "store")
    keep_capture(uri, 0.3, model=ModelName(name="model", sha256=f"{1:064x}"), feedback={"verdict": "missed"})
    keep_capture(uri, 0.3, model=ModelName(name="model", version="7", sha256=f"{1:064x}"))
    keep_capture(uri, 0.3, model=ModelName(name="other", sha256="e" * 64))
    text = report(configured, markdown=True)
    assert cells(text)[3][:4] == ["next", "", "2", "1"]
    assert f"1 captures and 0 feedbacks of models that are not published (other/{'e' * 12})" in text


def test_captures_count_to_the_next_round_when_the_newest_model_did_not_pass(configured: Path) -> None:
    """The server still runs the model before, so what it captures after the second round belongs to the third."""
    publish(configured, 1, "a", 0.5, created="2026-11-20T10:00:00+00:00", airplane=0.5)
    publish(configured, 2, "b", 0.1, created="2026-11-24T10:00:00+00:00", passed=False, airplane=0.1)
    capture(configured, 1, 2, feedback=1)  # on 25 November
    text = report(configured, markdown=True)
    assert [row[2:4] for row in cells(text)[2:5]] == [["0", "0"], ["0", "0"], ["2", "1"]]
    assert "captures push" in next_line(text)
    publish(configured, 3, "c", 0.6, created="2026-11-25T20:00:00+00:00", airplane=0.6)
    assert [row[2:4] for row in cells(report(configured, markdown=True))[4:6]] == [["2", "1"], ["0", "0"]]


def test_classes_may_come_and_go_when_the_list_changes(configured: Path) -> None:
    publish(configured, 1, "a", 0.5, airplane=0.5, glider=0.5)
    publish(configured, 2, "b", 0.6, airplane=0.6, zeppelin=0.6)
    assert cells(report(configured, markdown=True))[7:] == [
        ["airplane", "0.500", "0.600", "+0.100"],
        ["glider", "0.500", "-", ""],
        ["zeppelin", "-", "0.600", ""],
    ]
