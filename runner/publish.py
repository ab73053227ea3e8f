"""Bring a version of a model into the store: whole or not to be seen, once, under a number that is used once.

    runs/<model>/<n>/claim.json         takes the number; holds the manifest that will be, so that who comes back after
                                        a kill, or comes second with the same, writes the same bytes
    runs/<model>/<n>/…                  the run: report, params, metrics, verdict, weights, curves, dvc.lock, model card
    models/<model>/<n>/model.onnx
    models/<model>/<n>/manifest.json    from here on the version exists
    models/<model>/latest.json          names it, if it passed the gate and nothing newer did

Numbers are claimed by `Store.create`, which tells one of several publishers that it was first.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from runner.card import model_card
from runner.errors import ObjectError
from runner.files import sha256_of
from runner.release import Release
from runner.store import Store
from runner.versions import Version, key_of, latest, numbers, read_version

Claim = dict[str, Any]


class Published(NamedTuple):
    """A version that exists now; `is_new` when it did not before, `uri` names its manifest."""

    version: Version
    uri: str
    is_new: bool
    is_latest: bool

    def as_text(self) -> str:
        """Return what was done."""
        said = {True: "passed the gate", False: "did not pass the gate", None: "the gate was not asked"}
        latest = ", now the latest" if self.is_latest else ""
        name = f"{self.version.model} {self.version.number}"
        state = "published" if self.is_new else "in the store already:"
        return f"{state} {name} ({said[self.version.passed]}{latest})\n{self.uri}"

    def as_json(self) -> str:
        """Return model, version, uri and sha256 of the manifest, whether it passed, is the latest, and is new."""
        version = self.version
        what = {"model": version.model, "version": version.number, "uri": self.uri, "sha256": version.sha256}
        return json.dumps(what | {"passed": version.passed, "latest": self.is_latest, "new": self.is_new}, indent=2)


def publish(store: Store, release: Release) -> Published:
    """Publish a release, or complete it; the same again is the same version.

    Raises:
        StoreError: the store cannot be reached, or an object in it is damaged or another than it should be.
    """
    number, claim = _find(store, release) or _take_number(store, release)
    is_new = not store.exists(key_of(release.model, number))
    if is_new:
        _write(store, release, number, claim["manifest"])
    version = read_version(store, release.model, number)
    return Published(version, store.uri_of(key_of(release.model, number)), is_new, _point(store, version))


def _find(store: Store, release: Release) -> tuple[int, Claim] | None:
    """Return the claim that is already there for this release: of a version that exists, or that can be completed."""
    existing = set(numbers(store, release.model))
    unfinished = None
    for number, claim in _claims(store, release.model):
        if _is_same(claim, release):
            if number in existing:
                return number, claim
            if unfinished is None and _has_files(claim, release):
                unfinished = number, claim
    return unfinished


def _take_number(store: Store, release: Release) -> tuple[int, Claim]:
    """Claim the next number; where another publisher was faster, go on with its claim if it is for the same."""
    number = 0
    while True:
        number = max([number, *_taken(store, release.model)]) + 1
        claim = _new_claim(release, number)
        if store.create(_claim_key(release.model, number), _json(claim)):
            return number, claim
        other = _read_claim(store, release.model, number)
        if _is_same(other, release) and _has_files(other, release):
            return number, other


def _new_claim(release: Release, number: int) -> Claim:
    files = {name: sha256_of(path) for name, path in release.files.items()}
    if release.manifest["verdict"] is not None:
        files["verdict.json"] = hashlib.sha256(_json(release.manifest["verdict"])).hexdigest()
    manifest = {
        "name": release.model,
        "version": number,
        **release.manifest,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": files,
    }
    return {"same": release.same, "manifest": manifest}


def _is_same(claim: Claim, release: Release) -> bool:
    """Whether a claim is for the same model with the same verdict, whoever made it, when and from which commit.

    The deployed model counts too, unless that is the claimed version itself: it was published, promoted, and is now
    judged beside itself.
    """
    there, here = claim["manifest"], release.manifest
    if (claim["same"], there["onnx_sha256"]) != (release.same, here["onnx_sha256"]):
        return False
    one, other = (_verdict_identity(manifest["verdict"]) for manifest in (there, here))
    if other.get("deployed") == hashlib.sha256(_json(there)).hexdigest():
        other["deployed"] = one.get("deployed")
    return one == other


def _verdict_identity(verdict: dict[str, Any] | None) -> dict[str, Any]:
    """Return what makes it the same verdict, whatever the clock measured."""
    if verdict is None:
        return {}
    against = verdict["deployed"] and verdict["deployed"]["manifest_sha256"]
    return {"passed": verdict["passed"], "criteria": verdict["criteria"], "deployed": against}


def _has_files(claim: Claim, release: Release) -> bool:
    """Whether the files of a run are those of a claim, so that it can be completed from here."""
    digests = {name: sha256_of(path) for name, path in release.files.items()}
    claimed: dict[str, str] = claim["manifest"]["files"]
    return {name: sha256 for name, sha256 in claimed.items() if name != "verdict.json"} == digests


def _write(store: Store, release: Release, number: int, manifest: dict[str, Any]) -> None:
    """Put the objects of a version in their order; those that are there already stay."""
    run = f"runs/{release.model}/{number}"
    with tempfile.TemporaryDirectory(prefix="flywheel-publish-") as scratch:

        def text(name: str, content: bytes) -> Path:
            path = Path(scratch, name)
            path.write_bytes(content)
            return path

        files = dict(release.files)
        if manifest["verdict"] is not None:
            files["verdict.json"] = text("verdict.json", _json(manifest["verdict"]))
        for name, path in files.items():
            store.put_file(f"{run}/{name}", path)
        if not store.exists(card := f"{run}/README.md"):  # its words may be newer than those of the first try
            store.put_file(card, text("README.md", model_card(manifest).encode()))
        store.put_file(key_of(release.model, number, "model.onnx"), release.onnx)
        store.put_file(key_of(release.model, number), text("manifest.json", _json(manifest)))


def _point(store: Store, version: Version) -> bool:
    """Tag a version, and let latest.json name the newest that passed; return whether that is this one.

    Looks again after each change: of two publishers the one that writes last also sees what the other published.
    """
    model, number = version.model, version.number
    _tag(store, version, is_latest=latest(store, model) == number)
    while newest := _newer(store, model, former := latest(store, model)):
        _tag(store, newest, is_latest=True)
        if former is not None:
            with suppress(ObjectError):  # someone removed it
                _tag(store, read_version(store, model, former), is_latest=False)
        pointer = {"version": newest.number, "sha256": newest.sha256}
        store.replace(f"models/{model}/latest.json", _json(pointer))
    return former == number


def _newer(store: Store, model: str, former: int | None) -> Version | None:
    """Return the newest version that passed, if it is newer than the one that latest.json names."""
    for number in reversed(numbers(store, model)):
        if number <= (former or 0):
            break
        version = read_version(store, model, number)
        if version.passed:
            return version
    return None


def _tag(store: Store, version: Version, *, is_latest: bool) -> None:
    tags = {"training-run": str(version.number), **({"stage": "latest"} if is_latest else {})}
    for file, sha256 in (("model.onnx", version.manifest.onnx_sha256), ("manifest.json", version.sha256)):
        store.tag(key_of(version.model, version.number, file), tags | {"sha256": sha256})


def _taken(store: Store, model: str) -> set[int]:
    """Return the numbers that were ever used."""
    keys = [*store.list(f"runs/{model}/"), *store.list(f"models/{model}/")]
    return {int(match[1]) for key in keys if (match := re.match(r"[^/]+/[^/]+/([1-9][0-9]*)/", key))}


def _claims(store: Store, model: str) -> Iterator[tuple[int, Claim]]:
    """Yield all claims, the newest first."""
    pattern = re.compile(rf"runs/{re.escape(model)}/([1-9][0-9]*)/claim\.json")
    claimed = (int(match[1]) for key in store.list(f"runs/{model}/") if (match := pattern.fullmatch(key)))
    for number in sorted(claimed, reverse=True):
        yield number, _read_claim(store, model, number)


def _claim_key(model: str, number: int) -> str:
    return f"runs/{model}/{number}/claim.json"


def _read_claim(store: Store, model: str, number: int) -> Claim:
    key = _claim_key(model, number)
    try:
        claim: Claim = json.loads(store.read(key))
        manifest = claim["manifest"]
        if manifest["name"] == model and manifest["version"] == number and manifest["files"] and "same" in claim:
            return claim
    except (ValueError, TypeError, KeyError) as error:
        raise ObjectError(f"{store.uri}: {key} is damaged ({error!r}), expected a claim; remove it") from error
    raise ObjectError(f"{store.uri}: {key} is the claim of another version, expected its own; remove it")


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
