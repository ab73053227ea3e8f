"""Published versions that the gate compares a candidate with: the deployed one, and the champion."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from runner.config.schema import Config
from runner.errors import ObjectError
from runner.release.contents import TRAINED
from runner.release.pin import PROD, STAGING, Pin, read_pin
from runner.store import Store, open_store
from runner.store.published import Version, locate, numbers, parse_version, read_version, version_key
from runner.store.signatures import check_signature
from runner.workspace import sha256_of
from serving.vision.detector import Detector
from serving.vision.metadata import ModelError

LAST = 5  # versions that passed, among which the best is the champion while no person has promoted one


class Deployed(NamedTuple):
    """A published version whose model is here."""

    store: Store
    version: Version
    detector: Detector
    size: int  # of model.onnx, in bytes


class NotDeployedError(Exception):
    """No model to compare with; the message says why."""


def load_deployed(project: Path, environment: str, work: Path) -> Deployed:
    """Fetch and load the pinned model of an environment, each digest checked; `work` keeps the model file.

    NotDeployedError: nothing is pinned, or the pinned model is gone, damaged or no detector.
    """
    pin = read_pin(project, environment)
    if pin is None:
        raise NotDeployedError(f"{environment} has no model yet")
    try:
        return load_version(*pinned_version(project, pin), work)
    except (ObjectError, ModelError) as error:
        raise NotDeployedError(f"{environment} is pinned to {pin.uri}, which cannot be used: {error}") from error


def load_version(store: Store, version: Version, work: Path) -> Deployed:
    """Fetch and load the model of a version; ObjectError: it is gone or damaged, ModelError: it is no detector."""
    sha256 = version.manifest.onnx_sha256
    onnx = work / "models" / sha256 / "model.onnx"
    if not onnx.is_file() or sha256_of(onnx) != sha256:
        store.fetch(version_key(version.model, version.number, "model.onnx"), onnx, sha256)
    detector = Detector(onnx, form=version.manifest.preprocessing.form, known=version.manifest.known)
    return Deployed(store, version, detector, onnx.stat().st_size)


def pinned_version(project: Path, pin: Pin) -> tuple[Store, Version]:
    """Return the version that a pin names, and its store; raise ObjectError if it is missing or another one.

    ObjectError too where it has no valid signature, and SIGNATURES is require.
    """
    store, key = locate(project, pin.uri)
    version = parse_version(store.read(key), pin.uri)
    if version.sha256 != pin.sha256:
        raise ObjectError(f"{pin.uri}: its sha256 is {version.sha256}, not {pin.sha256} as the pin says")
    check_signature(project, store, version)
    return store, version


def champions(project: Path, config: Config, left_out: list[str]) -> list[tuple[Store, Version]]:
    """Return the versions of which the best is the champion: the one that a person promoted, else the last that passed.

    People promote to prod, and before that to staging; whatever the model is called, it counts. Versions that
    `gate.champion` lets go of are none any more. Versions that cannot be read are noted in `left_out`.
    """
    rules, name = config.gate.champion, config.model.name
    if rules.since > 1:
        left_out.append(f"champion: versions before {rules.since}, as gate.champion says: {rules.reason}")
    for environment in (PROD, STAGING):
        if pin := read_pin(project, environment):
            try:
                store, version = pinned_version(project, pin)
            except ObjectError as error:
                left_out.append(f"champion: {environment} is pinned to {pin.uri}, which cannot be used: {error}")
                continue
            if not _is_let_go(version, config):
                return [(store, version)]
            if version.model != name:
                called = f"{version.model} {version.number}"
                left_out.append(f"champion: {called} of {environment}, as gate.champion says: {rules.reason}")
    store, found = open_store(project), list[tuple[Store, Version]]()
    for number in reversed([each for each in numbers(store, name) if each >= rules.since]):
        try:
            version = read_version(store, name, number)
            if version.may_be_latest:
                check_signature(project, store, version)
        except ObjectError as error:
            left_out.append(f"champion: {error}")
            continue
        if version.may_be_latest:
            found.append((store, version))
        if len(found) == LAST:
            break
    return found


def _is_let_go(version: Version, config: Config) -> bool:
    """Whether `gate.champion` says that a version is no measure any more.

    Of a model of another name, numbers say nothing: any reason lets go of it, but for one that stood there when the
    version was made, which is about others.
    """
    rules = config.gate.champion
    if version.model == config.model.name:
        return version.number < rules.since
    gate = version.manifest.params.get("gate")
    then = gate.get("champion") if isinstance(gate, dict) else None
    return bool((rules.reason or "").strip()) and then != rules.model_dump()


def trained_on(store: Store, version: Version) -> dict[str, str] | None:
    """Return sha256 → look of the pictures that a version was trained or tuned on; None for versions of before.

    ObjectError: the list is missing or damaged.
    """
    digest = version.manifest.files.get(TRAINED)
    if digest is None:
        return None
    content = store.read(f"runs/{version.model}/{version.number}/{TRAINED}")
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise ObjectError(
            f"{store.uri}: {TRAINED} of {version.model} {version.number} has sha256 {found}, not {digest}"
        )
    return dict(line.split(" ") for line in content.decode().splitlines())
