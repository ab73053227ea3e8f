"""Batching: concurrent calls share inferences, and each gets its own answer."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from serving.batching import Batcher
from serving.vision.detector import Detector
from serving.vision.picture import PictureError

GRID = np.array([[16, 16, 8, 8, 0, 0]], np.float32).T
Model = Callable[..., bytes]


def shade(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (value, value, value)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("size", [1, 4])
def test_own_answer_when_eight_threads_ask(size: int, tiny_model: Model) -> None:
    batcher = Batcher(Detector(tiny_model(GRID, bright=(4, 0))), size)

    def ask(value: int) -> None:
        for _ in range(20):
            confidence = 0.3 if value % 20 else 0.35  # some with other wishes, which share nothing
            found = batcher.detect(shade(value), confidence=confidence)
            assert found.confidences.tolist() == pytest.approx([value / 255], abs=0.002)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(100, 260, 20)))


def test_inference_shared_when_others_wait(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector(tiny_model(GRID, bright=(4, 0)))
    batcher, sizes = Batcher(detector, 4), []
    really = detector.detect_batch

    def noted(pictures, **wanted):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
        sizes.append(len(pictures))
        return really(pictures, **wanted)

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


def test_error_of_one_only_when_its_picture_is_damaged(tiny_model: Model) -> None:
    batcher = Batcher(Detector(tiny_model(GRID)), 4)
    with pytest.raises(PictureError, match="expected"):
        batcher.detect(b"no picture")
    assert not batcher._waiting
