"""Publish a version of a model to the store: atomically, once, under a number that is used once.

runs/<model>/<n>/claim.json         takes the number (`runner.release.claims`)
runs/<model>/<n>/…                  the run: report, params, metrics, verdict, weights, curves, dvc.lock, model card
models/<model>/<n>/model.onnx       and model.int8.onnx or model.fp16.onnx where the gate took it
models/<model>/<n>/model.sig        the signature of these files and the manifest, where there is a key
models/<model>/<n>/manifest.json    from here on the version exists
models/<model>/latest.json          the newest version that passed the gate
"""

import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runner.errors import ObjectError
from runner.release.bill import BILL, bill_of_materials
from runner.release.card import model_card
from runner.release.claims import claim
from runner.release.contents import Release
from runner.release.signing import check_key, sign, signing_key
from runner.release.verdict import OUTCOMES
from runner.store import Store
from runner.store.published import VERDICT, Version, latest, numbers, parse_version, read_version, to_json, version_key
from runner.store.signatures import check_signature, signed_files
from runner.workspace import project_root
from serving.storage.manifest import Manifest
from serving.storage.signature import MANIFEST, SIGNATURE

CARD = "README.md"
_AT_ONCE = 4  # parallel uploads of a run's files


class PublishResult(NamedTuple):
    """A published version; `is_new` when it did not exist before, `uri` is its manifest's."""

    version: Version
    uri: str
    is_new: bool
    is_latest: bool
    signature: str  # in words, whether it is signed

    def as_text(self) -> str:
        """Return the result, to print."""
        latest = ", now the latest" if self.is_latest else ""
        state = "published" if self.is_new else "in the store already:"
        name = f"{self.version.model} {self.version.number}"
        outcome = f"gate: {OUTCOMES[self.version.passed]}{latest}; signature: {self.signature}"
        return f"{state} {name} ({outcome})\n{self.uri}"

    def as_json(self) -> str:
        """Return model, version, uri and sha256 of the manifest, whether it passed, is the latest, and is new."""
        version = self.version
        what = {"model": version.model, "version": version.number, "uri": self.uri, "sha256": version.sha256}
        return json.dumps(what | {"passed": version.passed, "latest": self.is_latest, "new": self.is_new}, indent=2)


def publish(store: Store, release: Release) -> PublishResult:
    """Publish a release, or complete it; publishing the same again returns the same version.

    StageError: SIGNATURES is require, and the version would have no valid signature.
    """
    check_key(project_root())
    manifest, exists = claim(store, release)
    number = int(manifest.version)
    if exists:
        version = read_version(store, manifest.name, number)
    else:
        _write(store, release, manifest, f"runs/{manifest.name}/{number}")
        version = parse_version(to_json(manifest), store.uri)
    signature = check_signature(project_root(), store, version)
    uri = store.uri_of(version_key(manifest.name, number))
    return PublishResult(version, uri, not exists, _point(store, version), signature)


def _write(store: Store, release: Release, manifest: Manifest, run: str) -> None:
    """Put the objects of a version in order, those of its run under the key `run`; existing ones stay."""
    model, number = manifest.name, int(manifest.version)
    with tempfile.TemporaryDirectory(prefix="flywheel-publish-") as scratch:

        def written(name: str, content: bytes) -> Path:
            path = Path(scratch, name)
            path.write_bytes(content)
            return path

        files = dict(release.files)
        if manifest.verdict is not None:
            files[VERDICT] = written(VERDICT, to_json(manifest.verdict))
        following: dict[str, Callable[[Manifest], str]] = {CARD: model_card, BILL: bill_of_materials}
        for name, text in following.items():
            if not store.exists(f"{run}/{name}"):  # keep the first try's: a newer runner may word it differently
                files[name] = written(name, text(manifest).encode())
        objects = {f"{run}/{name}": (path, manifest.files.get(name)) for name, path in files.items()}
        for name, path in release.model_files.items():
            objects[version_key(model, number, name)] = (path, manifest.model_files[name])

        def put(key: str) -> bool:
            return store.put_file(key, *objects[key])

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(put, objects))
        last = written(MANIFEST, to_json(manifest))
        if (signing := signing_key()) and not store.exists(version_key(model, number, SIGNATURE)):
            bundle = sign(f"{model}-{number}", release.model_files | {MANIFEST: last}, signing)
            store.put_file(version_key(model, number, SIGNATURE), written(SIGNATURE, bundle))
        store.put_file(version_key(model, number), last)
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # `store gc` may have removed meanwhile what an earlier try had put
            list(pool.map(put, objects))


def _point(store: Store, version: Version) -> bool:
    """Point latest.json at the newest version that passed, and tag it so; return whether that is this one.

    Checks again after each change: of several publishers, the last to change something sees the others' changes.
    """
    model = version.model
    tagged: int | None = -1  # none yet
    while (former := latest(store, model)) != tagged:
        newer = (read_version(store, model, n) for n in reversed(numbers(store, model)) if n > (former or 0))
        if newest := next((version for version in newer if version.may_be_latest), None):
            store.replace(f"models/{model}/latest.json", to_json({"version": newest.number, "sha256": newest.sha256}))
        else:
            _tag(store, model, former, since=min(version.number, former or version.number))
            tagged = former
    return former == version.number


def _tag(store: Store, model: str, newest: int | None, *, since: int) -> None:
    """Tag the versions from the last down to the one that was the latest before `since`."""
    for number in reversed(numbers(store, model)):
        with suppress(ObjectError):  # removed meanwhile
            version = read_version(store, model, number)
            tags = {"training-run": str(number), **({"stage": "latest"} if number == newest else {})}
            for file, sha256 in signed_files(version).items():
                if not store.tag(version_key(model, number, file), tags | {"sha256": sha256}):
                    return
            if version.may_be_latest and number < since:
                return
