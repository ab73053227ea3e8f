"""publish: whole or not at all, once, under a number that is used once. A folder here; tests/integration has S3."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from runner.errors import ObjectError, StoreError
from runner.release.contents import releasing
from runner.release.gate import gate
from runner.release.publish import Published, publish
from runner.store import open_store
from runner.store.published import latest, numbers, read_version
from tests.support.publishers import drive
from tests.support.trained import Trained, blind, seeing


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A project that the gate has judged."""
    trained = Trained(tmp_path / "ein Projekt für ü")
    judge(trained, monkeypatch)
    return trained


def judge(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.folder)
    gate(trained.folder)


def published(trained: Trained) -> Published:
    with releasing(trained.folder) as release:
        return publish(open_store(trained.folder), release)


def stored(trained: Trained) -> dict[str, bytes]:
    folder = trained.folder / "store"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_is_there_and_the_manifest_names_it_when_published(trained: Trained) -> None:
    done = published(trained)
    assert (done.is_new, done.is_latest, done.version.number) == (True, True, 1)
    objects = stored(trained)
    run = {"config.yaml", "params.yaml", "dvc.lock", "report.json", "metrics.json", "results.csv", "best.pt"}
    run |= {"verdict.json", "README.md", "claim.json"}
    expected = {f"runs/flyingthings/1/{name}" for name in run}
    expected |= {f"models/flyingthings/{name}" for name in ("1/model.onnx", "1/manifest.json", "latest.json")}
    assert set(objects) == expected
    manifest = json.loads(objects["models/flyingthings/1/manifest.json"])
    assert manifest["onnx_sha256"] == hashlib.sha256(seeing()).hexdigest()
    assert manifest["classes"] == ["airplane", "helicopter"] and manifest["imgsz"] == 32
    assert manifest["metrics"] == trained.folders.metrics()
    assert manifest["thresholds"]["classes"]["airplane"] == manifest["metrics"]["classes"]["airplane"]["threshold"]
    assert manifest["verdict"] == json.loads(objects["runs/flyingthings/1/verdict.json"])
    assert manifest["params"]["split"]["seed"] == 0 and manifest["libraries"]["onnxruntime"]
    assert set(manifest["files"]) == run - {"README.md", "claim.json"}
    for name, sha256 in manifest["files"].items():
        assert hashlib.sha256(objects[f"runs/flyingthings/1/{name}"]).hexdigest() == sha256
    sha256 = hashlib.sha256(objects["models/flyingthings/1/manifest.json"]).hexdigest()
    assert json.loads(objects["models/flyingthings/latest.json"]) == {"version": 1, "sha256": sha256}


