"""A server with a challenger in the shadow, as a client and Prometheus see it."""

import hashlib
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.servers import Server, running
from tests.support.shades import shade
from tests.unit.conftest import model

GRID = np.array([[16, 16, 8, 8, 0.9, 0.1], [8, 8, 8, 8, 0.1, 0.4]], np.float32).T


def manifest(folder: Path, onnx: bytes, threshold: float) -> str:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(onnx)
    content = {"name": "flying", "version": 1, "onnx_sha256": hashlib.sha256(onnx).hexdigest()}
    content |= {"classes": ["airplane", "helicopter"], "thresholds": {"overall": threshold}}
    (folder / "manifest.json").write_text(json.dumps(content))
    return str(folder / "manifest.json")


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^flywheel_{name} (\S+)$", server.get("/metrics").body.decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def wait_for(server: Server, name: str, value: float) -> None:
    until = time.monotonic() + 60
    while metric(server, name) < value:
        assert time.monotonic() < until, name
        time.sleep(0.1)


def labels(server: Server, number: int) -> list[str]:
    answer = server.post("/detect", shade(number, 32, 32))
    assert answer.status == 200
    assert answer.json()["model"]["version"] == "1"
    return [each["label"] for each in answer.json()["detections"]]


def test_answers_are_the_models_and_disagreements_are_counted_and_captured(tmp_path: Path) -> None:
    settings = {"MODEL_URI": manifest(tmp_path / "1", model(GRID), 0.5), "CAPTURE_URI": str(tmp_path / "store")}
    challenger = {"SHADOW_URI": manifest(tmp_path / "2", model(GRID), 0.3), "SHADOW_SHARE": "1"}
    with running(tmp_path, **settings, **challenger) as server:
        wait_for(server, "shadow_ready", 1)
        for number in range(3):
            assert labels(server, number * 100) == ["airplane"]
            wait_for(server, "shadow_pictures_total", number + 1)
        wait_for(server, "shadow_disagreements_total", 3)
        wait_for(server, 'captures_total{strategy="shadow"}', 1)
    assert list((tmp_path / "store").rglob("*.shadow.json"))


@pytest.mark.parametrize("name", ["missing", "broken"])
def test_nothing_changes_when_the_challenger_cannot_be_loaded(name: str, tmp_path: Path) -> None:
    uri = manifest(tmp_path / "1", model(GRID), 0.5)
    broken = manifest(tmp_path / "broken", model(GRID)[:-100], 0.5)
    challenger = {"SHADOW_URI": broken.replace("broken", name), "SHADOW_SHARE": "1"}
    with running(tmp_path, MODEL_URI=uri, **challenger) as server:
        assert labels(server, 7) == ["airplane"]
        assert metric(server, "shadow_ready") == 0 and metric(server, "ready") == 1
