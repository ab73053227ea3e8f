"""Rounds on one test part, with real (tiny) models: one that finds one class, then one that finds both."""

import re
from pathlib import Path

import pytest

from runner.config.compose import compose
from runner.errors import StageError
from runner.label_studio.rescored import rescore
from runner.release.contents import releasing
from runner.release.publish import publish
from runner.store import open_store
from runner.store.published import Version
from tests.support.trained import Trained, blind, seeing


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    trained = Trained(tmp_path / "ein Projekt für ü")
    monkeypatch.chdir(trained.folder)
    return trained


def published(trained: Trained, onnx: bytes) -> Version:
    trained.repro(onnx)
    trained.judge()
    with releasing(trained.folder) as release:
        return publish(open_store(trained.folder), release).version


def test_the_round_that_improved_a_class_is_named(trained: Trained) -> None:
    models = [published(trained, onnx) for onnx in (blind(), seeing(), seeing(padding="x"))]
    config, _ = compose(trained.folder)
    store = open_store(trained.folder)
    text, points = rescore(trained.folder, config, store, models)
    assert [value for value, _, _ in filter(None, points["helicopter"])] == [0, 1, 1]
    assert "round 2 improved all classes, helicopter" in text
    assert "round 3 changed nothing" in text
    (changes,) = (line for line in text.split("Change since")[1].splitlines() if line.strip().startswith("helicopter"))
    assert "+1.000 (+1.00 to +1.00)" in changes and "+0.000" in changes
    for file in (trained.folder / ".work/models").rglob("model.onnx"):
        file.unlink()
    assert rescore(trained.folder, config, store, models).text == text
    assert not list((trained.folder / ".work/models").rglob("model.onnx"))  # what each model found is kept


def test_the_test_part_is_asked_for_when_there_is_none(trained: Trained) -> None:
    model = published(trained, seeing())
    (trained.folder / "artifacts/split/test.txt").unlink()
    with pytest.raises(StageError, match="dvc repro"):
        rescore(trained.folder, compose(trained.folder)[0], open_store(trained.folder), [model])


def test_a_round_is_a_gap_when_its_model_is_gone(trained: Trained) -> None:
    models = [published(trained, onnx) for onnx in (blind(), seeing(), seeing(padding="x"))]
    config, _ = compose(trained.folder)
    store = open_store(trained.folder)
    work = trained.folder / ".work"
    for folder in (work / "models", work / "gate", trained.folder / "store/models/flyingthings/2"):
        for file in [*folder.rglob("*.onnx"), *folder.rglob("*.json")]:
            file.unlink()
    text, points = rescore(trained.folder, config, store, models)
    assert [point and point[0] for point in points["helicopter"]] == [0, None, 1]
    said = [line for line in text.splitlines() if re.match(r"round \d", line)]
    assert [line.partition(":")[0] for line in said] == ["round 2 is not measured"]
