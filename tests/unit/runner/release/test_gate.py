"""The gate on real (tiny) models: candidate, deployed model, the pin between them, and every way it can be broken."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from runner.errors import DatasetError, StageError, StoreError
from runner.release.contents import TRAINED, releasing
from runner.release.gate import gate
from runner.release.promote import promote
from runner.release.publish import publish
from runner.release.verdict import verdict_text
from runner.store import open_store
from runner.store.published import read_version
from serving.storage.manifest import Verdict
from tests.support.trained import ANSWERS, BLIND, LEFT, RIGHT, Trained, blind, seeing
from tests.unit.conftest import model


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A project whose dev runs nothing yet."""
    trained = Trained(tmp_path / "ein Projekt für ü")
    (trained.folder / "gitops/serving/environments/dev").mkdir(parents=True)
    monkeypatch.chdir(trained.folder)
    return trained


@pytest.fixture
def deployed(trained: Trained) -> Trained:
    """The same, and dev runs the model that is there."""
    deploy(trained)
    return trained


def deploy(trained: Trained, *, as_before: bool = False) -> None:
    """Let dev run the model; `as_before`: as a version that does not say what it was trained on."""
    trained.judge()
    store = open_store(trained.folder)
    with releasing(trained.folder) as release:
        if as_before:
            del release.files[TRAINED]
        version = publish(store, release).version
    promote(trained.folder, store, "dev", version, force=False, allow_local=True)


def pin_prod(trained: Trained, number: int, model: str = "flyingthings") -> None:
    """Let a person promote a version to prod."""
    (trained.folder / "gitops/serving/environments/prod").mkdir(exist_ok=True)
    store = open_store(trained.folder)
    promote(trained.folder, store, "prod", read_version(store, model, number), force=True, allow_local=True)


def said(verdict: Verdict) -> dict[str, bool]:
    return {each.criterion: each.passed for each in verdict.findings}


def test_only_its_own_quality_counts_when_nothing_is_deployed(trained: Trained) -> None:
    verdict = gate(trained.folder)
    assert (verdict.passed, said(verdict), verdict.deployed) == (True, {"mAP50": True}, None)
    (line,) = verdict.left_out
    assert line.endswith("dev has no model yet")
    assert verdict.findings[0].candidate == trained.folders.metrics()["map50"] == 1.0
    assert Verdict.model_validate_json((trained.folder / ".work/verdict.json").read_bytes()) == verdict


def test_a_no_is_an_answer_when_the_quality_does_not_suffice(
    trained: Trained, run: Callable[..., Any], project: Path
) -> None:
    trained.repro(blind())
    trained.set(gate={"min_map50": 0.9})
    verdict = gate(trained.folder)
    assert (verdict.passed, said(verdict)) == (False, {"mAP50": False})
    text = verdict_text(verdict, markdown=True)
    assert "| mAP50 | 0.500 (8 boxes, 95 %: 0.50-0.50), at least 0.900 is wanted | NO |" in text and text.endswith(
        "\n- does not pass: mAP50"
    )
    for arguments, status in (([], 0), (["--exit-code"], 3)):
        done = run("python", "-m", "runner", "gate", *arguments, cwd=trained.folder, PYTHONPATH=str(project))
        assert (done.returncode, done.stdout.splitlines()[-1]) == (status, "does not pass: mAP50"), done.stderr


def test_everything_is_compared_when_a_model_is_deployed(deployed: Trained) -> None:
    verdict = gate(deployed.folder)
    criteria = ["mAP50", "AP50 of airplane", "AP50 of helicopter", "latency", "size"]
    assert (verdict.passed, list(said(verdict)), verdict.left_out) == (True, criteria, [])
    assert verdict.deployed is not None and (verdict.deployed.model, verdict.deployed.version) == ("flyingthings", 1)
    assert "against flyingthings 1, on 4 test pictures" in verdict_text(verdict)


