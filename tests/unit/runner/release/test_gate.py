"""The gate on real (tiny) models: candidate, deployed model, the pin between them, and every way it can be broken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConfigError, DatasetError, StageError, StoreError
from runner.release.contents import releasing
from runner.release.gate import gate
from runner.release.promote import choose, promote
from runner.release.publish import publish
from runner.release.verdict import Verdict
from runner.store import open_store
from tests.support.trained import LEFT, Trained, blind, seeing


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A project whose dev runs nothing yet."""
    trained = Trained(tmp_path / "ein Projekt für ü")
    (trained.folder / "gitops/serving/overlays/dev").mkdir(parents=True)
    monkeypatch.chdir(trained.folder)
    return trained


@pytest.fixture
def deployed(trained: Trained) -> Trained:
    """The same, and dev runs the model that is there."""
    deploy(trained)
    return trained


def deploy(trained: Trained) -> None:
    gate(trained.folder)
    store = open_store(trained.folder)
    with releasing(trained.folder) as release:
        publish(store, release)
    version = choose(trained.folder, store, "dev", None, None)
    promote(trained.folder, store, "dev", version, force=False, allow_local=True)


def said(verdict: Verdict) -> dict[str, bool]:
    return {each.criterion: each.passed for each in verdict.findings}


def test_only_its_own_quality_counts_when_nothing_is_deployed(trained: Trained) -> None:
    verdict = gate(trained.folder)
    assert (verdict.passed, said(verdict), verdict.deployed) == (True, {"mAP50": True}, None)
    assert verdict.left_out == ["comparison with the deployed model: dev has no model yet"]
    assert verdict.findings[0].candidate == trained.folders.metrics()["map50"] == 1.0
    assert Verdict.model_validate_json((trained.folder / ".work/verdict.json").read_bytes()) == verdict


def test_a_no_is_an_answer_when_the_quality_does_not_suffice(trained: Trained) -> None:
    trained.repro(blind())
    trained.set(gate={"min_map50": 0.9})
    verdict = gate(trained.folder)
    assert (verdict.passed, said(verdict)) == (False, {"mAP50": False})
    text = verdict.as_text()
    assert "mAP50      0.500, at least 0.900 is wanted  NO" in text
    assert text.splitlines()[-1] == "does not pass: mAP50"
    markdown = verdict.as_text(markdown=True)
    assert "| mAP50 | 0.500, at least 0.900 is wanted | NO |" in markdown and "\n- does not pass: mAP50" in markdown


def test_everything_is_compared_when_a_model_is_deployed(deployed: Trained) -> None:
    verdict = gate(deployed.folder)
    criteria = ["mAP50", "AP50 of airplane", "AP50 of helicopter", "latency", "size"]
    assert (verdict.passed, list(said(verdict)), verdict.left_out) == (True, criteria, [])
    assert verdict.deployed is not None and (verdict.deployed.model, verdict.deployed.version) == ("flyingthings", 1)
    assert "against flyingthings 1, on 4 test pictures" in verdict.as_text()


def test_it_does_not_pass_when_one_class_is_lost(deployed: Trained) -> None:
    deployed.repro(blind())
    verdict = gate(deployed.folder)
    assert not verdict.passed
    assert said(verdict) | {"latency": True} == {
        **{"mAP50": True, "AP50 of airplane": True, "AP50 of helicopter": False},
        **{"latency": True, "size": True},
    }
    found = next(each for each in verdict.findings if each.criterion == "AP50 of helicopter")
    assert (found.candidate, found.deployed) == (0.0, 1.0)


def test_it_does_not_pass_when_it_is_too_large(deployed: Trained) -> None:
    deployed.repro(seeing(padding="x" * 100_000))
    assert said(gate(deployed.folder))["size"] is False


def test_it_does_not_pass_when_it_is_too_slow(deployed: Trained) -> None:
    deployed.set(gate={"max_latency": 1e-6})
    assert said(gate(deployed.folder))["latency"] is False


def test_classes_are_matched_by_name_when_their_order_differs(deployed: Trained) -> None:
    dataset = deployed.folder / "artifacts/dataset"
    (dataset / "classes.txt").write_text("helicopter\nairplane\nkite\n")
    for file in (dataset / "labels").iterdir():
        file.write_text("".join(f"{1 - int(line[0])}{line[1:]}\n" for line in file.read_text().splitlines()))
    deployed.repro(seeing(names="{0: 'airplane', 1: 'helicopter', 2: 'kite'}", classes=3))
    verdict = gate(deployed.folder)
    assert said(verdict) == {
        **{"mAP50": True, "AP50 of helicopter": True, "AP50 of airplane": True},
        **{"latency": True, "size": True},
    }
    assert verdict.left_out == ["kite: the deployed model does not know this class"]


def test_a_class_that_went_is_said_when_the_deployed_model_knows_it(deployed: Trained) -> None:
    (deployed.folder / "artifacts/dataset/classes.txt").write_text("airplane\n")
    for file in (deployed.folder / "artifacts/dataset/labels").iterdir():
        file.write_text(f"0 {LEFT}\n")
    deployed.repro(seeing(names="{0: 'airplane'}", classes=1))
    verdict = gate(deployed.folder)
    assert list(said(verdict)) == ["mAP50", "AP50 of airplane", "latency", "size"]
    assert verdict.left_out == ["helicopter: the deployed model knows this class, the dataset does not"]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"split": {"seed": 1}}, r"the pictures were dealt anew (split.seed), and the deployed model may know what is"),
        ({"split": {"group": "^[^_]+", "val": 0.2}}, "the pictures were dealt anew (split.group, split.val), and the"),
    ],
)
def test_classes_are_not_compared_when_the_pictures_were_dealt_anew(
    deployed: Trained, params: dict[str, Any], reason: str
) -> None:
    deployed.set(**params)
    deployed.repro(blind())
    verdict = gate(deployed.folder)
    assert verdict.left_out[0].startswith(f"comparison of classes: {reason}")
    assert list(said(verdict)) == ["mAP50", "latency", "size"]


