"""The model that an environment runs: from its pin to a detector."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from runner.errors import ObjectError
from runner.release.pin import read_pin
from runner.store.published import Version, fetch_onnx, locate, parse_version
from serving.vision.detector import Detector
from serving.vision.metadata import ModelError


class Deployed(NamedTuple):
    """A model that is served; `size` is of its model.onnx, in bytes."""

    version: Version
    detector: Detector
    size: int


class NotDeployedError(Exception):
    """There is no deployed model to compare with; the text says why."""


def load_deployed(project: Path, environment: str, work: Path) -> Deployed:
    """Fetch and load what an environment's pin names, each digest checked.

    Args:
        project: the folder that holds gitops/.
        environment: such as dev.
        work: the scratch folder.
    Raises:
        NotDeployedError: nothing is pinned, or what is pinned is gone, damaged or no detector.
        ConfigError: the pin is not what `promote` writes.
        StoreError: the store cannot be reached, so nobody knows what is there.
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