@pytest.mark.parametrize(
    ("onnx", "rules", "failed"),
    [
        (blind(), {}, "AP50 of helicopter"),
        (seeing(padding="x" * 100_000), {}, "size"),
        (None, {"max_latency": 1e-6}, "latency"),
    ],
)
def test_it_does_not_pass_when_one_criterion_fails(
    deployed: Trained, onnx: bytes | None, rules: dict[str, float], failed: str
) -> None:
    deployed.set(gate=rules)
    deployed.repro(onnx)
    verdict = gate(deployed.folder)
    assert not verdict.passed
    assert [name for name, passed in said(verdict).items() if not passed] == [failed]
    if onnx == blind():
        found = next(each for each in verdict.findings if each.criterion == failed)
        assert (found.candidate, found.deployed) == (0.0, 1.0)


def test_classes_are_matched_by_name_when_their_order_differs_one_went_and_one_came(deployed: Trained) -> None:
    (deployed.folder / "artifacts/dataset/classes.txt").write_text("helicopter\nkite\n")
    for entry in deployed.folders.index:
        entry["labels"] = f"0 {RIGHT}\n"
    deployed.set(gate={"unjudged": ["kite"], "renamed": {"airplane": None}})
    deployed.repro(seeing(names="{0: 'kite', 1: 'helicopter'}"))
    verdict = gate(deployed.folder)
    assert said(verdict) == {"mAP50": True, "AP50 of helicopter": True, "latency": True, "size": True}
    assert [line.partition(":")[0] for line in verdict.left_out] == ["kite", "airplane", "kite"]


def rename(trained: Trained, classes: dict[str, str | None], names: list[str], onnx: bytes) -> None:
    """Let `dataset.classes` map the dataset's names; labels become those of the present classes, as prepare's are."""
    new = [classes.get(name, name) for name in ("airplane", "helicopter")]
    ids = {number: names.index(name) for number, name in enumerate(new) if name is not None}
    (trained.folder / "artifacts/dataset/classes.txt").write_text("".join(f"{name}\n" for name in names))
    for entry in trained.folders.index:
        rows = [line.split(" ", 1) for line in entry["labels"].splitlines()]
        entry["labels"] = "".join(f"{ids[int(own)]} {box}\n" for own, box in rows if int(own) in ids)
    trained.set(dataset={"classes": classes})
    trained.repro(onnx)


@pytest.mark.parametrize(
    ("classes", "names", "failed"),
    [
        ({"helicopter": "rotorcraft"}, ["airplane", "rotorcraft"], "AP50 of rotorcraft"),
        ({"airplane": "aircraft", "helicopter": "aircraft"}, ["aircraft"], "AP50 of aircraft"),
    ],
)
def test_a_loss_is_seen_when_the_class_was_renamed_or_merged(
    deployed: Trained, classes: dict[str, str | None], names: list[str], failed: str
) -> None:
    """The deployed model and the champion, which is another one, know the former names."""
    deployed.repro(seeing(another="one"))
    deploy(deployed)
    answers = BLIND if len(names) == 2 else BLIND[:5]
    called = str(dict(enumerate(names)))
    deployed.set(gate={"min_map50": 0.0})
    rename(
        deployed,
        classes,
        names,
        model(answers, bright=(len(answers) - 1, 1) if len(names) == 2 else None, names=called),
    )
    pin_prod(deployed, 1)
    verdict = gate(deployed.folder)
    assert {each.criterion for each in verdict.failed} == {failed, f"{failed} beside the champion"}
    finding = next(each for each in verdict.findings if each.criterion == failed)
    assert finding.deployed == 1.0 and verdict.left_out == []


def rename_in_dataset(trained: Trained, onnx: bytes) -> None:
    """Let the next version of the dataset call the helicopters rotorcraft."""
    (trained.folder / "artifacts/dataset/classes.txt").write_text("airplane\nrotorcraft\n")
    trained.repro(onnx)


def test_it_does_not_pass_when_a_class_was_renamed_in_the_dataset_and_nobody_says_so(deployed: Trained) -> None:
    rename_in_dataset(deployed, seeing(names="{0: 'airplane', 1: 'rotorcraft'}"))
    (failed,) = gate(deployed.folder).failed
    assert failed.criterion == "names of classes beside the deployed model"
    assert "rotorcraft" in failed.said and "helicopter" in failed.said and "gate.renamed" in failed.said


