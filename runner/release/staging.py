"""A release between two Tasks: a commit's own code stages it, the code of PLATFORM_REVISION verifies and publishes it.

pipeline/<run>/release.json        the manifest without number and date, and the digest of each file
pipeline/<run>/release/<sha256>    the files of the run, model.onnx, and INT8 or FP16 where the gate took it

Whoever may push decides what a training makes, and so what is staged. Under which number it is published, and that no
other version is touched, is decided where it is published: the trainer's key cannot write models/. It can write what
other runs stage; so the Task gate gives the digest of release.json on as its result, past the store.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from runner.config.schema import MODEL_NAME, PinConfig
from runner.errors import MissingObjectError, StageError
from runner.release.contents import RUN_FILES, UNNUMBERED, Release, same_of
from runner.store import SCHEME, Store, is_key
from runner.store.published import to_json
from runner.workspace import scratch, sha256_of
from serving.storage.manifest import Manifest
from serving.vision.variants import variant_file

_SHA256 = re.compile("[0-9a-f]{64}")


def _key(text: str) -> str:
    if not is_key(text.removeprefix(SCHEME)):
        raise ValueError("names no object")
    return text


_Key = Annotated[str, AfterValidator(_key)]
_Digest = Annotated[str, Field(pattern=_SHA256.pattern, min_length=64, max_length=64)]


class _Figures(BaseModel):
    """Metrics of all classes, or of one, as far as the model card and the comparisons print them."""

    map50: float | None
    map50_95: float | None
    precision: float | None
    recall: float | None
    threshold: float | None
    map50_low: float | None = None
    map50_high: float | None = None
    classes: dict[str, "_Figures"] = {}


class _Dataset(BaseModel):
    url: _Key
    sha256: _Digest | None


class _Base(BaseModel):
    base: _Key
    sha256: _Digest | None


class _Params(BaseModel):
    """Sections of the configuration that later commands read in a manifest."""

    model: _Base
    pin: PinConfig


class StagedRelease(BaseModel):
    """Content of release.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: Manifest
    files: dict[str, str] = Field(description="file of the run, or of the model → sha256")


def stage(store: Store, release: Release, run: str) -> str:
    """Put a release under pipeline/<run>/, where another try replaces it; return the sha256 of release.json, in hex."""
    files = release.files | release.model_files
    digests = {name: sha256_of(file) for name, file in files.items()}
    for name, file in files.items():
        store.put_file(f"pipeline/{run}/release/{digests[name]}", file, digests[name])
    content = to_json({"manifest": release.manifest, "files": digests})
    store.replace(f"pipeline/{run}/release.json", content)
    return hashlib.sha256(content).hexdigest()


@contextmanager
def staged(store: Store, run: str, sha256: str, *, commit: str, is_trial: bool) -> Iterator[Release]:
    """Give what a run staged until the block ends; its files are copies that nobody else can change.

    `sha256` is that of release.json, as `stage` returned it. StageError: it is another, incomplete, of another commit
    than the run's, or contradicts itself; or `is_trial`, a run with values of its own, and it says that it is none.
    """
    where = f"pipeline/{run}/release.json"
    with scratch("publish-") as work:
        found = _read(store, run, sha256)
        if fault := _fault(found, commit, is_trial):
            raise StageError(f"{where}: {fault}; nothing is published")
        files = {name: work / name for name in found.files}
        for name, digest in found.files.items():
            store.fetch(f"pipeline/{run}/release/{digest}", files[name], digest)
        manifest = found.manifest.model_copy(update={"gated_by": f"PipelineRun {run}"})
        if _json(files["metrics.json"]) != json.loads(json.dumps(manifest.metrics)):
            raise StageError(f"{where}: has other metrics than its metrics.json; nothing is published")
        onnx, *variant = (files.pop(name) for name in manifest.model_files)
        yield Release(onnx, files, manifest, same_of(manifest, files), *variant)


def staged_text(store: Store, run: str, sha256: str, name: str) -> bytes:
    """Return a small file of the run that was staged, such as dvc.lock; `sha256` and errors as of `staged`."""
    digest = _read(store, run, sha256).files.get(name, "")
    with scratch("staged-") as work:
        store.fetch(f"pipeline/{run}/release/{digest}", work / "file", digest)
        return (work / "file").read_bytes()


def _read(store: Store, run: str, sha256: str) -> StagedRelease:
    where = f"pipeline/{run}/release.json"
    try:
        content = store.read(where)
        if (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise StageError(
                f"{where}: its sha256 is {found}, but gate of this run staged {sha256 or 'nothing'}: another run has "
                "replaced it; nothing is published"
            )
        return StagedRelease.model_validate_json(content)
    except (MissingObjectError, ValidationError) as error:
        raise StageError(
            f"{where}: expected what gate stages ({' '.join(str(error).split())[:300]}); a commit from before this "
            "version of the cluster stages nothing: bring its branch up to date"
        ) from error


def _fault(found: StagedRelease, commit: str, is_trial: bool) -> str:
    """Return the first reason why a staged release cannot be published; empty for none."""
    manifest, verdict, files = found.manifest, found.manifest.verdict, found.files
    odd = sorted(files.keys() ^ {*RUN_FILES, *manifest.model_files})
    if odd or not all(_SHA256.fullmatch(sha256) for sha256 in files.values()):
        return f"expected the files of a run, each with its sha256; missing or odd: {', '.join(odd) or 'a sha256'}"
    if not re.fullmatch(MODEL_NAME, manifest.name):
        return f"{manifest.name!r} is no name for a model"
    if manifest.version != UNNUMBERED or manifest.created or manifest.files:
        return "has a number, a date or digests already, which are given where it is published"
    if manifest.commit != commit:
        return f"is of commit {manifest.commit}, expected {commit}"
    if is_trial and not manifest.trial:
        return "says nothing of the values that this run was started with"
    for name, sha256 in manifest.model_files.items():
        if files[name] != sha256:
            return f"has another {name} ({files[name][:12]}…) than its manifest says"
    for part, kind, content in (
        ("params", _Params, manifest.params),
        ("dataset", _Dataset, manifest.dataset),
        ("metrics", _Figures, manifest.metrics),
    ):
        try:
            kind.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            return f"has other {part} than a run: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    if verdict is None or verdict.onnx_sha256 != manifest.onnx_sha256:
        return "has no verdict on its model.onnx"
    rules = manifest.params.get("gate")
    if not isinstance(rules, dict) or not verdict.criteria.items() <= rules.items():
        return "has a verdict by other criteria than the section gate of its params"
    taken = verdict.variant.sha256 if verdict.variant and verdict.variant.passed else None
    if manifest.variant and manifest.variant.sha256 != taken:
        return f"has no verdict that takes its {variant_file(manifest.variant.kind)}"
    if verdict.passed and verdict.failed:
        return f"passed, but {', '.join(each.criterion for each in verdict.failed)} failed"
    return ""


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        return None
