"""Model by URI: fetched, checked by digest, loaded into a detector."""

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from pydantic import ValidationError

from serving.storage.detections import ModelName
from serving.storage.endpoint import Endpoint
from serving.storage.manifest import Manifest, Thresholds
from serving.storage.objects import StorageError, read
from serving.vision.detector import Detector
from serving.vision.metadata import Known, ModelError


class LoadingError(Exception):
    """The model cannot be served; the text says what is wrong and what was expected."""


class Model(NamedTuple):
    """A loaded model."""

    detector: Detector
    name: ModelName  # in answers
    manifest: Manifest | None  # None where MODEL_URI names a bare .onnx
    thresholds: Sequence[float]  # a confidence for each class, in the order of the detector's


def load_model(
    uri: str, endpoint: Endpoint, *, sha256: str | None = None, version: str | None = None, commit: str | None = None
) -> Model:
    """Load the model of a manifest.json or an .onnx, by path or s3://bucket/key, or raise LoadingError.

    `sha256` is the hex digest of the file at `uri` (None: not checked); `version` and `commit` are reported for a bare
    .onnx, which has no manifest.
    """
    try:
        data = _checked(uri, endpoint, sha256, "MODEL_SHA256")
        if uri.endswith(".onnx"):
            digest = hashlib.sha256(data).hexdigest()
            name = ModelName(name=PurePosixPath(uri).stem, version=version, sha256=digest, commit=commit or None)
            detector = Detector(data)
            return Model(detector, name, None, Thresholds().of(detector.classes))
        manifest = Manifest.model_validate_json(data)
        beside = uri[: uri.rfind("/") + 1] + "model.onnx"
        content = _checked(beside, endpoint, manifest.onnx_sha256, f"onnx_sha256 of {uri}")
        sides = [manifest.imgsz] * 2 if isinstance(manifest.imgsz, int) else manifest.imgsz or []
        known = Known(manifest.classes or None, (sides[0], sides[1]) if len(sides) == 2 else None)
        detector = Detector(content, form=manifest.preprocessing.form, known=known)
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
    return Model(detector, name, manifest, manifest.thresholds.of(detector.classes))


def _checked(uri: str, endpoint: Endpoint, sha256: str | None, source: str) -> bytes:
    data = read(uri, endpoint)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise LoadingError(f"{uri}: its sha256 is {found}; expected {sha256}, as {source} says")
    return data
