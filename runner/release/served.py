"""Model that a command runs as a server would: of an environment's pin, of MODEL_URI, or by its address."""

import os
from pathlib import Path

from runner.errors import ConfigError, StageError
from runner.release.pin import DEV, environments, read_pin
from runner.store.signatures import signatures_of
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import LoadingError, Model, Source, load_model, source_of


def served_source(project: Path, model: str | None = None) -> Source:
    """Return the address of a model, and the digest of what lies there, None if nothing names one.

    `model` is an environment, whose pin counts, or the address of a manifest.json, latest.json or .onnx; None: that
    of MODEL_URI, else dev's pin. ConfigError: the environment has no model. StageError: latest.json cannot be read.
    """
    uri, sha256 = model, None
    if model is None:
        uri, sha256 = os.environ.get("MODEL_URI"), os.environ.get("MODEL_SHA256") or None
    environment = uri if uri in environments(project) else None if uri else DEV
    if environment:
        if (pin := read_pin(project, environment)) is None:
            raise ConfigError(
                f"{environment} has no model yet; wait until one passed the gate, or name a manifest.json or an .onnx "
                "in MODEL_URI (`predict` also takes --model, such as artifacts/export/model.onnx)"
            )
        uri, sha256 = pin.uri, pin.sha256
    assert uri
    if not uri.startswith(("s3://", "file://")):
        uri = str(project / uri)
    try:
        return source_of(uri, endpoint_of_environment(), sha256)
    except LoadingError as error:
        raise StageError(str(error)) from error


def load_served(project: Path, source: Source) -> Model:
    """Load a model as a server would, its digest and signature checked; StageError: it cannot be served."""
    version = os.environ.get("MODEL_VERSION") or None
    try:
        return load_model(
            source.uri,
            endpoint_of_environment(),
            sha256=source.sha256,
            version=version,
            signatures=signatures_of(project),
        )
    except LoadingError as error:
        raise StageError(str(error)) from error
