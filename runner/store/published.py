"""Published model versions in the store: `models/<model>/<n>/` with model.onnx and its manifest.

The manifest is written last: a version without it does not exist. `models/<model>/latest.json` names the newest that
passed the gate: {"version": n, "sha256": digest of its manifest}.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from runner.errors import MissingObjectError, ObjectError, StoreError
from runner.store import Store, open_store
from runner.workspace import sha256_of
from serving.storage.manifest import Manifest


class Version(NamedTuple):
    """Published version of a model.

    Attributes:
        model: name of the model.
        number: 1, 2, 3…
        sha256: hex digest of the manifest.
    """

    model: str
    number: int
    manifest: Manifest
    sha256: str

    @property
    def passed(self) -> bool | None:
        """Whether the version passed the gate; None if it was not judged."""
        verdict = self.manifest.verdict
        return bool(verdict.get("passed")) if isinstance(verdict, dict) else None

    @property
    def may_be_latest(self) -> bool:
        """Whether the version passed the gate with committed values; one with overrides of a run is never latest."""
        return bool(self.passed) and not (self.manifest.model_extra or {}).get("trial")

    @property
    def map50(self) -> float | None:
        """MAP50 on test, 0 to 1; None where it was not measured."""
        value = self.manifest.metrics.get("map50")
        return float(value) if isinstance(value, int | float) else None


def to_json(content: object) -> bytes:
    """Return a small object as JSON; equal content gives equal bytes."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def key_of(model: str, number: int, file: str = "manifest.json") -> str:
    """Return the key of a file of a version."""
    return f"models/{model}/{number}/{file}"


def model_names(store: Store) -> list[str]:
    """Return the names of the models that have a version, sorted."""
    keys = (re.fullmatch(r"models/([^/]+)/[0-9]+/manifest\.json", key) for key in store.list("models/"))
    return sorted({match[1] for match in keys if match})


def numbers(store: Store, model: str) -> list[int]:
    """Return the version numbers of a model, ascending."""
    pattern = re.compile(rf"models/{re.escape(model)}/([1-9][0-9]*)/manifest\.json")
    return sorted(int(match[1]) for key in store.list(f"models/{model}/") if (match := pattern.fullmatch(key)))


def latest(store: Store, model: str) -> int | None:
    """Return the newest version that passed the gate, or None; raise ObjectError if latest.json is damaged."""
    key = f"models/{model}/latest.json"
    content = _read(store, key)
    if content is None:
        return None
    try:
        return int(json.loads(content)["version"])
    except (ValueError, TypeError, KeyError) as error:
        raise ObjectError(
            f"{store.uri}: {key} is damaged ({error!r}), expected a version; `python -m runner publish` writes it anew "
            "once the object is removed"
        ) from error


def read_version(store: Store, model: str, number: int) -> Version:
    """Return a version after checking its manifest; raise ObjectError if it is missing or invalid."""
    key = key_of(model, number)
    content = _read(store, key)
    if content is None:
        there = ", ".join(map(str, numbers(store, model))) or "none"
        raise ObjectError(
            f"{store.uri}: there is no version {number} of {model} (there are: {there}); "
            "`python -m runner models` lists them"
        )
    return parse_version(content, f"{store.uri}: {key}", (model, number))


def _read(store: Store, key: str) -> bytes | None:
    """Return a small object; None if there is none."""
    try:
        return store.read(key)
    except MissingObjectError:
        return None


def parse_version(content: bytes, where: str, expected: tuple[str, int] | None = None) -> Version:
    """Parse a manifest.json.

    Args:
        where: its source, for error messages.
        expected: required model and number; None: not checked.
    Raises:
        ObjectError: it is invalid, or of another version.
    """
    try:
        manifest = Manifest.model_validate_json(content)
        found = manifest.name, int(manifest.version)
    except (ValidationError, ValueError) as error:
        raise ObjectError(f"{where}: not a manifest ({' '.join(str(error).split())[:200]}); publish anew") from error
    if expected not in (None, found):
        raise ObjectError(f"{where}: is the manifest of {found[0]} {found[1]}; the object was replaced: publish anew")
    return Version(*found, manifest, hashlib.sha256(content).hexdigest())


def fetch_onnx(store: Store, version: Version, work: Path) -> Path:
    """Return the path of a version's model.onnx, fetched unless it is in `work` already; its digest is checked."""
    file = work / "models" / version.manifest.onnx_sha256 / "model.onnx"
    if not file.is_file() or sha256_of(file) != version.manifest.onnx_sha256:
        store.fetch(key_of(version.model, version.number, "model.onnx"), file, version.manifest.onnx_sha256)
    return file


def locate(project: Path, uri: str) -> tuple[Store, str]:
    """Return the store that holds a manifest, and the manifest's key.

    Args:
        project: base folder of a relative path.
        uri: s3://bucket/models/<model>/<n>/manifest.json, or a path with this ending.
    Raises:
        StoreError: not such a URI.
    """
    match = re.fullmatch(r"(.+)/(models/[^/]+/[1-9][0-9]*/manifest\.json)", uri)
    if not match:
        raise StoreError(f"{uri!r} names no manifest, expected <store>/models/<model>/<n>/manifest.json")
    return open_store(project, match[1]), match[2]