@pytest.mark.parametrize(("answers", "failed"), [(None, set()), (BLIND, {"AP50 of rotorcraft"})])
def test_a_class_that_was_renamed_in_the_dataset_is_compared_when_gate_renamed_says_so(
    deployed: Trained, answers: Any, failed: set[str]
) -> None:
    names = "{0: 'airplane', 1: 'rotorcraft'}"
    deployed.set(gate={"renamed": {"helicopter": "rotorcraft"}, "min_map50": 0.0})
    rename_in_dataset(deployed, seeing(names=names) if answers is None else model(answers, bright=(5, 1), names=names))
    verdict = gate(deployed.folder)
    assert {each.criterion for each in verdict.failed} == failed and verdict.left_out == []
    assert "AP50 of rotorcraft" in said(verdict)


def test_classes_have_no_new_names_when_the_deployed_model_is_of_another_dataset(deployed: Trained) -> None:
    folders = deployed.folders
    folders.index = [entry for entry in folders.index if entry["image"] in folders.parts["test"]]
    folders.parts["val"] = []
    folders.add("val", "other", f"0 {LEFT}\n1 {RIGHT}\n", brightness=199)
    (deployed.folder / "artifacts/dataset/classes.txt").write_text("gull\ntern\n")
    deployed.repro(seeing(names="{0: 'gull', 1: 'tern'}"))
    verdict = gate(deployed.folder)
    assert verdict.passed and {line.partition(":")[0] for line in verdict.left_out} >= {"gull", "tern"}


def swap_parts(trained: Trained, count: int = 4) -> None:
    """Put pictures of val into test, and as many of test into val."""
    parts = trained.folders.parts
    parts["val"], parts["test"] = (
        parts["test"][:count] + parts["val"][count:],
        parts["val"][:count] + parts["test"][count:],
    )


def test_models_are_compared_on_pictures_that_neither_was_trained_on(deployed: Trained) -> None:
    swap_parts(deployed, 1)
    deployed.repro(blind())
    (finding,) = (each for each in gate(deployed.folder).findings if each.criterion == "AP50 of helicopter")
    assert (finding.candidate, finding.deployed, finding.passed) == (0.0, 1.0, False) and "(3 boxes)" in finding.said


def test_near_duplicates_of_what_a_model_was_trained_on_are_left_out_of_a_comparison(trained: Trained) -> None:
    for name in ("val1", "test1"):
        (entry,) = (each for each in trained.folders.index if each["image"] == f"images/{name}.jpg")
        entry["look"] = "0123456789abcdef" + "00ff" * 8
    trained.repro()
    deploy(trained)
    for near, boxes in (("keep", 3), ("ignore", 4)):
        trained.set(split={"near": near})
        trained.repro()
        found = {each.criterion: each.said for each in gate(trained.folder).findings}
        assert f"({boxes} boxes" in found["AP50 of airplane"]


def test_it_does_not_pass_when_too_few_pictures_are_left_to_compare(deployed: Trained) -> None:
    swap_parts(deployed)
    deployed.set(split={"seed": 1})
    deployed.repro()
    verdict = gate(deployed.folder)
    failed = {f"boxes of {name} beside the deployed model" for name in ("airplane", "helicopter")}
    assert {each.criterion for each in verdict.failed} == failed
    assert "0 of 4 in test" in verdict.failed[0].said and "gate.unjudged" in verdict.failed[0].said
    deployed.set(gate={"unjudged": ["airplane", "helicopter"]})
    verdict = gate(deployed.folder)
    assert verdict.passed and [line.partition(":")[0] for line in verdict.left_out] == ["airplane", "helicopter"]


