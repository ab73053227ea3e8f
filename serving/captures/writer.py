"""Captures: predictions stored for labelling, written by a background thread, so that no answer waits.

A capture is `<CAPTURE_URI>/captures/<environment>/<model>/<version>/<date>/<request id>.jpg` and `.json`; feedback
about the request is beside them, `<request id>.feedback.json`, and what a challenger in the shadow found otherwise,
`<request id>.shadow.json`.
"""

import hashlib
import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from queue import SimpleQueue
from time import monotonic
from typing import Any

from PIL import Image

from serving.captures.memory import CaptureMemory
from serving.captures.privacy import without_metadata
from serving.decoding.budget import MemoryBudget
from serving.decoding.pool import Decoding
from serving.errors import Refused
from serving.inference.prediction import Prediction
from serving.monitoring import Metrics
from serving.redaction import RedactionError, redacted
from serving.settings import Settings
from serving.storage.detections import ModelName
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.objects import StorageError, check_writable, write
from serving.vision.picture import PictureError
from serving.vision.similarity import difference_hash

log = logging.getLogger(__name__)
Disagreement = Mapping[str, Any] | None  # what a challenger found otherwise than the model, see `serving.shadow`
_LAST_DELAY_SECONDS = 60.0
_LOOKS = 10  # pictures that are looked at, for each that may be captured in a minute
_PERIODS = {"minute": 60, "hour": 3_600, "day": 86_400}


