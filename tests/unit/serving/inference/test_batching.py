from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from serving.inference.batching import Batcher
from serving.vision.detector import Detections, Detector, Options
from serving.vision.picture import PictureError, TooLargeError
from tests.support.shades import shade

GRID = np.array([[16, 16, 8, 8, 0, 0]], np.float32).T
Model = Callable[..., bytes]


@pytest.mark.parametrize("size", [1, 4])
def test_own_answer_when_eight_threads_ask(size: int, tiny_model: Model) -> None:
    batcher = Batcher(Detector(tiny_model(GRID, bright=(4, 0))), size)

    def ask(value: int) -> None:
        options = Options(confidence=0.3 if value % 40 else 0.35)  # calls with other options share nothing
        for _ in range(20):
            found = batcher.detect(shade(value), options)
            assert found.confidences.tolist() == pytest.approx([value / 255], abs=0.002)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(100, 260, 20)))


def test_inference_shared_when_others_wait(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector(tiny_model(GRID, bright=(4, 0)))
    batcher, sizes = Batcher(detector, 4), []
    really = detector.detect_batch

    def noted(pictures: Sequence[Any], options: Options) -> list[Detections]:
        sizes.append(len(pictures))
        return really(pictures, options)

    monkeypatch.setattr(detector, "detect_batch", noted)
    batcher._turn.acquire()
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(batcher.detect, shade(200)) for _ in range(6)]
        while len(batcher._waiting) < 6:
            pass
        batcher._turn.release()
        assert all(len(call.result().confidences) == 1 for call in calls)
    assert sorted(sizes) == [2, 4]
    assert not batcher._waiting


def test_error_passes_when_its_picture_or_the_inference_fails(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = Batcher(detector := Detector(tiny_model(GRID)), 4)
    with pytest.raises(PictureError):
        batcher.detect(b"no picture")
    with pytest.raises(TooLargeError):
        batcher.detect(shade(1), Options(max_pixels=100))
    monkeypatch.setattr(detector, "infer", lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        batcher.detect(shade(1))
    assert not batcher._waiting
