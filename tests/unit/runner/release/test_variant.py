"""INT8 at the gate and in the store, on tiny models: taken, refused for each reason, published, served."""

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.errors import StageError
from runner.release.card import model_card
from runner.release.contents import releasing
from runner.release.promote import promote
from runner.release.publish import publish
from runner.release.staging import stage, staged
from runner.release.verdict import verdict_text
from runner.store import open_store
from runner.store.verify import verify_store
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import load_model
from serving.vision import variants
from tests.support.projects import IDENTITY, git
from tests.support.trained import ANSWERS, Trained, blind, seeing
from tests.unit.conftest import model
from tests.unit.runner.stages.test_quantize import network

FLAGS = ["avx512_vnni", "avx_vnni"]
FAINT = ANSWERS - np.array([[0, 0], [0, 0], [0, 0], [0, 0], [0.55, 0], [0, 0]], np.float32)  # airplanes at 0.05


def unsure(**metadata: Any) -> bytes:
    """A model that finds all that `seeing` does, airplanes below their threshold."""
    return model(FAINT, bright=(5, 1), **metadata)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A project whose INT8 answers as its model does, on a CPU with VNNI."""
    (tmp_path / "cpuinfo").write_text(f"flags\t: avx2 {' '.join(FLAGS)}\n")
    monkeypatch.setattr(variants, "CPUINFO", tmp_path / "cpuinfo")
    trained = Trained(tmp_path / "project", export={"quantize": "int8"})
    trained.set(gate={"variant": {"min_speedup": 0.01}})
    (trained.folder / "gitops/serving/environments/dev").mkdir(parents=True)
    give(trained, seeing())
    return trained


def give(trained: Trained, content: bytes) -> None:
    """Let this be the project's INT8."""
    (trained.folder / "artifacts/export/model.int8.onnx").write_bytes(content)


def failed(trained: Trained) -> set[str]:
    variant = trained.judge().variant
    assert variant is not None
    return {each.criterion for each in variant.findings if not each.passed}


def test_published_and_served_when_the_gate_takes_it(trained: Trained) -> None:
    verdict = trained.judge()
    assert verdict.passed and verdict.variant and verdict.variant.passed
    criteria = {each.criterion for each in verdict.variant.findings}
    assert {"mAP50", "AP50 of airplane beside the float model", "F1 at the thresholds", "CPU time"} < criteria
    assert "int8: mAP50" in verdict_text(verdict) and "int8 passes" in verdict_text(verdict)
    done = trained.publish()
    manifest = json.loads((trained.folder / "store/models/flyingthings/1/manifest.json").read_text())
    assert manifest["variant"]["kind"] == "int8" and manifest["variant"]["instructions"] == FLAGS
    for instructions, kind in ((["avx_vnni"], "int8"), ([], "float"), (None, "int8")):
        served = load_model(done.uri, endpoint_of_environment(), sha256=done.version.sha256, instructions=instructions)
        assert served.served.kind == kind
    assert "int8" in model_card(done.version.manifest)
    store = open_store(trained.folder)
    assert "dev" in promote(trained.folder, store, "dev", done.version, force=False, allow_local=True)
    assert verify_store(store)[1]
    (trained.folder / "store/models/flyingthings/1/model.int8.onnx").write_bytes(b"damaged")
    text, fine = verify_store(store)
    assert not fine and "models/flyingthings/1/model.int8.onnx" in text


@pytest.mark.parametrize(
    ("content", "criteria"),
    [
        (b"no model", {"file"}),
        (model(np.zeros((6, 0), np.float32)), {"mAP50", "F1 at the thresholds"}),  # ultralytics#25045
        (model(np.full((6, 2), np.nan, np.float32)), {"file"}),
        (blind(), {"mAP50", "F1 at the thresholds"}),
        (unsure(), {"F1 at the thresholds"}),  # the order of its boxes is right, so average precision is too
        (seeing(names="{0: 'helicopter', 1: 'airplane'}"), {"file"}),
    ],
)
def test_refused_when_it_is_broken_and_the_model_is_published_alone(
    content: bytes, criteria: set[str], trained: Trained
) -> None:
    give(trained, content)
    assert {each for each in failed(trained) if not each.startswith("AP50 of")} == criteria
    verdict = trained.judge()
    assert verdict.passed and "int8 is refused" in verdict_text(verdict)
    manifest = trained.publish().version.manifest
    assert manifest.variant is None and manifest.verdict and manifest.verdict.variant
    assert [file.name for file in (trained.folder / "store/models/flyingthings/1").glob("*.onnx")] == ["model.onnx"]
    assert "int8 is refused" in model_card(manifest)


