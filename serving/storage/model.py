"""Model by URI: fetched, checked by digest, loaded into a detector."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from pydantic import ValidationError

from serving.storage.detections import ModelName
from serving.storage.endpoint import Endpoint
from serving.storage.manifest import Latest, Manifest, Thresholds
from serving.storage.objects import StorageError, read, size_of
from serving.storage.signature import MANIFEST, MAX_BYTES, SIGNATURE, SignatureError, Signatures
from serving.vision.detector import Detector, on_gpu
from serving.vision.metadata import ModelError
from serving.vision.variants import FLOAT, int8_instructions, suits, variant_file

LATEST = "latest.json"
_VERSION = re.compile(r".*/models/([^/]+)/([1-9][0-9]*)/manifest\.json")


class LoadingError(Exception):
    """The model cannot be served; the text says what is wrong and what was expected."""


class Source(NamedTuple):
    """Where a model is."""

    uri: str  # of a manifest.json or an .onnx
    sha256: str | None  # hex digest of the file at `uri`; None: not checked


class ServedFile(NamedTuple):
    """File of a version that a server runs, and why this one."""

    file: str
    kind: str  # float, int8 or fp16
    sha256: str
    reason: str


class Model(NamedTuple):
    """A loaded model."""

    detector: Detector
    name: ModelName  # in answers
    manifest: Manifest | None  # None where MODEL_URI names a bare .onnx
    thresholds: Sequence[float]  # a confidence for each class, in the order of the detector's
    served: ServedFile
    signature: str  # in words, whether the version's signature is valid


def source_of(uri: str, endpoint: Endpoint, sha256: str | None = None) -> Source:
    """Return the manifest of the version that a latest.json names now; another URI is a source itself.

    `sha256` is the digest of the file at `uri`. LoadingError: latest.json cannot be read, or is none.
    """
    if uri.rpartition("/")[2] != LATEST:
        return Source(uri, sha256)
    try:
        latest = Latest.model_validate_json(_checked(uri, endpoint, sha256, "MODEL_SHA256"))
    except StorageError as error:
        raise LoadingError(str(error)) from error
    except ValidationError as error:
        raise LoadingError(_said(uri, error)) from error
    return Source(f"{uri[: -len(LATEST)]}{latest.version}/manifest.json", latest.sha256)


def load_model(
    uri: str,
    endpoint: Endpoint,
    *,
    sha256: str | None = None,
    version: str | None = None,
    commit: str | None = None,
    variant: bool = True,
    instructions: Sequence[str] | None = None,
    admit: Callable[[int], None] = lambda size: None,
    signatures: Signatures = Signatures("off"),  # noqa: B008 - immutable
) -> Model:
    """Load the model of a manifest.json or an .onnx, by path or s3://bucket/key, or raise LoadingError.

    `sha256` is the hex digest of the file at `uri` (None: not checked); `version` and `commit` are reported for a bare
    .onnx, which has no manifest. A manifest's variant is loaded where this machine suits it, unless `variant` is False.
    `instructions` are this CPU's (None: as /proc/cpuinfo says). `admit` is given the bytes of the model file before
    it is read, and may raise LoadingError. `signatures` tell whether the version must be signed; a bare .onnx is not.
    """
    folder = uri[: uri.rfind("/") + 1]

    def bundle() -> bytes:
        try:
            return read(f"{folder}{SIGNATURE}", endpoint, MAX_BYTES)
        except StorageError as error:
            raise SignatureError(f"not signed, or its signature cannot be read: {error}") from error

    try:
        data = _checked(uri, endpoint, sha256, "MODEL_SHA256")
        if uri.endswith(".onnx"):
            digest = hashlib.sha256(data).hexdigest()
            signature = signatures.check({}, _unsigned)
            name = ModelName(name=PurePosixPath(uri).stem, version=version, sha256=digest, commit=commit or None)
            detector = Detector(data)
            served = ServedFile(PurePosixPath(uri).name, FLOAT, digest, "MODEL_URI names it")
            return Model(detector, name, None, Thresholds().of(detector.classes), served, signature)
        manifest = Manifest.model_validate_json(data)
        place = _VERSION.fullmatch(uri)
        if place and place.groups() != (manifest.name, str(manifest.version)):  # however well it is signed
            raise LoadingError(
                f"{uri}: is the manifest of {manifest.name} {manifest.version}; expected that of this place"
            )
        signature = signatures.check(manifest.model_files | {MANIFEST: hashlib.sha256(data).hexdigest()}, bundle)
        here = int8_instructions() if instructions is None else instructions
        served = _choose(manifest, variant, here)
        beside, field = f"{folder}{served.file}", "onnx_sha256" if served.kind == FLOAT else "variant"
        admit(size_of(beside, endpoint))
        content = _checked(beside, endpoint, served.sha256, f"{field} of {uri}")
        detector = Detector(content, form=manifest.preprocessing.form, known=manifest.known)
    except (StorageError, ModelError, SignatureError) as error:
        raise LoadingError(str(error) if isinstance(error, StorageError) else f"{uri}: {error}") from error
    except ValidationError as error:
        raise LoadingError(_said(uri, error)) from error
    if detector.classes != manifest.classes:
        raise LoadingError(f"{uri}: classes are {manifest.classes}, but {served.file} has {detector.classes}")
    name = ModelName(
        name=manifest.name, version=str(manifest.version), sha256=manifest.onnx_sha256, commit=manifest.commit
    )
    return Model(detector, name, manifest, manifest.thresholds.of(detector.classes), served, signature)


def _unsigned() -> bytes:
    raise SignatureError("an .onnx by itself is not signed; expected the manifest.json of a version")


def _choose(manifest: Manifest, wanted: bool, instructions: Sequence[str]) -> ServedFile:
    """Return the variant on hardware that suits it, if it is wanted, else model.onnx."""
    variant = manifest.variant
    if variant is None:
        reason = "the version has no variant"
    elif not wanted:
        reason = f"MODEL_VARIANT is {FLOAT}"
    else:
        suitable, reason = suits(variant.kind, variant.instructions, instructions, gpu=on_gpu())
        if suitable:
            return ServedFile(variant_file(variant.kind), variant.kind, variant.sha256, reason)
    return ServedFile(variant_file(FLOAT), FLOAT, manifest.onnx_sha256, reason)


def _checked(uri: str, endpoint: Endpoint, sha256: str | None, source: str) -> bytes:
    data = read(uri, endpoint)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise LoadingError(f"{uri}: its sha256 is {found}; expected {sha256}, as {source} says")
    return data


def _said(uri: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "text"
    return f"{uri}: {where}: {first['msg']}; expected a file as `publish` writes it"