@pytest.mark.parametrize(
    ("params", "keys"),
    [({"split": {"seed": 1}}, "split.seed"), ({"split": {"group": "^[^_]+", "val": 0.2}}, "split.group, split.val")],
)
def test_classes_are_not_compared_when_nobody_knows_what_the_deployed_model_was_trained_on(
    trained: Trained, params: dict[str, Any], keys: str
) -> None:
    """A version of before trained.txt: only an equal section `split` says that test was test then."""
    deploy(trained, as_before=True)
    assert "AP50 of airplane" in said(gate(trained.folder))
    trained.set(**params)
    trained.repro(blind())
    verdict = gate(trained.folder)
    assert f"({keys})" in verdict.left_out[0]
    assert list(said(verdict)) == ["mAP50", "latency", "size"]


def test_classes_are_not_compared_when_another_dataset_gives_the_parts(trained: Trained) -> None:
    for entry in trained.folders.index:
        entry["part"] = entry["image"].partition("/")[2].rstrip("0123456789.jpg")
    trained.repro()
    deploy(trained, as_before=True)
    assert "AP50 of airplane" in said(gate(trained.folder))
    trained.set(dataset={"url": "store:datasets/birds/0123456789ab.zip", "sha256": "0123456789abcdef" * 4})
    trained.repro()
    verdict = gate(trained.folder)
    (line,) = verdict.left_out
    assert line.startswith("comparison of classes with the deployed model: ")
    assert list(said(verdict)) == ["mAP50", "latency", "size"]


def test_small_losses_do_not_add_up_when_each_is_within_the_margins(trained: Trained) -> None:
    """Each version misses the darkest pictures, a twentieth more than the one before it."""
    for number in range(100):
        trained.folders.add("test", f"more{number}", f"0 {LEFT}\n1 {RIGHT}\n", brightness=number * 2)
    verdicts = []
    for number in range(5):
        answers = ANSWERS.copy()
        answers[5, 1] = -0.04 * number
        trained.repro(model(answers, bright=(5, 1)))
        verdicts.append(gate(trained.folder))
        if not verdicts[-1].passed:
            break
        deploy(trained)
    assert len(verdicts) in (3, 4)
    assert [each.criterion for each in verdicts[-1].failed] == ["AP50 of helicopter beside the champion"]
    champion, deployed = verdicts[-1].champion, verdicts[-1].deployed
    assert champion and deployed and (champion.version, deployed.version) == (1, len(verdicts) - 1)
    assert f"against flyingthings {deployed.version} and the champion flyingthings 1" in verdict_text(verdicts[-1])
    trained.set(gate={"champion": {"since": 2, "reason": "the camera is another one"}})
    verdict = gate(trained.folder)
    assert verdict.passed and (verdict.champion is None or verdict.champion.version == 2)
    assert verdict.left_out[0].endswith("the camera is another one")


def test_the_champion_is_what_a_person_promoted_when_there_is_one(trained: Trained) -> None:
    trained.set(gate={"min_map50": 0.1})
    trained.repro(blind())
    deploy(trained)
    blind_one = read_version(open_store(trained.folder), "flyingthings", 1)
    for onnx in (seeing(), seeing(another="one")):
        trained.repro(onnx)
        deploy(trained)
    assert gate(trained.folder).champion is None  # the best is deployed
    (trained.folder / "gitops/serving/environments/prod").mkdir()
    promote(trained.folder, open_store(trained.folder), "prod", blind_one, force=False, allow_local=True)
    verdict = gate(trained.folder)
    assert verdict.champion is not None and verdict.champion.version == 1 and verdict.passed


def test_the_champion_stays_when_the_model_gets_another_name(deployed: Trained) -> None:
    """Until a reason is given; one that stood there when the champion was made is about others."""
    pin_prod(deployed, 1)
    deployed.set(model={"name": "gliders"})
    deployed.repro(seeing(another="one"))
    verdict = gate(deployed.folder)
    assert verdict.deployed is not None and verdict.deployed.model == "flyingthings"
    deploy(deployed)
    verdict = gate(deployed.folder)
    assert verdict.champion is not None and verdict.champion.model == "flyingthings"
    deployed.set(gate={"champion": {"reason": "another camera"}})
    verdict = gate(deployed.folder)
    assert verdict.champion is None
    (line,) = verdict.left_out
    assert "flyingthings 1" in line and line.endswith("another camera")
    deployed.repro(seeing(another="two"))
    deploy(deployed)
    pin_prod(deployed, 2, "gliders")
    deployed.set(model={"name": "gulls"})
    deployed.repro(seeing(another="three"))
    deploy(deployed)
    verdict = gate(deployed.folder)
    assert verdict.champion is not None and (verdict.champion.model, verdict.champion.version) == ("gliders", 2)


