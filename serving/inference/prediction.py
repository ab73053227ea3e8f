"""Prediction for one picture, and the memory of the last ones."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from serving.responses import Result
from serving.storage.detections import Detection, ModelName

Claim = tuple[Any, ...]  # a verdict and what was sent with it
_BASE_BYTES, _DETECTION_BYTES = 2_000, 2_000


@dataclass(frozen=True)
class Prediction:
    """Prediction for one picture, with all that a capture of it stores."""

    request_id: str
    data: bytes  # the file as it was sent
    model: ModelName
    result: Result
    almost: Sequence[Detection]  # just below their threshold, not in the answer
    thresholds: Mapping[str, float]  # class name → confidence
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def size(self) -> int:
        """Approximate bytes of memory; in many small pictures the detections weigh most."""
        return len(self.data) + _BASE_BYTES + _DETECTION_BYTES * (len(self.result.detections) + len(self.almost))


class RecentPredictions:
    """The last predictions, so that feedback need not send the picture again; bounded in bytes, thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._predictions: OrderedDict[str, Prediction] = OrderedDict()
        self._verdicts: dict[str, Claim] = {}
        self._lock = threading.Lock()

    def add(self, prediction: Prediction) -> None:
        """Add a prediction, and drop the oldest beyond the limit."""
        with self._lock:
            self._predictions[prediction.request_id] = prediction
            self._held += prediction.size
            while self._held > self._limit:
                _, oldest = self._predictions.popitem(last=False)
                self._held -= oldest.size
                self._verdicts.pop(oldest.request_id, None)

    def get(self, request_id: str) -> Prediction | None:
        """Return the prediction of a request; None when it was dropped."""
        with self._lock:
            return self._predictions.get(request_id)

    def claim(self, request_id: str, verdict: Claim) -> Claim | None:
        """Note the verdict on a prediction, and return None; or return the one that it has already."""
        with self._lock:
            if request_id not in self._predictions:
                return None
            earlier = self._verdicts.get(request_id)
            if earlier is None:
                self._verdicts[request_id] = verdict
            return earlier

    def has_verdict(self, request_id: str) -> bool:
        """Whether a prediction that is remembered has a verdict."""
        with self._lock:
            return request_id in self._verdicts

    def unclaim(self, request_id: str) -> None:
        """Forget the verdict on a prediction, which could not be stored."""
        with self._lock:
            self._verdicts.pop(request_id, None)
