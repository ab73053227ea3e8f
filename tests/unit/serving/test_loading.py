"""Models come to serve, or it is said why not."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.loading import Loader, folder_of, load
from serving.settings import Settings
from serving.storage.detections import ModelName
from serving.storage.model import LoadingError

NOTHING = np.zeros((6, 0), np.float32)
Model = Callable[..., bytes]


@pytest.fixture
def published(tmp_path: Path, tiny_model: Model) -> Callable[..., Path]:
    """Writes a model and its manifest, with changes; the manifest's path."""

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


def settings(path: Path | str | None, **others: Any) -> Settings:
    return Settings(model_uri=None if path is None else str(path), **others)


def test_refused_when_no_model_is_named() -> None:
    with pytest.raises(LoadingError, match="MODEL_URI is not set"):
        load(settings(None))


def test_named_and_thresholds_known_when_published(published: Callable[..., Path]) -> None:
    path = published()
    model = load(settings(path, model_sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    assert (model.name.name, model.name.version, model.name.commit) == ("flying things", "3", "abc")
    assert list(model.thresholds) == [0.4, 0.6]
    assert model.manifest is not None
    assert model.manifest.model_dump()["later"] == "keys that are not known yet"


def test_named_after_its_file_when_bare(tmp_path: Path, tiny_model: Model) -> None:
    path = tmp_path / "yolo11n.onnx"
    path.write_bytes(tiny_model(NOTHING))
    model = load(settings(path, model_version="7"))
    assert (model.name.name, model.name.version, model.manifest) == ("yolo11n", "7", None)
    assert list(model.thresholds) == [0.25, 0.25]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onnx_sha256": "0" * 64}, "its sha256 is .*; expected 0000.*, as onnx_sha256 of .*manifest.json says"),
        ({"onnx_sha256": None}, "onnx_sha256: .*expected a manifest as `publish` writes it"),
        ({"classes": ["helicopter", "airplane"]}, "classes are .* but model.onnx has"),
        ({"thresholds": {"overall": 2}}, "thresholds.overall"),
    ],
)
def test_refused_when_the_manifest_disagrees(
    changes: dict[str, Any], message: str, published: Callable[..., Path]
) -> None:
    with pytest.raises(LoadingError, match=message):
        load(settings(published(**changes)))


def test_refused_when_the_digest_is_another(published: Callable[..., Path]) -> None:
    with pytest.raises(LoadingError, match=r"expected 1111.*, as MODEL_SHA256 says"):
        load(settings(published(), model_sha256="1" * 64))


@pytest.mark.parametrize("metadata", [{"task": "segment"}, {"names": "?"}, {"stride": ""}, {"imgsz": "[]"}])
def test_refused_when_not_what_ultralytics_exports(metadata: dict[str, str], tmp_path: Path, tiny_model: Model) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(tiny_model(NOTHING, **metadata))
    with pytest.raises(LoadingError, match=f"{next(iter(metadata))} "):
        load(settings(path))


def test_loaded_later_when_it_comes_later(
    tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.loading._FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr("serving.loading._LAST_DELAY_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    path = tmp_path / "a.onnx"
    told: list[str] = []
    loader = Loader(settings(path), lambda model: told.append(model.name.name))
    loader.start()
    time.sleep(0.2)
    assert loader.model is None
    assert "cannot be read" in loader.problem
    path.with_suffix(".part").write_bytes(tiny_model(NOTHING))
    path.with_suffix(".part").rename(path)
    end = time.monotonic() + 10
    while loader.model is None and time.monotonic() < end:
        time.sleep(0.01)
    assert told == ["a"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]  # one line, though tried often


@pytest.mark.parametrize(
    ("name", "version", "folder"),
    [
        ("flyingthings", "3", "flyingthings/3"),
        ("../..", "1/2", "__../1_2"),
        ("a b\n", None, "a_b_/" + "6" * 12),
    ],
)
def test_safe_path_when_the_name_is_not(name: str, version: str | None, folder: str) -> None:
    found = folder_of(ModelName(name=name, version=version, sha256="6" * 64))
    assert found == folder
    assert not any(part.startswith(".") for part in found.split("/"))
