"""Deployed model: from an environment's pin to a detector."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from runner.errors import ObjectError
from runner.release.pin import read_pin
from runner.store.published import Version, fetch_onnx, locate, parse_version
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
    """Fetch and load the pinned model of an environment, each digest checked.

    Raises:
        NotDeployedError: nothing is pinned, or the pinned model is gone, damaged or no detector.
        StoreError: the store cannot be reached.
    """
    pin = read_pin(project, environment)
    if pin is None:
        raise NotDeployedError(f"{environment} has no model yet")
    where = f"{environment} is pinned to {pin.uri}"
    store, key = locate(project, pin.uri)
    try:
        version = parse_version(store.read(key), pin.uri)
        if version.sha256 != pin.sha256:
            raise NotDeployedError(f"{where}, whose sha256 is {version.sha256}, not {pin.sha256} as the pin says")
        onnx = fetch_onnx(store, version, work)
        return Deployed(version, Detector(onnx), onnx.stat().st_size)
    except (ObjectError, ModelError) as error:
        raise NotDeployedError(f"{where}, which cannot be used: {error}") from error
