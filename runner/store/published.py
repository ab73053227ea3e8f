"""Published model versions in the store: `models/<model>/<n>/` with model.onnx and its manifest.

The manifest is written last: a version without it does not exist. `models/<model>/latest.json` names the newest that
passed the gate: {"version": n, "sha256": digest of its manifest}.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from runner.errors import MissingObjectError, ObjectError, StoreError
from runner.store import Store, open_store
from serving.storage.manifest import Manifest

VERDICT = "verdict.json"  # of a run: follows from the manifest, unlike its other files


class Version(NamedTuple):
    """Published version of a model; `sha256` is its manifest's, in hex."""

    model: str
    number: int
    manifest: Manifest
    sha256: str

    @property
    def passed(self) -> bool | None:
        """Whether the version passed the gate; None if it was not judged."""
        return self.manifest.verdict.passed if self.manifest.verdict else None

    @property
    def may_be_latest(self) -> bool:
        """Whether the version passed the gate with committed values; one with overrides of a run is never latest."""
        return bool(self.passed) and not self.manifest.trial

    @property
    def map50(self) -> float | None:
        """MAP50 on test, 0 to 1; None where it was not measured."""
        value = self.manifest.metrics.get("map50")
        return float(value) if isinstance(value, int | float) else None


def to_json(content: object) -> bytes:
    """Return a small object, with manifests or parts of them, as JSON; equal content gives equal bytes."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=lambda part: part.model_dump(exclude_unset=True))
    return f"{text}\n".encode()


def version_key(model: str, number: int, file: str = "manifest.json") -> str:
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
    try:
        return int(json.loads(store.read(key))["version"])
    except MissingObjectError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ObjectError(
            f"{store.uri}: {key} is damaged ({error!r}), expected a version; `python -m runner publish` writes it anew "
            "once the object is removed"
        ) from error


def read_version(store: Store, model: str, number: int) -> Version:
    """Return a version after checking its manifest; raise ObjectError if it is missing or invalid."""
    key = version_key(model, number)
    try:
        version = parse_version(store.read(key), f"{store.uri}: {key}")
    except MissingObjectError as error:
        there = ", ".join(map(str, numbers(store, model))) or "none"
        raise ObjectError(
            f"{store.uri}: there is no version {number} of {model} (there are: {there}); "
            "`python -m runner models` lists them"
        ) from error
    if version[:2] != (model, number):
        raise ObjectError(
            f"{store.uri}: {key}: is the manifest of {version.model} {version.number}; the object was replaced: "
            "publish anew"
        )
    return version


def parse_version(content: bytes, where: str) -> Version:
    """Parse a manifest.json from `where`, for messages; raise ObjectError if it is invalid."""
    try:
        manifest = Manifest.model_validate_json(content)
        return Version(manifest.name, int(manifest.version), manifest, hashlib.sha256(content).hexdigest())
    except ValueError as error:  # pydantic's too
        raise ObjectError(f"{where}: not a manifest ({' '.join(str(error).split())[:200]}); publish anew") from error


def locate(project: Path, uri: str) -> tuple[Store, str]:
    """Return the store that holds a manifest, and the manifest's key; StoreError for another URI.

    A manifest is s3://bucket/models/<model>/<n>/manifest.json, or a path with this ending, relative to the project.
    """
    match = re.fullmatch(r"(.+)/(models/[^/]+/[1-9][0-9]*/manifest\.json)", uri)
    if not match:
        raise StoreError(f"{uri!r} names no manifest, expected <store>/models/<model>/<n>/manifest.json")
    return open_store(project, match[1]), match[2]
