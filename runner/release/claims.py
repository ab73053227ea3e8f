"""Claims of version numbers: `runs/<model>/<n>/claim.json`, taken with `Store.create`.

A claim holds the future manifest, with everything that another try would compute differently (time, commit, measured
times). So a retry after a kill, or a second publisher of the same model, writes the same bytes under the same number,
and a number is never used for two things.
"""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from runner.errors import ObjectError
from runner.release.contents import Release
from runner.store import Store
from runner.store.published import VERDICT, to_json
from runner.workspace import sha256_of
from serving.storage.manifest import Manifest, Verdict


class Claim(BaseModel):
    """Content of claim.json: `Release.same`, and the future manifest."""

    same: dict[str, Any]
    manifest: Manifest


def claim(store: Store, release: Release) -> tuple[Manifest, bool]:
    """Return the manifest of a release, with its number claimed, and whether the version exists already."""
    model = release.manifest.name
    known: dict[int, Claim] = {}
    while True:
        keys = [*store.list(f"runs/{model}/"), *store.list(f"models/{model}/")]
        matches = (re.fullmatch(r"(runs|models)/[^/]+/([1-9][0-9]*)/(.+)", key) for key in keys)
        files = [(int(match[2]), f"{match[1]}/{match[3]}") for match in matches if match]
        for number in {number for number, file in files if file == "runs/claim.json"} - known.keys():
            known[number] = _read(store, model, number)
        existing = {number for number, file in files if file == "models/manifest.json"}
        if (found := _find(known, existing, release)) is not None:
            return known[found].manifest, found in existing
        number = max({number for number, _ in files} | known.keys(), default=0) + 1
        mine = _new_claim(release, number)
        if store.create(_key(model, number), to_json(mine)):
            return mine.manifest, False
        known[number] = _read(store, model, number)  # another publisher was faster


def _find(known: dict[int, Claim], existing: set[int], release: Release) -> int | None:
    """Return the number of an existing version, else of one that the release's files complete, else None."""
    same = [number for number, each in sorted(known.items(), reverse=True) if _is_same(each, release)]
    if complete := [number for number in same if number in existing]:
        return complete[0]
    mine = _digests(release) | {VERDICT: ""}
    return next((number for number in same if known[number].manifest.files | {VERDICT: ""} == mine), None)


def _new_claim(release: Release, number: int) -> Claim:
    files = _digests(release)
    if release.manifest.verdict is not None:
        files[VERDICT] = hashlib.sha256(to_json(release.manifest.verdict)).hexdigest()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = release.manifest.model_copy(update={"version": number, "created": created, "files": files})
    return Claim(same=release.same, manifest=manifest)


def _is_same(there: Claim, release: Release) -> bool:
    """Whether a claim is for the same model with the same verdict, whoever made it, when and from which commit.

    The deployed model counts too, unless it is the claimed version itself, which was promoted and is now compared with
    itself.
    """
    if (there.same, there.manifest.onnx_sha256) != (release.same, release.manifest.onnx_sha256):
        return False
    old, new = _outcome(there.manifest.verdict), _outcome(release.manifest.verdict)
    if new and new["deployed"] == hashlib.sha256(to_json(there.manifest)).hexdigest():
        new["deployed"] = old.get("deployed")
    return old == new


def _outcome(verdict: Verdict | None) -> dict[str, Any]:
    """Return the part of a verdict that identifies it, without measured times; empty for None."""
    if verdict is None:
        return {}
    against = verdict.deployed and verdict.deployed.manifest_sha256
    return {"passed": verdict.passed, "criteria": verdict.criteria, "deployed": against}


def _digests(release: Release) -> dict[str, str]:
    return {name: sha256_of(path) for name, path in release.files.items()}


def _key(model: str, number: int) -> str:
    return f"runs/{model}/{number}/claim.json"


def _read(store: Store, model: str, number: int) -> Claim:
    key = _key(model, number)
    try:
        claimed = Claim.model_validate_json(store.read(key))
        manifest = claimed.manifest
        if (manifest.name, manifest.version) != (model, number) or not (manifest.files and claimed.same):
            raise ValueError("it is of another version")
    except ValueError as error:  # pydantic's too
        raise ObjectError(f"{store.uri}: {key} is damaged ({error!r}), expected a claim; remove it") from error
    return claimed