class CaptureWriter:
    """Writes captures to CAPTURE_URI; drops and counts near-duplicates and those beyond the limits."""

    def __init__(self, settings: Settings, metrics: Metrics, decoding: Decoding) -> None:
        self._uri = settings.capture_uri
        self._environment = settings.environment
        self._endpoint = endpoint_of_environment()
        self._metrics = metrics
        self._decoding = decoding
        self._budget = MemoryBudget(settings.capture_queue_bytes)
        self._queue: SimpleQueue[tuple[Prediction, list[str], Disagreement] | None] = SimpleQueue()
        self._redact = settings.capture_redact
        hour_and_day = {"per_hour": settings.capture_per_hour, "per_day": settings.capture_per_day}
        self._memory = CaptureMemory(
            settings.capture_uri or "",
            settings.environment,
            self._endpoint,
            similar_bits=settings.capture_similar_bits,
            **hour_and_day,
        )
        self._limits = RateLimits(settings.capture_per_minute)
        # To look whether a picture is new costs a few milliseconds, for each of a fixed camera's too.
        self._looks = RateLimits(_LOOKS * settings.capture_per_minute)
        # People's reports have limits of their own, or a day's captures would leave no room for them.
        self._feedback_limits = RateLimits(settings.capture_per_minute, *hour_and_day.values())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        metrics.capture_queue_length.set_function(self._queue.qsize)

    @property
    def on(self) -> bool:
        """Whether CAPTURE_URI is set."""
        return self._uri is not None

    def start(self) -> None:
        """Start the writer thread."""
        if self.on:
            self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Write the queue for at most `seconds`; drop and count the rest."""
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        self._thread.join(seconds)
        self._stop.set()
        self._thread.join(1)

    def offer(self, prediction: Prediction, reasons: list[str], disagreement: Disagreement = None) -> None:
        """Queue a prediction for capture without waiting, with what a challenger found; a full queue drops it."""
        if self._budget.take(prediction.size):
            self._queue.put((prediction, reasons, disagreement))
        else:
            self._drop("queue_full")

    def wants(self, image: Image.Image) -> bool:
        """Whether a frame of a video may become a capture, before it is encoded: it is new, and no limit is reached."""
        return self.on and not self._limits.full() and not self._memory.knows(difference_hash(image))

    def keep(self, prediction: Prediction, reasons: Sequence[str], disagreement: Disagreement = None) -> None:
        """Write a capture now, or raise StorageError, or Refused if its picture cannot be read now."""
        self._write(prediction, reasons, self._jpeg(prediction), disagreement)

    def check_feedback(self) -> None:
        """Raise Refused if the limits of CAPTURE_PER_* are reached by feedback."""
        if found := self._feedback_limits.full():
            period, seconds = found
            raise Refused(
                503,
                f"there was as much feedback as this server takes per {period}; try again in {seconds} s",
                "feedback_limit",
                {"Retry-After": str(seconds)},
            )

    def count_feedback(self) -> None:
        """Count feedback that will be kept, or raise Refused as `check_feedback`."""
        self.check_feedback()
        self._feedback_limits.reached()

    def keep_feedback(self, prediction: Prediction, content: Mapping[str, Any]) -> None:
        """Write feedback on a prediction now, or raise StorageError."""
        folder = self._folder(prediction.model, prediction.time)
        self._put(f"{folder}/{prediction.request_id}.feedback.json", content)

    def _run(self) -> None:
        assert self._uri is not None
        try:
            check_writable(self._uri, f"captures/{self._environment}", self._endpoint)
        except StorageError as error:
            log.error("captures and feedback cannot be kept; expected a CAPTURE_URI that can be written: %s", error)
            self._metrics.captures_writable.set(0)
        while (item := self._queue.get()) is not None:
            prediction, reasons, disagreement = item
            try:
                self._consider(prediction, reasons, disagreement)
            except Refused as error:
                self._drop("redaction" if error.reason == "redaction" else "busy")
            except Exception:
                log.exception("capture failed", extra={"request_id": prediction.request_id})
                self._drop("error")
            finally:
                self._budget.give_back(prediction.size)

    def _jpeg(self, prediction: Prediction) -> bytes:
        """Return the picture as an upright JPEG without metadata, or raise Refused."""
        try:
            reply = self._decoding.run("upright_jpeg", prediction.data, anew=self._redact is not None)
            if self._redact:
                return redacted(reply.data, self._redact)
        except RedactionError as error:
            log.error("a picture is not kept, since CAPTURE_REDACT failed: %s", error)
            raise Refused(503, "the picture cannot be kept: its redaction failed", "redaction") from error
        except PictureError as error:  # it was read once, but this takes more memory
            raise Refused(413, f"the picture cannot be kept: {error}") from error
        try:
            return without_metadata(prediction.data if reply.facts["same"] else reply.data)
        except ValueError as error:  # Pillow is more lenient
            raise Refused(400, f"the picture cannot be kept: {error}") from error

    def _drop(self, reason: str) -> None:
        self._metrics.captures_dropped.labels(reason).inc()

    def _consider(self, prediction: Prediction, reasons: list[str], disagreement: Disagreement) -> None:
        if self._stop.is_set():
            self._drop("shutdown")
            return
        if self._limits.full() or self._looks.reached():
            self._drop("per_minute")
            return
        hashed = self._decoding.run("hashed", prediction.data).facts["hash"]
        refusal = self._memory.refusal(hashed, datetime.now(UTC)) or self._write_with_retries(
            prediction, reasons, hashed, disagreement
        )
        if refusal:
            self._drop(refusal)
            return
        self._limits.reached()
        for reason in reasons:
            self._metrics.captures.labels(reason.partition(":")[0]).inc()

    def _write_with_retries(
        self, prediction: Prediction, reasons: list[str], hashed: int, disagreement: Disagreement
    ) -> str | None:
        """Write, and retry until it works or the server stops; meanwhile the queue fills, and then drops captures.

        Return why it was not written, else None.
        """
        jpeg = self._jpeg(prediction)
        delay, problem, began, noted = 0.5, "", monotonic(), False
        while True:
            try:
                if not noted and (refusal := self._memory.take(hashed, prediction.request_id, datetime.now(UTC))):
                    return refusal
                noted = True
                self._write(prediction, reasons, jpeg, disagreement)
            except StorageError as error:
                if str(error) != problem:  # log each new problem once
                    problem = str(error)
                    log.warning("capture waits: %s", problem, extra={"request_id": prediction.request_id})
                if self._stop.wait(delay):
                    return "shutdown"
                delay = min(2 * delay, _LAST_DELAY_SECONDS)
            else:
                if problem:
                    log.info("captures are written again", extra={"seconds": round(monotonic() - began)})
                return None

    def _write(
        self, prediction: Prediction, reasons: Sequence[str], jpeg: bytes, disagreement: Disagreement = None
    ) -> None:
        result = prediction.result
        content = {
            "request_id": prediction.request_id,
            "time": prediction.time.isoformat(timespec="milliseconds"),
            "sent_sha256": hashlib.sha256(prediction.data).hexdigest(),  # the .jpg may be another file
            "environment": self._environment,
            "reasons": list(reasons),
            "model": prediction.model.model_dump(),
            "thresholds": dict(prediction.thresholds),
            **result.model_dump(include={"width", "height", "detections"}),
            "almost": [detection.model_dump() for detection in prediction.almost],
        }
        name = f"{self._folder(prediction.model, prediction.time)}/{prediction.request_id}"
        self._put(f"{name}.jpg", jpeg)
        if disagreement:
            same = {key: content[key] for key in ("request_id", "time", "environment", "model")}
            self._put(f"{name}.shadow.json", same | dict(disagreement))
        self._put(f"{name}.json", content)  # last: it marks the capture as complete

    def _folder(self, model: ModelName, time: datetime) -> str:
        """Return a safe path, whatever the model's names contain."""
        parts = (model.name, model.version or model.sha256[:12])
        safe = "/".join(re.sub(r"[^A-Za-z0-9._-]|^\.+", "_", part)[:100] or "_" for part in parts)
        return f"captures/{self._environment}/{safe}/{time:%Y-%m-%d}"

    def _put(self, key: str, content: bytes | Mapping[str, Any]) -> None:
        """Write a JPEG, or an object as JSON."""
        assert self._uri is not None
        kind = "image/jpeg" if isinstance(content, bytes) else "application/json"
        data = content if isinstance(content, bytes) else json.dumps(content, indent=1).encode()
        self._metrics.captures_writable.set(0)
        write(self._uri, key, data, kind, self._endpoint)
        self._metrics.captures_writable.set(1)


class RateLimits:
    """Rate limits per minute, and hour and day if given, of a clock that nobody can set; thread-safe."""

    def __init__(self, *most: int, clock: Callable[[], float] = monotonic) -> None:
        self._most = dict(zip(_PERIODS, most, strict=False))
        self._clock = clock
        self._counts: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()

    def full(self) -> tuple[str, int] | None:
        """Return the period whose limit is reached, and the seconds until it ends."""
        now = self._clock()
        for period, most in self._most.items():
            seconds = _PERIODS[period]
            if self._counts[period, int(now // seconds)] >= most:
                return period, int(seconds - now % seconds) + 1
        return None

    def reached(self) -> str | None:
        """Return the period whose limit is reached; None: one more is counted."""
        with self._lock:
            if found := self.full():
                return found[0]
            now = self._clock()
            current = [(period, int(now // seconds)) for period, seconds in _PERIODS.items()]
            self._counts = Counter({key: self._counts[key] + 1 for key in current})
            return None
