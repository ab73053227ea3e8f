"""Batching of concurrent calls into one inference: pays on a GPU, off on a CPU."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from serving.vision.detector import DEFAULTS, Detections, Detector, Options
from serving.vision.picture import Picture


@dataclass(eq=False)
class _Call:
    picture: Picture
    options: Options
    answer: Future[Detections] = field(default_factory=Future)


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

    def detect(self, picture: bytes | Picture, options: Options = DEFAULTS) -> Detections:
        """Find objects in one picture: `Detector.detect`."""
        if self.size == 1:
            return self._detector.detect(picture, options)
        call = _Call(self._detector.decode(picture, options.max_pixels), options)
        with self._lock:
            self._waiting.append(call)
        with self._turn:
            if not call.answer.done():
                self._run_with(call)
        return call.answer.result()

    def _run_with(self, call: _Call) -> None:
        with self._lock:
            others = [other for other in self._waiting if other is not call and other.options == call.options]
            calls = [call, *others[: self.size - 1]]
            self._waiting = [other for other in self._waiting if other not in calls]
        try:
            found = self._detector.detect_batch([each.picture for each in calls], call.options)
        except Exception as error:  # noqa: BLE001 - raised in each caller of the batch
            for each in calls:
                each.answer.set_exception(error)
        else:
            for each, detections in zip(calls, found, strict=True):
                each.answer.set_result(detections)
