import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.release.disagreements import list_disagreements
from runner.store import open_store
from serving.answering import Query, remember
from serving.inference.prediction import Prediction
from serving.responses import Result, Timings
from serving.settings import Settings
from serving.shadow import differences
from serving.state import State
from serving.storage.detections import Box, Detection
from serving.vision.detector import Options
from tests.support.shades import shade

Model = Callable[..., bytes]
TIMINGS = Timings(waiting=0, decode=0, inference=0, suppression=0, total=0)
#                 cx  cy  w  h, airplane, helicopter; the input is 32x32
GRID = np.array([[16, 16, 8, 8, 0.9, 0.1], [8, 8, 8, 8, 0.1, 0.4]], np.float32).T


def found(label: str, x1: float, y1: float, x2: float, y2: float) -> Detection:
    return Detection(label=label, class_id=0, confidence=0.9, box=Box(x1=x1, y1=y1, x2=x2, y2=y2))


A, NEAR, FAR = found("a", 0, 0, 10, 10), found("a", 1, 0, 11, 10), found("a", 6, 0, 16, 10)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([], [], ([], [])),
        ([A], [], ([A], [])),
        ([], [A], ([], [A])),
        ([A], [NEAR], ([], [])),
        ([A], [FAR], ([A], [FAR])),
        ([A], [found("b", 0, 0, 10, 10)], ([A], [found("b", 0, 0, 10, 10)])),
        ([A], [NEAR, A], ([], [NEAR])),  # the best pair, and each box once
        ([A, A], [A], ([A], [])),
        ([found("a", 1, 1, 1, 1)], [found("a", 1, 1, 1, 1)], ([found("a", 1, 1, 1, 1)],) * 2),
    ],
)
def test_boxes_that_one_alone_found(one: list[Detection], other: list[Detection], expected: Any) -> None:
    assert differences(one, other) == expected


def manifest(folder: Path, onnx: bytes, version: int) -> str:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(onnx)
    content = {"name": "flying", "version": version, "onnx_sha256": hashlib.sha256(onnx).hexdigest()}
    content |= {"classes": ["airplane", "helicopter"], "thresholds": {"overall": 0.3 if version == 2 else 0.5}}
    (folder / "manifest.json").write_text(json.dumps(content))
    return str(folder / "manifest.json")


@contextmanager
def serving(folder: Path, model: bytes, challenger: bytes, **settings: Any) -> Iterator[State]:
    uris = {"model_uri": manifest(folder / "1", model, 1), "shadow_uri": manifest(folder / "2", challenger, 2)}
    state = State(Settings(**{"shadow_share": 1, "capture_uri": str(folder / "store"), **uris, **settings}))
    for part in (state.loader, state.decoding, state.captures, state.shadow):
        part.start()
    try:
        yield state
    finally:
        for stop in (
            state.loader.stop,
            state.workers.stop,
            state.shadow.stop,
            state.captures.stop,
            state.decoding.stop,
        ):
            stop()


def answer(state: State, number: int) -> None:
    """Answer a picture as a route does, with an airplane in it, and remember it."""
    while not state.ready:
        time.sleep(0.01)
    model, batcher = state.model()
    boxes = [Detection(label="airplane", class_id=0, confidence=0.9, box=Box(x1=12, y1=12, x2=20, y2=20))]
    result = Result(width=32, height=32, detections=boxes, counts={"airplane": 1}, timings_ms=TIMINGS)
    thresholds = dict(zip(model.detector.classes, model.thresholds, strict=True))
    query = Query(model, batcher, Options(), model.thresholds, True, 0.1)
    remember(state, Prediction(f"{number:032x}", shade(number, 32, 32), model.name, result, [], thresholds), query)


def counted(state: State, name: str, seconds: float = 60) -> float:
    """A metric, once it is above 0."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for line in state.metrics.text().decode().splitlines():
            if line.startswith(f"flywheel_{name} ") and float(line.split()[-1]) > 0:
                return float(line.split()[-1])
        time.sleep(0.02)
    raise AssertionError(f"{name} stays 0:\n{state.metrics.text().decode()}")


def test_a_disagreement_is_captured_with_the_boxes_of_both(tmp_path: Path, tiny_model: Model) -> None:
    with serving(tmp_path, tiny_model(GRID), tiny_model(GRID)) as state:  # its lower threshold shows a helicopter more
        counted(state, "shadow_ready")
        answer(state, 7)
        assert counted(state, "shadow_disagreements_total") == 1
        thread = state.shadow._thread.native_id
        assert thread is not None and os.getpriority(os.PRIO_PROCESS, thread) == 19
    (file,) = (tmp_path / "store").rglob("*.shadow.json")
    content = json.loads(file.read_text())
    assert (content["model"]["version"], content["challenger"]["version"]) == ("1", "2")
    assert [each["label"] for each in content["detections"]] == ["airplane", "helicopter"]
    assert [each["label"] for each in content["only_challenger"]] == ["helicopter"] and content["only_model"] == []
    capture = json.loads(file.with_name(file.name.replace(".shadow", "")).read_text())
    assert capture["reasons"] == ["shadow"] and len(capture["detections"]) == 1
    (entry,) = list_disagreements(open_store(tmp_path))
    assert (entry["challenger_version"], entry["pictures"], entry["only_challenger"]) == ("2", 1, 1)


def test_nothing_is_captured_when_they_agree(tmp_path: Path, tiny_model: Model) -> None:
    same = GRID[:, :1]
    with serving(tmp_path, tiny_model(same), tiny_model(same)) as state:
        counted(state, "shadow_ready")
        answer(state, 7)
        assert counted(state, "shadow_pictures_total") == 1
    assert not list((tmp_path / "store").rglob("*.json"))


@pytest.mark.parametrize("share", [0, 1])
def test_captures_go_on_when_the_challenger_is_broken(share: int, tmp_path: Path, tiny_model: Model) -> None:
    broken = tiny_model(GRID)[:-200]
    settings = {"capture_strategies": "random:1", "shadow_share": share}
    with serving(tmp_path, tiny_model(GRID), broken, **settings) as state:
        answer(state, 7)
    assert len(list((tmp_path / "store").rglob("*.jpg"))) == 1


def test_the_picture_is_captured_as_without_when_the_challenger_fails(
    tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, tiny_model(GRID), tiny_model(GRID), capture_strategies="random:1") as state:
        counted(state, "shadow_ready")
        assert state.shadow._model is not None
        monkeypatch.setattr(state.shadow._model.detector, "detect", lambda *_: 1 / 0)
        answer(state, 7)
        assert counted(state, 'shadow_dropped_total{reason="error"}') == 1
        counted(state, 'captures_total{strategy="random"}')
    assert not list((tmp_path / "store").rglob("*.shadow.json"))


def test_it_waits_while_workers_work(tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.shadow._IDLE_SECONDS", 0.2)
    with serving(tmp_path, tiny_model(GRID), tiny_model(GRID)) as state:
        counted(state, "shadow_ready")
        state.workers._pending = 1
        answer(state, 7)
        assert counted(state, 'shadow_dropped_total{reason="busy"}') == 1
        assert "flywheel_shadow_pictures_total 0.0" in state.metrics.text().decode()
