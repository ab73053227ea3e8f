import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.answering import Parameters, predict, remember, resolve
from serving.settings import Settings
from serving.state import State
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import load_model
from tests.support.shades import shade

#  cx cy w h airplane, helicopter; the threshold is 0.25, so the helicopter is just below it
GRID = np.array([[16, 16, 8, 8, 0.5, 0], [8, 16, 8, 8, 0, 0.22]], np.float32).T


@pytest.fixture
def state(tmp_path: Path, tiny_model: Callable[..., bytes]) -> Iterator[State]:
    """A server's state with a loaded model, whose writer of captures does not run."""
    (tmp_path / "model.onnx").write_bytes(tiny_model(GRID))
    settings = {"capture_uri": str(tmp_path), "capture_strategies": "near_threshold:0.05", "workers": 1}
    state = State(Settings.model_validate(settings))
    state.use(load_model(str(tmp_path / "model.onnx"), endpoint_of_environment()))
    yield state
    state.workers.stop()


@pytest.mark.parametrize(
    ("parameters", "searched", "shown", "almost", "captured"),
    [
        ({}, [0.2, 0.2], ["airplane"], ["helicopter"], True),
        ({"confidence": 0.1}, [0.1, 0.1], ["airplane", "helicopter"], [], True),
        ({"confidence": 0.25}, [0.2, 0.2], ["airplane"], ["helicopter"], True),
        ({"confidence": 0.3}, [0.3, 0.3], ["airplane"], [], False),
        ({"classes": ["helicopter"]}, [0.25, 0.25], [], [], False),
    ],
)
def test_shown_remembered_and_offered(
    parameters: dict[str, Any],
    searched: list[float],
    shown: list[str],
    almost: list[str],
    captured: bool,
    state: State,
) -> None:
    query = resolve(state, Parameters(**parameters))
    assert query.options.confidence == pytest.approx(searched)
    prediction = asyncio.run(predict(state, "1", shade(0), query, 0))
    assert [each.label for each in prediction.result.detections] == shown
    assert [each.label for each in prediction.almost] == almost
    assert prediction.thresholds == dict.fromkeys(("airplane", "helicopter"), parameters.get("confidence", 0.25))
    remember(state, prediction, query)
    kept = state.recent.get("1")
    assert kept is not None
    if captured:  # by the model's own thresholds, also where the request asked for lower ones
        assert [each.label for each in kept.result.detections] == ["airplane"] and kept.result.counts == {"airplane": 1}
        assert [each.label for each in kept.almost] == ["helicopter"]
        assert kept.thresholds == dict.fromkeys(("airplane", "helicopter"), 0.25)
    else:
        assert kept is prediction
    assert f"flywheel_capture_queue_length {float(captured)}" in state.metrics.text().decode()
