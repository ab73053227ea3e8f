import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.loading import Loader, load
from serving.settings import Settings
from serving.storage.model import LoadingError

NOTHING = np.zeros((6, 0), np.float32)
Model = Callable[..., bytes]


@pytest.fixture
def published(tmp_path: Path, tiny_model: Model) -> Callable[..., Path]:
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


def test_named_after_its_file_when_bare(tmp_path: Path, tiny_model: Model) -> None:
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
    tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.loading._FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr("serving.loading._LAST_DELAY_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    path = tmp_path / "a.onnx"
    loader = Loader(Settings(model_uri=str(path)), lambda _: None)
    loader.start()
    time.sleep(0.2)
    assert loader.model is None
    assert str(path) in loader.problem
    path.with_suffix(".part").write_bytes(tiny_model(NOTHING))
    path.with_suffix(".part").rename(path)
    loader._thread.join(60)
    assert loader.model is not None
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]  # one line, though tried often
