"""Capture of answered pictures for labelling, written by a background thread, so that no answer waits.

A capture is `<CAPTURE_URI>/captures/<environment>/<model>/<version>/<date>/<request id>.jpg` and `.json`; feedback
about the request is beside them, `<request id>.feedback.json`.
"""

import io
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import SimpleQueue
from time import monotonic
from typing import Any

from serving.loading import folder_of
from serving.monitoring import Metrics
from serving.settings import Settings, endpoint_of
from serving.storage.detections import Detection, ModelName
from serving.storage.objects import StorageError, write
from serving.upload import Budget
from serving.vision.picture import decode
from serving.vision.similarity import Seen, difference_hash

log = logging.getLogger(__name__)
_JPEG_QUALITY = 95
_BASE_BYTES, _DETECTION_BYTES = 2_000, 2_000
_LAST_DELAY_SECONDS = 60.0
_PERIODS = {"minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True)
class Capture:
    """One answered picture.

    Attributes:
        request_id: of the answer.
        data: the file as it was sent.
        model: the model that answered.
        width: pixels of the upright picture.
        height: pixels of the upright picture.
        detections: all detections, `almost` included.
        almost: number of detections, at the end, below their threshold and not in the answer.
        thresholds: class name → confidence.
        time: of the answer.
    """

    request_id: str
    data: bytes
    model: ModelName
    width: int
    height: int
    detections: Sequence[Detection]
    almost: int
    thresholds: Mapping[str, float]
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def size(self) -> int:
        """Approximate bytes of memory; in many small pictures the detections weigh most."""
        return len(self.data) + _BASE_BYTES + _DETECTION_BYTES * len(self.detections)


class Limits:
    """Rate limits per minute, hour and day of the clock."""

    def __init__(self, most: Mapping[str, int]) -> None:
        """Take the limits for "minute", "hour" and "day"."""
        self._most = most
        self._counts: dict[str, tuple[int, int]] = {}

    def reached(self, now: float) -> str | None:
        """Return the period whose limit is reached; None: one more is counted."""
        counts = {}
        for period, seconds in _PERIODS.items():
            number = int(now // seconds)
            last, count = self._counts.get(period, (number, 0))
            counts[period] = (number, (count if last == number else 0) + 1)
        for period, (_, count) in counts.items():
            if count > self._most[period]:
                return period
        self._counts = counts
        return None


class Recent:
    """The last answered pictures, so that feedback need not send them again; bounded in bytes."""

    def __init__(self, limit: int) -> None:
        """Take the limit in bytes."""
        self._limit, self._held = limit, 0
        self._captures: OrderedDict[str, Capture] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, capture: Capture) -> None:
        """Add a capture, and drop the oldest beyond the limit."""
        with self._lock:
            self._captures[capture.request_id] = capture
            self._held += capture.size
            while self._held > self._limit:
                _, oldest = self._captures.popitem(last=False)
                self._held -= oldest.size

    def get(self, request_id: str) -> Capture | None:
        """Return the capture of a request; None when it was dropped."""
        with self._lock:
            return self._captures.get(request_id)


class Capturer:
    """Writes captures to CAPTURE_URI."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Take the settings; the thread begins with `start`."""
        self._uri = settings.capture_uri
        self._environment = settings.environment
        self._endpoint = endpoint_of(settings)
        self._metrics = metrics
        self._budget = Budget(settings.capture_queue_bytes)
        self._queue: SimpleQueue[tuple[Capture, list[str]] | None] = SimpleQueue()
        self._seen = Seen(settings.capture_similar_bits)
        self._limits = Limits(
            {
                "minute": settings.capture_per_minute,
                "hour": settings.capture_per_hour,
                "day": settings.capture_per_day,
            }
        )
        self.recent = Recent(settings.recent_bytes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        metrics.watch(metrics.capture_queue_length, self._queue.qsize)

    @property
    def on(self) -> bool:
        """Whether CAPTURE_URI is set."""
        return self._uri is not None

    def start(self) -> None:
        """Start the writer thread."""
        if self.on:
            self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Write the queue for at most `seconds`; what is left is dropped and counted."""
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        self._thread.join(seconds)
        self._stop.set()
        self._thread.join(1)

    def offer(self, capture: Capture, reasons: list[str]) -> None:
        """Queue a capture without waiting; a full queue drops it."""
        if not self._budget.take(capture.size):
            self._metrics.captures_dropped.labels("queue_full").inc()
            return
        self._queue.put((capture, reasons))

    def keep(self, capture: Capture, reasons: list[str]) -> None:
        """Write a capture now, or raise StorageError, or PictureError if its picture cannot be read."""
        self._write(capture, reasons, _jpeg(capture.data))

    def keep_feedback(self, request_id: str, name: ModelName, time: datetime, content: Mapping[str, Any]) -> None:
        """Write feedback now, or raise StorageError."""
        self._put(f"{self._place(name, time)}/{request_id}.feedback.json", _json(content), "application/json")

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            capture, asked = item
            try:
                self._consider(capture, asked)
            except Exception:
                log.exception("capture failed", extra={"request_id": capture.request_id})
                self._metrics.captures_dropped.labels("error").inc()
            finally:
                self._budget.give_back(capture.size)

    def _consider(self, capture: Capture, asked: list[str]) -> None:
        dropped = self._metrics.captures_dropped
        if self._stop.is_set():
            dropped.labels("shutdown").inc()
            return
        hashed = difference_hash(decode(capture.data, fit=64).image)
        if self._seen.like(hashed):
            dropped.labels("similar").inc()
            return
        if period := self._limits.reached(capture.time.timestamp()):
            dropped.labels(f"per_{period}").inc()
            return
        if not self._insist(capture, asked, _jpeg(capture.data)):
            dropped.labels("shutdown").inc()
            return
        self._seen.add(hashed)
        for reason in asked:
            self._metrics.captures.labels(reason.partition(":")[0]).inc()

    def _insist(self, capture: Capture, asked: list[str], jpeg: bytes) -> bool:
        """Write, and retry until it works; meanwhile the queue fills, and then drops captures."""
        delay, said, began = 0.5, "", monotonic()
        while True:
            try:
                self._write(capture, asked, jpeg)
            except StorageError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("capture waits: %s", said, extra={"request_id": capture.request_id})
                if self._stop.wait(delay):
                    return False
                delay = min(2 * delay, _LAST_DELAY_SECONDS)
            else:
                if said:
                    log.info("captures are written again", extra={"seconds": round(monotonic() - began)})
                return True

    def _write(self, capture: Capture, asked: list[str], jpeg: bytes) -> None:
        place = f"{self._place(capture.model, capture.time)}/{capture.request_id}"
        answered = len(capture.detections) - capture.almost
        content = {
            "request_id": capture.request_id,
            "time": capture.time.isoformat(timespec="milliseconds"),
            "environment": self._environment,
            "reasons": asked,
            "model": capture.model.model_dump(),
            "thresholds": dict(capture.thresholds),
            "width": capture.width,
            "height": capture.height,
            "detections": [detection.model_dump() for detection in capture.detections[:answered]],
            "almost": [detection.model_dump() for detection in capture.detections[answered:]],
        }
        self._put(f"{place}.jpg", jpeg, "image/jpeg")
        self._put(f"{place}.json", _json(content), "application/json")  # last: it marks the capture as complete

    def _place(self, model: ModelName, time: datetime) -> str:
        return f"captures/{self._environment}/{folder_of(model)}/{time:%Y-%m-%d}"

    def _put(self, key: str, data: bytes, content_type: str) -> None:
        assert self._uri is not None
        write(self._uri, key, data, content_type, self._endpoint)


def _jpeg(data: bytes) -> bytes:
    """Return the picture as an upright JPEG: the original bytes if they are one, because boxes are in its pixels."""
    picture = decode(data)
    if picture.format == "JPEG" and picture.plain:
        return data
    out = io.BytesIO()
    picture.image.save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()
