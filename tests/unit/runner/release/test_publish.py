"""publish: once, under a number that is used once; tests/integration has kills and races."""

import hashlib
import json
from pathlib import Path

import pytest

from runner.errors import ObjectError, StoreError
from runner.store import open_store
from runner.store.published import latest
from tests.support.trained import Trained, blind, seeing
from tests.support.trees import read_tree


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """A project that the gate has judged."""
    trained = Trained(tmp_path / "ein Projekt für ü")
    trained.judge()
    return trained


def test_everything_is_there_and_the_manifest_names_it_when_published(trained: Trained) -> None:
    done = trained.publish()
    assert (done.is_new, done.is_latest, done.version.number) == (True, True, 1)
    objects = read_tree(trained.folder / "store")
    run = {"config.yaml", "params.yaml", "dvc.lock", "report.json", "metrics.json", "results.csv", "best.pt"}
    run |= {"trained.txt", "verdict.json", "README.md", "bom.json", "claim.json"}
    expected = {f"runs/flyingthings/1/{name}" for name in run}
    expected |= {f"models/flyingthings/{name}" for name in ("1/model.onnx", "1/manifest.json", "latest.json")}
    assert set(objects) == expected
    manifest = json.loads(objects["models/flyingthings/1/manifest.json"])
    assert manifest["onnx_sha256"] == hashlib.sha256(seeing()).hexdigest()
    assert manifest["classes"] == ["airplane", "helicopter"] and manifest["imgsz"] == 32
    assert manifest["preprocessing"] == {"input_shape": "square", "decoding": "averaged"}  # the model's size is fixed
    assert manifest["head"] == "one_to_many"
    assert manifest["metrics"] == trained.folders.metrics()
    assert manifest["thresholds"]["classes"]["airplane"] == manifest["metrics"]["classes"]["airplane"]["threshold"]
    assert manifest["verdict"] == json.loads(objects["runs/flyingthings/1/verdict.json"])
    assert manifest["params"]["split"]["seed"] == 0 and manifest["libraries"]["onnxruntime"]
    assert set(manifest["files"]) == run - {"README.md", "bom.json", "claim.json"}
    for name, sha256 in manifest["files"].items():
        assert hashlib.sha256(objects[f"runs/flyingthings/1/{name}"]).hexdigest() == sha256
    sha256 = hashlib.sha256(objects["models/flyingthings/1/manifest.json"]).hexdigest()
    assert json.loads(objects["models/flyingthings/latest.json"]) == {"version": 1, "sha256": sha256}


def test_the_version_is_the_same_when_published_again(trained: Trained) -> None:
    trained.publish()
    before = read_tree(trained.folder / "store")
    trained.judge()  # measures other times
    (trained.folder / "artifacts/model/results.csv").write_text("epoch\n2\n")  # trained again, to the same model
    again = trained.publish()
    assert (again.is_new, again.version.number) == (False, 1)
    assert read_tree(trained.folder / "store") == before


def test_the_number_is_another_when_the_verdict_is(trained: Trained) -> None:
    trained.publish()
    trained.set(gate={"min_map50": 1.0, "resamples": 200})
    trained.judge()
    assert trained.publish().version.number == 2


def test_the_latest_stays_when_a_newer_one_did_not_pass(trained: Trained) -> None:
    trained.publish()
    trained.repro(blind())
    trained.set(gate={"min_map50": 0.9})
    trained.judge()
    done = trained.publish()
    assert (done.version.number, done.version.passed, done.is_latest) == (2, False, False)
    assert latest(open_store(trained.folder), "flyingthings") == 1
    signature = "signature: not checked: no public key is configured"
    assert done.as_text() == f"published flyingthings 2 (gate: did not pass; {signature})\n{done.uri}"
    said = {"model": "flyingthings", "version": 2, "uri": done.uri, "sha256": done.version.sha256}
    assert json.loads(done.as_json()) == said | {"passed": False, "latest": False, "new": True}


def test_what_one_run_tried_is_never_the_latest_when_published(trained: Trained) -> None:
    params = trained.folder / "params.yaml"
    committed = params.read_text()
    trained.try_out()
    trained.judge()
    done = trained.publish()
    assert (done.version.number, done.version.passed, done.is_latest) == (1, True, False)
    assert latest(open_store(trained.folder), "flyingthings") is None
    params.write_text(committed)
    trained.judge()
    done = trained.publish()  # the same model, by a commit's own values
    assert (done.version.number, done.is_latest) == (2, True)


def test_a_number_is_not_used_again_when_its_version_was_removed(trained: Trained) -> None:
    trained.publish()
    for file in (trained.folder / "store/models/flyingthings").rglob("*.*"):
        file.unlink()
    trained.repro(blind())
    trained.judge()
    assert trained.publish().version.number == 2
    trained.set(model={"name": "birds"})
    assert trained.publish().version[:2] == ("birds", 1)  # another name counts by itself


def test_refused_when_the_store_holds_something_else_there(trained: Trained) -> None:
    trained.publish()
    folder = trained.folder / "store/models/flyingthings/1"
    (folder / "manifest.json").unlink()
    (folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"models/flyingthings/1/model\.onnx is there already"):
        trained.publish()


@pytest.mark.parametrize(
    ("old", "new"), [('"same"', '"other"'), ('"version": 1', '"version": 2'), ('"manifest"', ""), ("flyingthings", "x")]
)
def test_refused_when_a_claim_is_damaged(trained: Trained, old: str, new: str) -> None:
    trained.publish()
    claim = trained.folder / "store/runs/flyingthings/1/claim.json"
    claim.write_text(claim.read_text().replace(old, new))
    with pytest.raises(ObjectError, match=r"runs/flyingthings/1/claim\.json is damaged"):
        trained.publish()
