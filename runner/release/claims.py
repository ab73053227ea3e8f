"""Claims of version numbers: `runs/<model>/<n>/claim.json`, taken with `Store.create`.

A claim holds the future manifest, with everything that another try would compute differently (time, commit, measured
times). So a retry after a kill, or a second publisher of the same model, writes the same bytes under the same number,
and a number is never used for two things.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from runner.errors import ObjectError
from runner.release.contents import Release
from runner.store import Store
from runner.store.published import key_of, to_json
from runner.workspace import sha256_of

VERDICT = "verdict.json"  # follows from the manifest, unlike the other files of a run


class Claim(NamedTuple):
    """Content of claim.json: the future manifest, and `Release.same`."""

    same: dict[str, Any]
    manifest: dict[str, Any]


def claim(store: Store, release: Release) -> tuple[dict[str, Any], bool]:
    """Return the manifest of a release, with its number claimed, and whether the version exists already.

    Raises:
        StoreError: the store cannot be reached, or a claim in it is damaged.
    """
    known: dict[int, Claim] = {}
    while True:
        used, claimed, existing = _numbers(store, release.model)
        for number in claimed - known.keys():
            known[number] = _read(store, release.model, number)
        if (found := _find(known, existing, release)) is not None:
            return known[found].manifest, found in existing
        number = max(used | known.keys(), default=0) + 1
        mine = _new_claim(release, number)
        if store.create(_key(release.model, number), to_json(mine._asdict())):
            return mine.manifest, False
        known[number] = _read(store, release.model, number)  # another publisher was faster


def _find(known: dict[int, Claim], existing: set[int], release: Release) -> int | None:
    """Return the number of an existing version, else of one that can be completed, else None."""
    same = [number for number, each in sorted(known.items(), reverse=True) if _is_same(each, release)]
    candidates = [
        *(number for number in same if number in existing),
        *(number for number in same if _has_files(known[number], release)),
    ]
    return candidates[0] if candidates else None


def _numbers(store: Store, model: str) -> tuple[set[int], set[int], set[int]]:
    """Return the numbers in use, those with a claim, and those of existing versions."""
    keys = [*store.list(f"runs/{model}/"), *store.list(f"models/{model}/")]
    matches = [match for key in keys if (match := re.fullmatch(r"[^/]+/[^/]+/([1-9][0-9]*)/(.+)", key))]
    claimed = {int(match[1]) for match in matches if match[0] == _key(model, int(match[1]))}
    existing = {int(match[1]) for match in matches if match[0] == key_of(model, int(match[1]))}
    return {int(match[1]) for match in matches}, claimed, existing


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
    return Claim(release.same, manifest)


def _is_same(there: Claim, release: Release) -> bool:
    """Whether a claim is for the same model with the same verdict, whoever made it, when and from which commit.

    The deployed model counts too, unless it is the claimed version itself, which was promoted and is now compared with
    itself.
    """
    manifest = there.manifest
    if (there.same, manifest["onnx_sha256"]) != (release.same, release.manifest["onnx_sha256"]):
        return False
    old, new = _outcome(manifest["verdict"]), _outcome(release.manifest["verdict"])
    if new.get("deployed") == hashlib.sha256(to_json(manifest)).hexdigest():
        new["deployed"] = old.get("deployed")
    return old == new


def _outcome(verdict: dict[str, Any] | None) -> dict[str, Any]:
    """Return the part of a verdict that identifies it, without measured times; empty for None."""
    if verdict is None:
        return {}
    against = verdict["deployed"] and verdict["deployed"]["manifest_sha256"]
    return {"passed": verdict["passed"], "criteria": verdict["criteria"], "deployed": against}


def _has_files(there: Claim, release: Release) -> bool:
    """Whether a release has the claim's files, so that the claimed version can be completed from here."""
    claimed: dict[str, str] = there.manifest["files"]
    return {name: sha256 for name, sha256 in claimed.items() if name != VERDICT} == _digests(release)


def _digests(release: Release) -> dict[str, str]:
    return {name: sha256_of(path) for name, path in release.files.items()}


def _key(model: str, number: int) -> str:
    return f"runs/{model}/{number}/claim.json"


def _read(store: Store, model: str, number: int) -> Claim:
    key = _key(model, number)
    try:
        content = json.loads(store.read(key))
        same, manifest = content["same"], content["manifest"]
        if (manifest["name"], manifest["version"]) != (model, number) or not (manifest["files"] and same):
            raise ValueError("it is of another version")
    except (ValueError, TypeError, KeyError) as error:
        raise ObjectError(f"{store.uri}: {key} is damaged ({error!r}), expected a claim; remove it") from error
    return Claim(same, manifest)
