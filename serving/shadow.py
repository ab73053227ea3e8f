"""Challenger in the shadow: another model that sees a share of the pictures, and whose answers are never sent.

One thread of the lowest priority runs it, on pictures that are answered already, while no worker has any work. Where
the two models disagree, the picture is captured with the boxes of both.
"""

import contextlib
import logging
import os
import random
import threading
from collections.abc import Callable, Sequence
from queue import Empty, Full, Queue
from time import monotonic
from typing import Any, NamedTuple

from serving.captures.writer import CaptureWriter
from serving.decoding.pool import Decoding
from serving.decoding.program import fitting, read_picture
from serving.inference.loading import MODEL_BYTES, PER_BYTE, load
from serving.inference.prediction import Prediction
from serving.inference.workers import Workers
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.storage.detections import Detection, named
from serving.storage.model import LoadingError, Model
from serving.tracking import labelled, pairs
from serving.vision.detector import Options

log = logging.getLogger(__name__)
SAME = 0.5  # intersection over union from which two boxes of a class are the same thing
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 1.0, 600.0
_IDLE_SECONDS, _LOOK_SECONDS = 10.0, 0.01  # most that a picture waits for idle workers; between two looks
_READY_SECONDS = 0.2  # between two looks whether the server is ready
_LOWEST = 19  # priority


class _Offer(NamedTuple):
    """A picture for the challenger."""

    prediction: Prediction
    options: Options  # `iou` and `max_detections` count
    reasons: list[str]  # strategies that capture the picture in any case


class Shadow:
    """Runs the challenger of SHADOW_URI; whatever becomes of it, answers and captures go on."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        workers: Workers,
        decoding: Decoding,
        captures: CaptureWriter,
        ready: Callable[[], bool],
    ) -> None:
        """Load the challenger once the server is `ready`."""
        self._settings = settings.model_copy(
            update={"model_uri": settings.shadow_uri, "model_sha256": settings.shadow_sha256}
            | {"model_version": None, "model_commit": None, "model_reload_seconds": 0.0}
        )
        self._share = settings.shadow_share
        self._metrics, self._workers, self._decoding, self._captures = metrics, workers, decoding, captures
        self._ready = ready
        self._model: Model | None = None  # until it is loaded
        self._queue: Queue[_Offer] = Queue(maxsize=1)  # more would be memory, and pictures of long ago
        self._stop = threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start the thread, where SHADOW_URI is set."""
        if self._settings.model_uri:
            self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the picture at hand; one that waits is captured if it would be without."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1)
        with contextlib.suppress(Empty):
            self._capture(self._queue.get_nowait())

    def offer(self, prediction: Prediction, options: Options, reasons: list[str]) -> bool:
        """Take a picture by chance, without waiting; then it is captured here, for the reasons, if there are any."""
        if self._model is None or self._stop.is_set() or random.random() >= self._share:
            return False
        try:
            self._queue.put_nowait(_Offer(prediction, options, reasons))
        except Full:
            self._metrics.shadow_dropped.labels("full").inc()
            return False
        return True

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # Linux has a priority for each thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
        delay = _FIRST_DELAY_SECONDS
        while not self._ready() and not self._stop.wait(_READY_SECONDS):
            pass
        while not self._stop.is_set() and not self._loaded():
            self._stop.wait(delay)
            delay = min(2 * delay, _LAST_DELAY_SECONDS)
        while not self._stop.is_set():
            with contextlib.suppress(Empty):
                self._capture(offer := self._queue.get(timeout=0.2), self._seen(offer))

    def _loaded(self) -> bool:
        budget, charged = self._decoding.budget, 0

        def admit(size: int) -> None:
            nonlocal charged
            need = MODEL_BYTES + PER_BYTE * size + 2 * self._settings.max_picture_bytes
            if not budget.take(need):
                raise LoadingError(
                    f"SHADOW_URI: the challenger needs {need / 1e6:,.0f} MB of memory; expected at most what is free "
                    f"of the {budget.limit / 1e6:,.0f} MB of DECODE_MEMORY_BYTES; give the server more memory"
                )
            charged = need

        try:
            model = load(self._settings, admit=admit)
        except Exception as error:  # noqa: BLE001 - no challenger may end this thread
            budget.give_back(charged)
            self._failed(f"cannot be loaded, will try again: {error}")
            return False
        self._model = model
        self._metrics.shadow_ready.set(1)
        log.info("challenger ready", extra={"model": model.name.model_dump(), "served": model.served._asdict()})
        return True

    def _seen(self, offer: _Offer) -> dict[str, Any] | None:
        """Return what the challenger found, if the models disagree; None too where it could not be asked."""
        until = monotonic() + _IDLE_SECONDS
        while not self._workers.idle:
            if monotonic() > until or self._stop.wait(_LOOK_SECONDS):
                self._metrics.shadow_dropped.labels("busy").inc()
                return None
        try:
            return self._compared(offer)
        except Exception as error:  # noqa: BLE001 - a broken challenger changes nothing
            self._metrics.shadow_dropped.labels("error").inc()
            self._failed(f"failed: {type(error).__name__}: {error}")
            return None

    def _compared(self, offer: _Offer) -> dict[str, Any] | None:
        assert self._model is not None
        detector, prediction = self._model.detector, offer.prediction
        reply = self._decoding.run("fitted", prediction.data, **fitting(detector))
        options = Options(self._model.thresholds, offer.options.iou, offer.options.max_detections)
        theirs = named(detector.detect(read_picture(reply), options), detector.classes)
        common = set(prediction.thresholds) & set(detector.classes)  # what only one knows is no disagreement
        ours = [each for each in prediction.result.detections if each.label in common]
        only_model, only_challenger = differences(ours, [each for each in theirs if each.label in common])
        self._metrics.shadow_pictures.inc()
        self._metrics.shadow_boxes.labels("both").inc(len(ours) - len(only_model))
        self._metrics.shadow_boxes.labels("model").inc(len(only_model))
        self._metrics.shadow_boxes.labels("challenger").inc(len(only_challenger))
        if not only_model and not only_challenger:
            return None
        self._metrics.shadow_disagreements.inc()
        return {
            "challenger": self._model.name.model_dump(),
            "thresholds": dict(zip(detector.classes, self._model.thresholds, strict=True)),
            "detections": [each.model_dump() for each in theirs],
            "only_model": [each.model_dump() for each in only_model],
            "only_challenger": [each.model_dump() for each in only_challenger],
        }

    def _capture(self, offer: _Offer, disagreement: dict[str, Any] | None = None) -> None:
        if self._captures.on and (reasons := [*offer.reasons, *(["shadow"] if disagreement else [])]):
            self._captures.offer(offer.prediction, reasons, disagreement)

    def _failed(self, said: str) -> None:
        if said != self._problem:  # log each new problem once
            log.warning("the challenger %s", said)
        self._problem = said


def differences(one: Sequence[Detection], other: Sequence[Detection]) -> tuple[list[Detection], list[Detection]]:
    """Return the detections of each that the other lacks."""
    same = pairs([labelled(each) for each in one], [labelled(each) for each in other], SAME)
    mine, theirs = {place for place, _ in same}, {place for _, place in same}
    left = [each for place, each in enumerate(one) if place not in mine]
    return left, [each for place, each in enumerate(other) if place not in theirs]