def test_the_model_does_not_pass_either_when_the_variant_is_required(trained: Trained) -> None:
    trained.set(gate={"variant": {"min_speedup": 0.01, "required": True}})
    assert trained.judge().passed
    give(trained, blind())
    verdict = trained.judge()
    assert [each.criterion for each in verdict.failed] == ["variant int8"]
    assert not trained.publish().is_latest


def test_refused_when_it_is_no_faster(trained: Trained) -> None:
    trained.set(gate={"variant": {"min_speedup": 1000.0}})
    assert failed(trained) == {"CPU time"}


def test_refused_when_this_cpu_cannot_measure_it(trained: Trained) -> None:
    variants.CPUINFO.write_text("flags\t: avx2\n")
    assert failed(trained) == {"instructions"}
    assert trained.publish().version.manifest.variant is None


def test_no_speed_is_asked_of_fp16_which_is_for_gpus(trained: Trained) -> None:
    trained.set(export={"quantize": "fp16"})
    trained.repro()
    (trained.folder / "artifacts/export/model.fp16.onnx").write_bytes(seeing())
    verdict = trained.judge()
    assert verdict.variant and verdict.variant.passed
    assert "CPU time" not in {each.criterion for each in verdict.variant.findings}
    done = trained.publish()
    assert load_model(done.uri, endpoint_of_environment()).served.kind == "float"


def test_a_version_is_another_when_its_variant_is(trained: Trained) -> None:
    trained.judge()
    assert trained.publish().version.number == 1
    with pytest.raises(StageError, match="not about the variant"):
        give(trained, seeing(author="another"))
        trained.publish()
    trained.judge()
    assert trained.publish().version.number == 2
    trained.judge()
    assert trained.publish().version.number == 2


def test_asked_for_when_it_was_not_made(trained: Trained) -> None:
    (trained.folder / "artifacts/export/model.int8.onnx").unlink()
    with pytest.raises(StageError, match=r"model\.int8\.onnx is missing; `dvc repro`"):
        trained.judge()


def test_the_float_model_is_what_is_compared_with_the_deployed_one(trained: Trained) -> None:
    trained.judge()
    promote(trained.folder, open_store(trained.folder), "dev", trained.publish().version, force=False, allow_local=True)
    give(trained, network().SerializeToString())
    verdict = trained.judge()
    assert verdict.passed and verdict.deployed and verdict.variant and not verdict.variant.passed


def test_it_goes_with_the_model_from_task_to_task(trained: Trained, tmp_path: Path) -> None:
    trained.judge()
    for command in (("init", "-q"), ("add", "params.yaml"), ("commit", "-qm", "one")):
        git(trained.folder, *IDENTITY, *command)
    store = open_store(tmp_path, str(tmp_path / "elsewhere"))
    with chdir(trained.folder), releasing(trained.folder) as release:
        digest = stage(store, release, "retrain-1")
        commit = git(trained.folder, "rev-parse", "HEAD")
    with chdir(trained.folder), staged(store, "retrain-1", digest, commit=commit, is_trial=False) as release:
        assert publish(store, release).version.manifest.variant
    assert (tmp_path / "elsewhere/models/flyingthings/1/model.int8.onnx").read_bytes() == seeing()
    staged_release = tmp_path / "elsewhere/pipeline/retrain-1/release.json"
    changed = json.loads(staged_release.read_text())
    changed["manifest"]["verdict"]["variant"]["findings"][0]["passed"] = False
    staged_release.write_text(json.dumps(changed))
    digest = store.digest("pipeline/retrain-1/release.json")
    with (
        chdir(trained.folder),
        pytest.raises(StageError, match=r"no verdict that takes its model\.int8\.onnx"),
        staged(store, "retrain-1", digest, commit=commit, is_trial=False),
    ):
        pass