MANIFEST = json.dumps({"name": "flyingthings", "version": 1, "onnx_sha256": "0" * 64, "classes": ["biplane"]})


def manifest(trained: Trained) -> Path:
    return trained.folder / "store/models/flyingthings/1/manifest.json"


def onnx(trained: Trained) -> Path:
    for file in (trained.folder / ".work").rglob("model.onnx"):
        file.unlink()  # else the store's is not needed
    return manifest(trained).with_name("model.onnx")


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (manifest, None, "there is no models/flyingthings/1/manifest.json"),
        (manifest, MANIFEST, "its sha256 is [0-9a-f]{64}, not [0-9a-f]{64} as the pin says"),
        (manifest, "{", "not a manifest"),
        (onnx, None, "there is no models/flyingthings/1/model.onnx"),
        (onnx, "{", "its sha256 is [0-9a-f]{64}, but [0-9a-f]{64} was expected"),
    ],
)
def test_only_its_own_quality_counts_when_the_deployed_model_is_gone(
    deployed: Trained, file: Callable[[Trained], Path], content: str | None, reason: str
) -> None:
    path = file(deployed)
    path.unlink() if content is None else path.write_text(content)
    verdict = gate(deployed.folder)
    assert (list(said(verdict)), verdict.deployed) == (["mAP50"], None)
    (line,) = (each for each in verdict.left_out if not each.startswith("champion: "))
    assert re.match(f"comparison with the deployed model: dev is pinned to .*/manifest.json, .*{reason}", line)


def test_the_deployed_model_is_fetched_again_when_the_copy_here_is_damaged(deployed: Trained) -> None:
    gate(deployed.folder)
    (copy,) = (deployed.folder / ".work/models").rglob("model.onnx")
    copy.write_bytes(b"cut")
    assert "AP50 of airplane" in said(gate(deployed.folder)) and copy.read_bytes() == seeing()


def test_nothing_is_judged_when_the_store_cannot_be_reached(deployed: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable = MagicMock(side_effect=StoreError("s3://things cannot be reached"))
    monkeypatch.setattr("runner.store.folder.FolderStore.read", unreachable)
    (deployed.folder / ".work/verdict.json").unlink()
    with pytest.raises(StoreError, match="s3://things cannot be reached"):
        gate(deployed.folder)
    assert not (deployed.folder / ".work/verdict.json").exists()
    verdict = gate(deployed.folder, alone=True)
    assert (list(said(verdict)), len(verdict.left_out)) == (["mAP50"], 1) and "--alone" in verdict.left_out[0]


def test_refused_when_the_pin_is_damaged(deployed: Trained) -> None:
    pin = f"MODEL_URI=x.onnx\nMODEL_SHA256={'0' * 64}\n"
    (deployed.folder / "gitops/serving/environments/dev/model.env").write_text(pin)
    with pytest.raises(StoreError, match=r"'x\.onnx' names no manifest"):
        gate(deployed.folder)


def test_refused_when_params_model_or_pictures_are_not_those_of_the_run(trained: Trained) -> None:
    trained.folders.onnx.write_bytes(blind())
    with pytest.raises(StageError, match=r"metrics\.json .*1\.0.* 0\.5"):
        gate(trained.folder)
    lost = trained.folders.picture("test0")
    lost.unlink()
    with pytest.raises(DatasetError, match=f"1 pictures .*{lost.name}, and sample gives others"):
        gate(trained.folder)
    trained.folders.onnx.unlink()
    with pytest.raises(StageError, match=r"export/model\.onnx is missing"):
        gate(trained.folder)
    trained.set(train={"epochs": 3}, split={"seed": 4})
    trained.folders.onnx.touch()
    with pytest.raises(StageError, match=r"changed for split, train,"):
        gate(trained.folder)
