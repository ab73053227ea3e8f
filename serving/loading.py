"""How a model comes to serve: fetched, its digests checked, loaded; tried again until it is."""

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from time import perf_counter

from pydantic import ValidationError

from serving.detector import Detector
from serving.manifest import Manifest
from serving.metadata import ModelError
from serving.s3 import Endpoint
from serving.schema import ModelName
from serving.settings import Settings
from serving.storage import StorageError, beside, endpoint_of, read

log = logging.getLogger(__name__)
DEFAULT_CONFIDENCE = 0.25
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 1.0, 60.0


class LoadingError(Exception):
    """The model cannot be served; the text says what is wrong and what was expected."""


@dataclass(frozen=True)
class Model:
    """A model that is ready.

    Attributes:
        detector: what answers.
        name: how answers call it.
        manifest: None where MODEL_URI names a bare .onnx.
        thresholds: a confidence for each class, in the order of the detector's.
    """

    detector: Detector
    name: ModelName
    manifest: Manifest | None
    thresholds: Sequence[float]


def load(settings: Settings) -> Model:
    """Fetch, check and load the model that the settings name.

    Raises:
        LoadingError: with the reason.
    """
    uri = settings.model_uri
    if not uri:
        raise LoadingError("MODEL_URI is not set; expected a manifest.json or an .onnx, by path or s3://")
    endpoint = endpoint_of(settings)
    try:
        data = _checked(uri, endpoint, settings.model_sha256, "MODEL_SHA256")
        if uri.endswith(".onnx"):
            sha256 = hashlib.sha256(data).hexdigest()
            stem = PurePosixPath(uri).stem
            name = ModelName(
                name=stem, version=settings.model_version, sha256=sha256, commit=settings.model_commit or None
            )
            detector = Detector(data)
            return Model(detector, name, None, [DEFAULT_CONFIDENCE] * len(detector.classes))
        manifest = Manifest.model_validate_json(data)
        weights = beside(uri, "model.onnx")
        detector = Detector(_checked(weights, endpoint, manifest.onnx_sha256, f"onnx_sha256 of {uri}"))
    except (StorageError, ModelError) as error:
        raise LoadingError(f"{uri}: {error}" if isinstance(error, ModelError) else str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "text"
        raise LoadingError(f"{uri}: {where}: {first['msg']}; expected a manifest as `publish` writes it") from error
    if detector.classes != manifest.classes:
        raise LoadingError(f"{uri}: classes are {manifest.classes}, but model.onnx has {detector.classes}")
    name = ModelName(
        name=manifest.name, version=str(manifest.version), sha256=manifest.onnx_sha256, commit=manifest.commit
    )
    chosen = manifest.thresholds
    return Model(detector, name, manifest, [chosen.classes.get(label, chosen.overall) for label in detector.classes])


def folder_of(model: ModelName) -> str:
    """`<model>/<version>` as a path that is safe whatever the names hold."""
    parts = (model.name, model.version or model.sha256[:12])
    return "/".join(re.sub(r"[^A-Za-z0-9._-]|^\.+", "_", part)[:100] or "_" for part in parts)


class Loader:
    """Loads the model on a thread of its own and keeps trying; a server without a model is alive but not ready.

    Attributes:
        model: None until it is ready.
        problem: why it is not, for people.
    """

    def __init__(self, settings: Settings, loaded: Callable[[Model], None] = lambda model: None) -> None:
        """Take the settings, and what to tell when the model is ready."""
        self.model: Model | None = None
        self.problem = "the model is being loaded"
        self._settings = settings
        self._loaded = loaded
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Give up."""
        self._stop.set()

    def _run(self) -> None:
        delay = _FIRST_DELAY_SECONDS
        while not self._stop.is_set():
            start = perf_counter()
            try:
                model = load(self._settings)
            except Exception as error:  # noqa: BLE001 - a model of any kind must never end this thread
                said = str(error) if isinstance(error, LoadingError) else f"{type(error).__name__}: {error}"
                if said != self.problem:  # once, not at every try
                    log.error("not ready, will try again: %s", said)
                self.problem = said
                self._stop.wait(delay)
                delay = min(2 * delay, _LAST_DELAY_SECONDS)
                continue
            self._loaded(model)
            self.model = model
            log.info(
                "model ready", extra={"model": model.name.model_dump(), "seconds": round(perf_counter() - start, 3)}
            )
            return


def _checked(uri: str, endpoint: Endpoint, sha256: str | None, source: str) -> bytes:
    data = read(uri, endpoint)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise LoadingError(f"{uri}: its sha256 is {found}; expected {sha256}, as {source} says")
    return data
