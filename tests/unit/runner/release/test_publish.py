"""publish: once, under a number that is used once; tests/integration has kills and races."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import ObjectError, StoreError
from runner.release.contents import releasing
from runner.release.gate import gate
from runner.release.publish import PublishResult, publish
from runner.store import open_store
from runner.store.published import latest
from tests.support.trained import Trained, blind, seeing

Judge = Callable[[Trained], Trained]


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Enters a project and lets the gate judge it."""

    def judge(trained: Trained) -> Trained:
        monkeypatch.chdir(trained.folder)
        gate(trained.folder)
        return trained

    return judge


@pytest.fixture
def trained(tmp_path: Path, judge: Judge) -> Trained:
    """A project that the gate has judged."""
    return judge(Trained(tmp_path / "ein Projekt für ü"))


def published(trained: Trained) -> PublishResult:
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


def test_the_version_is_the_same_when_published_again(trained: Trained, judge: Judge) -> None:
    published(trained)
    before = stored(trained)
    judge(trained)  # measures other times
    (trained.folder / "artifacts/model/results.csv").write_text("epoch\n2\n")  # trained again, to the same model
    again = published(trained)
    assert (again.is_new, again.version.number) == (False, 1)
    assert stored(trained) == before


def test_the_number_is_another_when_the_verdict_is(trained: Trained, judge: Judge) -> None:
    published(trained)
    trained.set(gate={"min_map50": 1.0, "resamples": 200})
    judge(trained)
    assert published(trained).version.number == 2


def test_the_latest_stays_when_a_newer_one_did_not_pass(trained: Trained, judge: Judge) -> None:
    published(trained)
    trained.repro(blind())
    trained.set(gate={"min_map50": 0.9})
    judge(trained)
    done = published(trained)
    assert (done.version.number, done.version.passed, done.is_latest) == (2, False, False)
    assert latest(open_store(trained.folder), "flyingthings") == 1
    assert done.as_text() == f"published flyingthings 2 (gate: did not pass)\n{done.uri}"
    said = {"model": "flyingthings", "version": 2, "uri": done.uri, "sha256": done.version.sha256}
    assert json.loads(done.as_json()) == said | {"passed": False, "latest": False, "new": True}


def test_what_one_run_tried_is_never_the_latest_when_published(trained: Trained, judge: Judge) -> None:
    params = trained.folder / "params.yaml"
    committed = params.read_text()
    trained.try_out()
    judge(trained)
    done = published(trained)
    assert (done.version.number, done.version.passed, done.is_latest) == (1, True, False)
    assert latest(open_store(trained.folder), "flyingthings") is None
    params.write_text(committed)
    judge(trained)
    done = published(trained)  # the same model, by a commit's own values
    assert (done.version.number, done.is_latest) == (2, True)


def test_a_number_is_not_used_again_when_its_version_was_removed(trained: Trained, judge: Judge) -> None:
    published(trained)
    for file in (trained.folder / "store/models/flyingthings").rglob("*.*"):
        file.unlink()
    trained.repro(blind())
    judge(trained)
    assert published(trained).version.number == 2
    trained.set(model={"name": "birds"})
    assert published(trained).version[:2] == ("birds", 1)  # another name counts by itself


def test_refused_when_the_store_holds_something_else_there(trained: Trained) -> None:
    published(trained)
    folder = trained.folder / "store/models/flyingthings/1"
    (folder / "manifest.json").unlink()
    (folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"models/flyingthings/1/model\.onnx is there already"):
        published(trained)


@pytest.mark.parametrize(
    ("old", "new"), [('"same"', '"other"'), ('"version": 1', '"version": 2'), ('"manifest"', ""), ("flyingthings", "x")]
)
def test_refused_when_a_claim_is_damaged(trained: Trained, old: str, new: str) -> None:
    published(trained)
    claim = trained.folder / "store/runs/flyingthings/1/claim.json"
    claim.write_text(claim.read_text().replace(old, new))
    with pytest.raises(ObjectError, match=r"runs/flyingthings/1/claim\.json is damaged"):
        published(trained)
