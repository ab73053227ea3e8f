"""Model loading on a background thread, with retries until it works."""

import logging
import threading
from collections.abc import Callable
from time import perf_counter

from serving.settings import Settings
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import LoadingError, Model, load_model

log = logging.getLogger(__name__)
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 1.0, 60.0


def load(settings: Settings) -> Model:
    """Fetch, check and load the model of the settings, or raise LoadingError with the reason."""
    if not settings.model_uri:
        raise LoadingError("MODEL_URI is not set; expected a manifest.json or an .onnx, by path or s3://")
    return load_model(
        settings.model_uri,
        endpoint_of_environment(),
        sha256=settings.model_sha256,
        version=settings.model_version,
        commit=settings.model_commit,
        variant=settings.model_variant == "auto",
    )


class Loader:
    """Loads the model on a background thread and keeps retrying; a server without a model is alive but not ready."""

    def __init__(self, settings: Settings, loaded: Callable[[Model], None]) -> None:
        self.model: Model | None = None  # until it is loaded
        self.problem = "the model is being loaded"  # why it is not loaded, for people
        self._settings = settings
        self._loaded = loaded
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop retrying."""
        self._stop.set()

    def _run(self) -> None:
        delay = _FIRST_DELAY_SECONDS
        while not self._stop.is_set():
            start = perf_counter()
            try:
                model = load(self._settings)
            except Exception as error:  # noqa: BLE001 - no model may end this thread
                said = str(error) if isinstance(error, LoadingError) else f"{type(error).__name__}: {error}"
                if said != self.problem:  # log each new problem once, not at every retry
                    log.error("not ready, will try again: %s", said)
                self.problem = said
                self._stop.wait(delay)
                delay = min(2 * delay, _LAST_DELAY_SECONDS)
                continue
            self._loaded(model)
            self.model = model
            log.info(
                "model ready: %s",
                model.served.kind,
                extra={
                    "model": model.name.model_dump(),
                    "served": model.served._asdict(),
                    "seconds": round(perf_counter() - start, 3),
                },
            )
            return
