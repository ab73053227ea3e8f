"""Who publishes a version, and under which number: `runs/<model>/<n>/claim.json`, taken with `Store.create`.

A claim holds the manifest that will be, with everything in it that another try would find otherwise (time, commit,
measured times). So whoever comes back after a kill, or comes second with the same model, writes the same bytes under
the same number, and a number is never used for two things.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from runner.errors import ObjectError
from runner.files import sha256_of
from runner.release import Release
from runner.store import Store
from runner.versions import numbers, to_json

Claim = dict[str, Any]
VERDICT = "verdict.json"  # follows from the manifest, unlike the other files of a run


def claim(store: Store, release: Release) -> dict[str, Any]:
    """Return the manifest that a release has or will have, its number taken.

    Raises:
        StoreError: the store cannot be reached, or a claim in it is damaged.
    """
    found: dict[str, Any] = (_find(store, release) or _take_number(store, release))["manifest"]
    return found


def _find(store: Store, release: Release) -> Claim | None:
    """Return the claim that is there for this release: of a version that exists, else one that can be completed."""
    existing = set(numbers(store, release.model))
    unfinished = None
    for number, each in _claims(store, release.model):
        if _is_same(each, release):
            if number in existing:
                return each
            if unfinished is None and _has_files(each, release):
                unfinished = each
    return unfinished


def _take_number(store: Store, release: Release) -> Claim:
    """Claim the next number; where another publisher was faster, go on with its claim if it is for the same."""
    number = 0
    while True:
        number = max([number, *_taken(store, release.model)]) + 1
        mine = _new_claim(release, number)
        if store.create(_key(release.model, number), to_json(mine)):
            return mine
        other = _read(store, release.model, number)
        if _is_same(other, release) and _has_files(other, release):
            return other


def _new_claim(release: Release, number: int) -> Claim:
    files = _digests(release)
    if release.manifest["verdict"] is not None:
        files[VERDICT] = hashlib.sha256(to_json(release.manifest["verdict"])).hexdigest()
    manifest = {
        "name": release.model,
        "version": number,
        **release.manifest,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": files,
    }
    return {"same": release.same, "manifest": manifest}


def _is_same(there: Claim, release: Release) -> bool:
    """Whether a claim is for the same model with the same verdict, whoever made it, when and from which commit.

    The deployed model counts too, unless that is the claimed version itself: it was published, promoted, and is now
    judged beside itself.
    """
    manifest = there["manifest"]
    if (there["same"], manifest["onnx_sha256"]) != (release.same, release.manifest["onnx_sha256"]):
        return False
    old, new = _outcome(manifest["verdict"]), _outcome(release.manifest["verdict"])
    if new.get("deployed") == hashlib.sha256(to_json(manifest)).hexdigest():
        new["deployed"] = old.get("deployed")
    return old == new


def _outcome(verdict: dict[str, Any] | None) -> dict[str, Any]:
    """Return what makes it the same verdict, whatever the clock measured; empty where the gate was not asked."""
    if verdict is None:
        return {}
    against = verdict["deployed"] and verdict["deployed"]["manifest_sha256"]
    return {"passed": verdict["passed"], "criteria": verdict["criteria"], "deployed": against}


def _has_files(there: Claim, release: Release) -> bool:
    """Whether the files of a run are those of a claim, so that it can be completed from here."""
    claimed: dict[str, str] = there["manifest"]["files"]
    return {name: sha256 for name, sha256 in claimed.items() if name != VERDICT} == _digests(release)


def _digests(release: Release) -> dict[str, str]:
    return {name: sha256_of(path) for name, path in release.files.items()}


def _taken(store: Store, model: str) -> set[int]:
    """Return the numbers that were ever used."""
    keys = [*store.list(f"runs/{model}/"), *store.list(f"models/{model}/")]
    return {int(match[1]) for key in keys if (match := re.match(r"[^/]+/[^/]+/([1-9][0-9]*)/", key))}


def _claims(store: Store, model: str) -> Iterator[tuple[int, Claim]]:
    """Yield all claims, the newest first."""
    pattern = re.compile(rf"runs/{re.escape(model)}/([1-9][0-9]*)/claim\.json")
    claimed = (int(match[1]) for key in store.list(f"runs/{model}/") if (match := pattern.fullmatch(key)))
    for number in sorted(claimed, reverse=True):
        yield number, _read(store, model, number)


def _key(model: str, number: int) -> str:
    return f"runs/{model}/{number}/claim.json"


def _read(store: Store, model: str, number: int) -> Claim:
    key = _key(model, number)
    try:
        found: Claim = json.loads(store.read(key))
        manifest = found["manifest"]
        if (manifest["name"], manifest["version"]) != (model, number) or not (manifest["files"] and found["same"]):
            raise ValueError("it is of another version")
    except (ValueError, TypeError, KeyError) as error:
        raise ObjectError(f"{store.uri}: {key} is damaged ({error!r}), expected a claim; remove it") from error
    return found
