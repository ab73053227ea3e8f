"""Deployed model: from an environment's pin to a detector."""

from pathlib import Path
from typing import NamedTuple

from runner.errors import ObjectError
from runner.release.pin import Pin, read_pin
from runner.store import Store
from runner.store.published import Version, locate, parse_version, version_key
from runner.workspace import sha256_of
from serving.vision.detector import Detector
from serving.vision.metadata import ModelError


class Deployed(NamedTuple):
    """A deployed model; `size` is of its model.onnx, in bytes."""

    version: Version
    detector: Detector
    size: int


class NotDeployedError(Exception):
    """No deployed model to compare with; the message says why."""


def load_deployed(project: Path, environment: str, work: Path) -> Deployed:
    """Fetch and load the pinned model of an environment, each digest checked; `work` keeps the model file.

    NotDeployedError: nothing is pinned, or the pinned model is gone, damaged or no detector.
    """
    pin = read_pin(project, environment)
    if pin is None:
        raise NotDeployedError(f"{environment} has no model yet")
    try:
        store, version = pinned_version(project, pin)
        sha256 = version.manifest.onnx_sha256
        onnx = work / "models" / sha256 / "model.onnx"
        if not onnx.is_file() or sha256_of(onnx) != sha256:
            store.fetch(version_key(version.model, version.number, "model.onnx"), onnx, sha256)
        return Deployed(version, Detector(onnx), onnx.stat().st_size)
    except (ObjectError, ModelError) as error:
        raise NotDeployedError(f"{environment} is pinned to {pin.uri}, which cannot be used: {error}") from error


def pinned_version(project: Path, pin: Pin) -> tuple[Store, Version]:
    """Return the version that a pin names, and its store; raise ObjectError if it is missing or another one."""
    store, key = locate(project, pin.uri)
    version = parse_version(store.read(key), pin.uri)
    if version.sha256 != pin.sha256:
        raise ObjectError(f"{pin.uri}: its sha256 is {version.sha256}, not {pin.sha256} as the pin says")
    return store, version
