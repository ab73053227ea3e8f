import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.decoding.budget import MemoryBudget
from serving.inference.loading import Loader, load
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.storage.model import LoadingError, Model
from tests.support.processes import until

NOTHING = np.zeros((6, 0), np.float32)
Make = Callable[..., bytes]
AMPLE = 1_000_000_000


@pytest.fixture
def published(tmp_path: Path, tiny_model: Make) -> Callable[..., Path]:
    """Writes a model and its manifest, with changes; returns the manifest's path."""

    def publish(**changes: Any) -> Path:
        data = tiny_model(NOTHING)
        (tmp_path / "model.onnx").write_bytes(data)
        manifest = {
            "name": "flying things",
            "version": 3,
            "onnx_sha256": hashlib.sha256(data).hexdigest(),
            "classes": ["airplane", "helicopter"],
            "imgsz": 32,
            "thresholds": {"overall": 0.4, "classes": {"helicopter": 0.6}},
            "metrics": {"map50": 0.9},
            "commit": "abc",
            "later": "keys that are not known yet",
        } | changes
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(manifest))
        return path

    return publish


def test_named_and_thresholds_known_when_published(published: Callable[..., Path]) -> None:
    path = published()
    model = load(Settings(model_uri=str(path), model_sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    assert (model.name.name, model.name.version, model.name.commit) == ("flying things", "3", "abc")
    assert list(model.thresholds) == [0.4, 0.6]
    assert model.manifest is not None
    assert model.manifest.model_dump()["later"] == "keys that are not known yet"


def test_named_after_its_file_when_bare(tmp_path: Path, tiny_model: Make) -> None:
    path = tmp_path / "yolo11n.onnx"
    path.write_bytes(tiny_model(NOTHING))
    model = load(Settings(model_uri=str(path), model_version="7"))
    assert (model.name.name, model.name.version, model.manifest) == ("yolo11n", "7", None)
    assert list(model.thresholds) == [0.25, 0.25]


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, {"model_uri": None}, "MODEL_URI"),
        ({}, {"model_sha256": "1" * 64}, "expected 1111.* MODEL_SHA256"),
        ({"onnx_sha256": "0" * 64}, {}, "sha256 is .*; expected 0000.* onnx_sha256 of .*manifest.json"),
        ({"onnx_sha256": None}, {}, "manifest.json: onnx_sha256: "),
        ({"classes": ["helicopter", "airplane"]}, {}, "classes are .*helicopter.*but model.onnx has .*airplane"),
        ({"thresholds": {"overall": 2}}, {}, "thresholds.overall"),
    ],
)
def test_refused_when_the_manifest_disagrees(
    changes: dict[str, Any], settings: dict[str, Any], message: str, published: Callable[..., Path]
) -> None:
    with pytest.raises(LoadingError, match=message):
        load(Settings(**{"model_uri": str(published(**changes)), **settings}))


def test_loaded_later_when_it_comes_later(
    tmp_path: Path, tiny_model: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.inference.loading._FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr("serving.inference.loading._LAST_DELAY_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    path = tmp_path / "a.onnx"
    loaded: list[Model] = []
    loader = Loader(Settings(model_uri=str(path)), loaded.append, MemoryBudget(0), Metrics())
    loader.start()
    time.sleep(0.2)
    assert not loaded
    assert str(path) in str(loader.problem)
    path.with_suffix(".part").write_bytes(tiny_model(NOTHING))
    path.with_suffix(".part").rename(path)
    loader._thread.join(60)
    assert loaded and loader.problem is None
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]  # one line, though tried often


@pytest.mark.parametrize(
    ("latest", "settings", "message"),
    [
        (None, {}, "latest.json: cannot be read"),
        ("{", {}, "latest.json: text: "),
        ('{"version": "../7", "sha256": "%s"}', {}, "latest.json: version: "),
        ('{"version": 7, "sha256": "%.9s"}', {}, "latest.json: sha256: "),
        ('{"version": 7, "sha256": "%s"}', {"model_sha256": "1" * 64}, "latest.json: its sha256 is .* MODEL_SHA256"),
        ('{"version": 7, "sha256": "1%.63s"}', {}, "7/manifest.json: its sha256 is "),
        ('{"version": 8, "sha256": "%s"}', {}, "8/manifest.json: cannot be read"),
        ('{"version": 7, "sha256": "%s"}', {}, ""),
    ],
)
def test_refused_when_latest_is_wrong(
    latest: str | None, settings: dict[str, Any], message: str, published: Callable[..., Path], tmp_path: Path
) -> None:
    path = published()
    for file in (path, path.with_name("model.onnx")):
        (tmp_path / "7").mkdir(exist_ok=True)
        file.rename(tmp_path / "7" / file.name)
    digest = hashlib.sha256((tmp_path / "7/manifest.json").read_bytes()).hexdigest()
    if latest is not None:
        (tmp_path / "latest.json").write_text(latest % digest if "%" in latest else latest)
    wanted = Settings(model_uri=str(tmp_path / "latest.json"), model_reload_seconds=1, **settings)
    if not message:
        assert load(wanted).name.version == "3"
    else:
        with pytest.raises(LoadingError, match=message):
            load(wanted)


def test_refused_when_a_pinned_version_should_be_loaded_again(published: Callable[..., Path]) -> None:
    with pytest.raises(LoadingError, match=r"MODEL_RELOAD_SECONDS.*expected a latest\.json"):
        load(Settings(model_uri=str(published()), model_reload_seconds=1))


@pytest.mark.parametrize(("memory", "versions"), [(AMPLE, [1, 2]), (1_000_000, [1])])
def test_memory_charged_while_two_models_live(
    memory: int, versions: list[int], published: Callable[..., Path], tmp_path: Path
) -> None:
    def publish(version: int) -> None:
        folder = tmp_path / "models" / str(version)
        folder.mkdir(parents=True)
        path = published(version=version)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        for file in (path, path.with_name("model.onnx")):
            file.rename(folder / file.name)
        (tmp_path / "latest.part").write_text(json.dumps({"version": version, "sha256": sha256}))
        (tmp_path / "latest.part").rename(tmp_path / "models/latest.json")

    loaded: list[Model] = []
    budget = MemoryBudget(memory)
    settings = Settings(model_uri=str(tmp_path / "models/latest.json"), model_reload_seconds=0.01)
    loader = Loader(settings, loaded.append, budget, Metrics())
    publish(1)
    loader.start()
    until(lambda: loaded)
    publish(2)
    until(lambda: loader.problem or len(loaded) == 2)
    assert [model.manifest and model.manifest.version for model in loaded] == versions
    assert ("DECODE_MEMORY_BYTES" in str(loader.problem)) == (len(versions) == 1)
    assert (budget.held > 0) == (len(versions) == 2)  # as long as somebody uses the old one
    loaded.clear()
    until(lambda: budget.held == 0)
    loader.stop()
    loader._thread.join(60)