def test_classes_are_not_compared_when_another_dataset_gives_the_parts(deployed: Trained) -> None:
    deployed.set(split={"mode": "given"})
    deployed.repro(seeing(another="one"))
    deploy(deployed)
    assert "AP50 of airplane" in said(gate(deployed.folder))
    url = {"name": "birds", "url": "store:datasets/birds/0123456789ab.zip", "sha256": "0123456789abcdef" * 4}
    deployed.set(dataset=url)
    deployed.repro()
    verdict = gate(deployed.folder)
    (line,) = verdict.left_out
    assert line.startswith("comparison of classes: the dataset gives the parts and is another one, and the deployed")


def manifest(trained: Trained) -> Path:
    return trained.folder / "store/models/flyingthings/1/manifest.json"


def remove_manifest(trained: Trained) -> None:
    manifest(trained).unlink()


def change_manifest(trained: Trained) -> None:
    manifest(trained).write_text(manifest(trained).read_text().replace("airplane", "biplane"))


def break_manifest(trained: Trained) -> None:
    manifest(trained).write_text("{")


def remove_model(trained: Trained) -> None:
    manifest(trained).with_name("model.onnx").unlink()
    forget(trained)


def change_model(trained: Trained) -> None:
    manifest(trained).with_name("model.onnx").write_bytes(blind())
    forget(trained)


def forget(trained: Trained) -> None:
    for file in (trained.folder / ".work").rglob("model.onnx"):
        file.unlink()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (remove_manifest, "which cannot be used: .*there is no models/flyingthings/1/manifest.json"),
        (change_manifest, "whose sha256 is [0-9a-f]{64}, not [0-9a-f]{64} as the pin says"),
        (break_manifest, "which cannot be used: .*not a manifest"),
        (remove_model, "which cannot be used: .*there is no models/flyingthings/1/model.onnx"),
        (change_model, "which cannot be used: .*its sha256 is [0-9a-f]{64}, but [0-9a-f]{64} was expected"),
    ],
)
def test_only_its_own_quality_counts_when_the_deployed_model_is_gone(
    deployed: Trained, harm: Callable[[Trained], None], reason: str
) -> None:
    harm(deployed)
    verdict = gate(deployed.folder)
    assert (list(said(verdict)), verdict.deployed) == (["mAP50"], None)
    (line,) = verdict.left_out
    assert re.match(f"comparison with the deployed model: dev is pinned to .*/manifest.json, {reason}", line)


def test_nothing_is_judged_when_the_store_cannot_be_reached(deployed: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> bytes:
        raise StoreError("s3://things cannot be reached")

    monkeypatch.setattr("runner.store.folder.FolderStore.read", unreachable)
    (deployed.folder / ".work/verdict.json").unlink()
    with pytest.raises(StoreError, match="s3://things cannot be reached"):
        gate(deployed.folder)
    assert not (deployed.folder / ".work/verdict.json").exists()
    assert gate(deployed.folder, alone=True).left_out == [
        "comparison with the deployed model: it was not asked for (--alone)"
    ]


def test_refused_when_the_pin_is_damaged(deployed: Trained) -> None:
    (deployed.folder / "gitops/serving/overlays/dev/model.env").write_text("MODEL_URI=x.onnx\nMODEL_SHA256=" + "0" * 64)
    with pytest.raises(StoreError, match=r"'x\.onnx' names no manifest, expected <store>/models/<model>/<n>/manifest"):
        gate(deployed.folder)


def test_refused_when_there_is_no_model(trained: Trained) -> None:
    trained.folders.onnx.unlink()
    with pytest.raises(StageError, match=r"export/model\.onnx is missing; `dvc repro` makes it, `dvc pull` fetches it"):
        gate(trained.folder)


def test_refused_when_params_changed_since(trained: Trained) -> None:
    trained.set(train={"epochs": 3}, split={"seed": 4})
    with pytest.raises(StageError, match=r"artifacts: made before .* changed for split, train, .* run `dvc repro`"):
        gate(trained.folder)
    trained.set(train={"epochs": 0})
    with pytest.raises(ConfigError, match=r"params\.yaml: train\.epochs: found 0"):
        gate(trained.folder)


def test_refused_when_the_metrics_are_of_another_model(trained: Trained) -> None:
    trained.folders.onnx.write_bytes(blind())
    with pytest.raises(StageError, match=r"metrics\.json says mAP50 1\.0, but .* shows 0\.5: it is about another"):
        gate(trained.folder)


def test_refused_when_a_test_picture_is_gone(trained: Trained) -> None:
    (trained.folder / "artifacts/raw/images/test0.png").unlink()
    with pytest.raises(DatasetError, match=r"test0\.png"):
        gate(trained.folder)


def test_the_exit_status_says_it_when_a_script_asks(trained: Trained, run: Callable[..., Any], project: Path) -> None:
    trained.set(gate={"min_map50": 1.0})
    trained.repro(blind())
    for arguments, status in (([], 0), (["--exit-code"], 3)):
        done = run("python", "-m", "runner", "gate", *arguments, cwd=trained.folder, PYTHONPATH=str(project))
        assert (done.returncode, done.stdout.splitlines()[-1]) == (status, "does not pass: mAP50"), done.stderr
    assert json.loads((trained.folder / ".work/verdict.json").read_text())["passed"] is False
