"""Batching of concurrent calls into one inference: pays on a GPU, off on a CPU."""

import threading
from typing import Unpack

from serving.vision.detector import Detections, Detector, Wanted
from serving.vision.letterbox import SPARE
from serving.vision.picture import MAX_PIXELS, Picture, decode


class Batcher:
    """A detector whose concurrent calls share inferences.

    While one inference runs, the pictures of other calls queue; the next call takes them all along. So no call waits
    for a batch to fill, and no extra thread is needed.
    """

    def __init__(self, detector: Detector, size: int) -> None:
        """Take the detector and the largest batch; with 1, calls go straight to the detector."""
        self.size = size
        self._detector = detector
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Call] = []

    def detect(self, data: bytes | Picture, **wanted: Unpack[Wanted]) -> Detections:
        """Find objects in one picture: `Detector.detect`."""
        if self.size == 1:
            return self._detector.detect(data, **wanted)
        fit = max(self._detector.input_hw)
        limit = wanted.get("max_pixels", MAX_PIXELS)
        picture = data if isinstance(data, Picture) else decode(data, fit=fit, spare=SPARE, max_pixels=limit)
        call = _Call(picture, wanted)
        with self._lock:
            self._waiting.append(call)
        with self._turn:
            if not call.done:
                self._run_with(call)
        if call.error is not None:
            raise call.error
        assert call.found is not None
        return call.found

    def _run_with(self, call: "_Call") -> None:
        with self._lock:
            others = [other for other in self._waiting if other is not call and other.wanted == call.wanted]
            calls = [call, *others[: self.size - 1]]
            self._waiting = [other for other in self._waiting if other not in calls]
        try:
            found = self._detector.detect_batch([each.picture for each in calls], **call.wanted)
            for each, detections in zip(calls, found, strict=True):
                each.found = detections
        except Exception as error:  # noqa: BLE001 - raised in each caller of the batch
            for each in calls:
                each.error = error
        finally:
            for each in calls:
                each.done = True


class _Call:
    def __init__(self, picture: Picture, wanted: Wanted) -> None:
        self.picture, self.wanted = picture, wanted
        self.found: Detections | None = None
        self.error: Exception | None = None
        self.done = False