def test_the_version_is_the_same_when_published_again(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    published(trained)
    before = stored(trained)
    judge(trained, monkeypatch)  # measures other times
    (trained.folder / "artifacts/model/results.csv").write_text(
        "epoch,time\n1,3.2\n"
    )  # trained again, to the same model
    again = published(trained)
    assert (again.is_new, again.version.number) == (False, 1)
    assert stored(trained) == before


def test_the_number_is_another_when_the_verdict_is(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    published(trained)
    trained.set(gate={"min_map50": 1.0, "resamples": 200})
    judge(trained, monkeypatch)
    assert published(trained).version.number == 2


def test_the_latest_stays_when_a_newer_one_did_not_pass(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    published(trained)
    trained.repro(blind())
    trained.set(gate={"min_map50": 0.9})
    judge(trained, monkeypatch)
    done = published(trained)
    assert (done.version.number, done.version.passed, done.is_latest) == (2, False, False)
    assert latest(open_store(trained.folder), "flyingthings") == 1
    assert "published flyingthings 2 (did not pass the gate)" in done.as_text()
    assert json.loads(done.as_json()) | {"sha256": ""} == {
        **{"model": "flyingthings", "version": 2, "uri": done.uri, "sha256": ""},
        **{"passed": False, "latest": False, "new": True},
    }


def test_what_one_run_tried_is_never_the_latest_when_published(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = trained.folder / "params.yaml"
    committed = params.read_text()
    trained.try_out()
    judge(trained, monkeypatch)
    done = published(trained)
    assert (done.version.number, done.version.passed, done.is_latest) == (1, True, False)
    assert latest(open_store(trained.folder), "flyingthings") is None
    params.write_text(committed)
    judge(trained, monkeypatch)
    done = published(trained)  # the same model, by a commit's own values
    assert (done.version.number, done.is_latest) == (2, True)


def test_a_number_is_not_used_again_when_its_version_was_removed(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(trained)
    for file in (trained.folder / "store/models/flyingthings").rglob("*.*"):
        file.unlink()
    trained.repro(blind())
    judge(trained, monkeypatch)
    assert published(trained).version.number == 2


def test_another_name_counts_by_itself_when_the_model_is_renamed(trained: Trained) -> None:
    published(trained)
    trained.set(model={"name": "birds"})
    assert published(trained).version[:2] == ("birds", 1)


def test_refused_when_the_store_holds_something_else_there(trained: Trained) -> None:
    number = published(trained).version.number
    (trained.folder / "store/models/flyingthings/1/manifest.json").unlink()
    (trained.folder / "store/models/flyingthings/1/model.onnx").write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"models/flyingthings/1/model\.onnx is there already, with other content"):
        published(trained)
    assert number == 1


def test_refused_when_a_claim_is_damaged(trained: Trained) -> None:
    claim = trained.folder / "store/runs/flyingthings/1/claim.json"
    claim.parent.mkdir(parents=True)
    claim.write_text('{"same": {}, "manifest"')
    with pytest.raises(ObjectError, match=r"runs/flyingthings/1/claim\.json is damaged .*expected a claim; remove it"):
        published(trained)


def test_one_version_comes_of_it_when_killed_after_any_operation(trained: Trained) -> None:
    rounds = drive("kill", "operations", trained.folder)
    assert len(rounds) > 15
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    assert rounds[-1]["status"] == 0
    for each in rounds:
        first, then, again = each["seen"]
        assert first["problems"] == then["problems"] == []
        assert then == again == {"versions": [1], "used": [1], "latest": 1, "problems": []}


def test_one_version_comes_of_it_when_two_publish_the_same(trained: Trained) -> None:
    for each in drive("race", "8", *[trained.folder] * 3):
        assert each["statuses"] == [0, 0, 0]
        assert each["seen"] == {"versions": [1], "used": [1], "latest": 1, "problems": []}


def test_each_gets_a_number_when_two_publish_at_once(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Trained(tmp_path / "other", blind(), gate={"min_map50": 0.1, "min_boxes": 1})
    judge(other, monkeypatch)
    monkeypatch.setenv("STORE_URI", str(tmp_path / "store"))
    for each in drive("race", "8", trained.folder, other.folder):
        assert each["statuses"] == [0, 0]
        assert each["seen"] == {"versions": [1, 2], "used": [1, 2], "latest": 2, "problems": []}
    assert numbers(open_store(tmp_path), "race-0") == [1, 2]
    assert read_version(open_store(tmp_path), "race-0", 2).passed


def test_a_commits_model_is_the_latest_when_a_trial_publishes_the_same_at_once(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trained(tmp_path / "trial")
    trial.try_out()
    judge(trial, monkeypatch)
    monkeypatch.setenv("STORE_URI", str(tmp_path / "store"))
    for turn, each in enumerate(drive("race", "8", trained.folder, trial.folder)):
        assert (each["statuses"], each["seen"]["versions"], each["seen"]["problems"]) == ([0, 0], [1, 2], [])
        versions = [read_version(open_store(tmp_path), f"race-{turn}", number) for number in (1, 2)]
        assert [each["seen"]["latest"]] == [version.number for version in versions if version.may_be_latest]
