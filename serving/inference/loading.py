"""Model loading on a background thread: retried until it works, and again when latest.json names another version."""

import logging
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter

from serving.decoding.budget import MemoryBudget, trim
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import LATEST, LoadingError, Model, Source, load_model, source_of
from serving.storage.signature import SignatureError, load_signatures

log = logging.getLogger(__name__)
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 1.0, 60.0
_MEMORY_SECONDS = 10.0  # that a second model waits for memory
_LOOK_SECONDS = 0.1  # between two looks whether the old model is gone
MODEL_BYTES, PER_BYTE = 64_000_000, 5  # of memory that a session takes, and for each byte of its file; measured


def find(settings: Settings) -> Source:
    """Return what the settings name now, or raise LoadingError with the reason."""
    uri = settings.model_uri
    if not uri:
        raise LoadingError("MODEL_URI is not set; expected a manifest.json or an .onnx, by path or s3://")
    if settings.model_reload_seconds and uri.rpartition("/")[2] != LATEST:
        raise LoadingError(f"MODEL_RELOAD_SECONDS is set, and MODEL_URI is {uri}; expected a {LATEST}, or unset it")
    return source_of(uri, endpoint_of_environment(), settings.model_sha256)


def load(settings: Settings, source: Source | None = None, admit: Callable[[int], None] = lambda size: None) -> Model:
    """Fetch, check and load the model of the settings, or raise LoadingError; `admit`: see load_model."""
    uri, sha256 = source or find(settings)
    try:
        signatures = load_signatures(settings.signatures, Path(settings.signers) if settings.signers else None)
    except SignatureError as error:
        raise LoadingError(f"SIGNERS: {error}") from error
    return load_model(
        uri,
        endpoint_of_environment(),
        sha256=sha256,
        version=settings.model_version,
        commit=settings.model_commit,
        variant=settings.model_variant == "auto",
        admit=admit,
        signatures=signatures,
    )


class Loader:
    """Loads the model on a background thread; a server without a model is alive but not ready.

    A new version is loaded beside the old one, which answers until then, and goes on where the new one cannot be
    loaded. Requests that have begun are finished by the model with which they began.
    """

    def __init__(
        self, settings: Settings, loaded: Callable[[Model], None], budget: MemoryBudget, metrics: Metrics
    ) -> None:
        """Call `loaded` with each model, on the thread; a second model's memory is charged to the budget."""
        self.problem: str | None = "the model is being loaded"  # why the newest is not loaded, for people
        self._settings = settings
        self._loaded = loaded
        self._budget, self._metrics = budget, metrics
        self._source: Source | None = None  # of the model that is loaded
        self._detector: weakref.ref[object] | None = None  # of that model
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop retrying, and looking for new versions."""
        self._stop.set()

    def _run(self) -> None:
        every, delay = self._settings.model_reload_seconds, 0.0
        while not self._stop.is_set():
            if self._look():
                if not every:
                    return
                delay = every
            else:
                delay = min(max(2 * delay, _FIRST_DELAY_SECONDS), max(every, _LAST_DELAY_SECONDS))
            self._stop.wait(delay)

    def _look(self) -> bool:
        """Load what the settings name now, if it is not loaded already; return whether it is."""
        start, old, charged = perf_counter(), self._detector, 0

        def admit(size: int) -> None:
            nonlocal charged
            need = MODEL_BYTES + PER_BYTE * size
            if old is None:
                return
            if need > self._budget.limit or not self._budget.take(need, monotonic() + _MEMORY_SECONDS):
                raise LoadingError(
                    f"{source.uri}: it needs {need / 1e6:,.0f} MB of memory beside the old model; expected at "
                    f"most the {self._budget.limit / 1e6:,.0f} MB of DECODE_MEMORY_BYTES, less what pictures take; "
                    "start the server anew, or give it more memory"
                )
            charged = need

        try:
            source = find(self._settings)
            if source != self._source:
                model = load(self._settings, source, admit)
        except Exception as error:  # noqa: BLE001 - no model may end this thread
            self._budget.give_back(charged)
            self._failed(str(error) if isinstance(error, LoadingError) else f"{type(error).__name__}: {error}")
            return False
        self.problem = None
        if source == self._source:
            return True
        if old is not None:
            self._metrics.reloads.labels("loaded").inc()
        self._source, self._detector = source, weakref.ref(model.detector)
        self._loaded(model)
        log.info(
            "model ready: %s",
            model.served.kind,
            extra={
                "model": model.name.model_dump(),
                "served": model.served._asdict(),
                "signature": model.signature,
                "seconds": round(perf_counter() - start, 3),
            },
        )
        if old is not None:
            while old() is not None and not self._stop.wait(_LOOK_SECONDS):  # a request still uses it
                pass
            trim()
            self._budget.give_back(charged)
        return True

    def _failed(self, said: str) -> None:
        goes_on = self._source is not None
        if goes_on:
            self._metrics.reloads.labels("failed").inc()
        if said != self.problem:  # log each new problem once, not at every retry
            log.error("%s, will try again: %s", "the old model stays" if goes_on else "not ready", said)
        self.problem = said
