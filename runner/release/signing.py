"""Signatures of published versions, made by model-signing: models/<model>/<n>/model.sig beside the manifest.

SIGNING_KEY is the file of the private key; in a cluster the Task publish alone has it. runner/store/signatures.py reads
them.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from runner.errors import ObjectError, StageError
from runner.release.pin import environments, read_pin
from runner.store import Store
from runner.store.published import Version, version_key
from runner.store.signatures import FOLDER, check_verdict, is_signed, signatures_of, signed_files
from runner.workspace import link, scratch
from serving.storage.signature import SIGNATURE, SignatureError


def signing_key() -> Path | None:
    """Return the file of SIGNING_KEY; None where it is not set, or there is none: a cluster may have no key."""
    key = os.environ.get("SIGNING_KEY")
    return Path(key) if key and Path(key).is_file() else None


def key_id(private: bytes, where: str) -> str:
    """Return how signatures name a private key in PEM: the sha256 of its public half; StageError: it is none."""
    from cryptography.hazmat.primitives import serialization

    try:
        public = serialization.load_pem_private_key(private, None).public_key()
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise StageError(f"{where}: {error}; expected the private key that docs/signatures.md makes") from error
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def check_key(project: Path) -> str:
    """Return in words whether the next version will be signed, and with what result.

    StageError: SIGNATURES is require, and there is no key, or its public half is not among the signers.
    """
    signatures, key = signatures_of(project), signing_key()
    if key is None:
        said = "without a signature: there is no key (docs/signatures.md)"
    elif (name := key_id(key.read_bytes(), f"SIGNING_KEY {key}")) in signatures.signers:
        return f"signed by key {name[:12]}"
    else:
        said = f"signed by key {name[:12]}, which is not among the signers in {FOLDER / 'signers.pem'}"
    if signatures.mode == "require":
        raise StageError(f"the version would be {said}; SIGNATURES is require, so nothing is published")
    return said


def sign(name: str, files: Mapping[str, Path], key: Path) -> bytes:
    """Return the signature of a version's files, by name; StageError: the key is none that can sign.

    `name` is what the signature calls the version.
    """
    # model-signing needs a second, and most commands sign nothing
    from model_signing import hashing, signing

    with scratch("sign-") as work:
        folder = work / name
        folder.mkdir()
        for file, source in files.items():
            link(source, folder / file)
        hashed = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
        try:
            signer = signing.Config().set_hashing_config(hashed).use_elliptic_key_signer(private_key=key)
        except (ValueError, TypeError) as error:  # another curve, or another kind of key
            raise StageError(f"SIGNING_KEY {key}: {error}; expected the key that docs/signatures.md makes") from error
        signer.sign(folder, work / SIGNATURE)
        return (work / SIGNATURE).read_bytes()


def sign_version(project: Path, store: Store, version: Version) -> str:
    """Sign a version that is in the store, such as one from before there was a key; return the result, to print.

    StageError: there is no key; ObjectError: a file is damaged, or an environment is pinned to another manifest.
    """
    name, key = f"{version.model} {version.number}", signing_key()
    if key is None:
        raise StageError("SIGNING_KEY names no file, expected the private key that docs/signatures.md makes")
    uri = store.uri_of(version_key(version.model, version.number))
    for environment in environments(project):
        pin = read_pin(project, environment)
        if pin and pin.uri == uri and pin.sha256 != version.sha256:
            raise ObjectError(
                f"{uri}: its sha256 is {version.sha256}, but {environment} is pinned to {pin.sha256}: the object was "
                "replaced, so it is not signed; `python -m runner store verify --restore` brings the first one back"
            )
    if is_signed(signatures_of(project).signers, store, version):
        return f"{name}: signed already"
    with tempfile.TemporaryDirectory(prefix="flywheel-sign-") as work:
        files = {file: Path(work, file) for file in signed_files(version)}
        for file, sha256 in signed_files(version).items():
            store.fetch(version_key(version.model, version.number, file), files[file], sha256)
        try:
            check_verdict(store, version)
        except SignatureError as error:
            raise ObjectError(f"{store.uri}: {name}: {error}, so it is not signed") from error
        bundle = sign(f"{version.model}-{version.number}", files, key)
    store.replace(version_key(version.model, version.number, SIGNATURE), bundle)  # maybe one of a former key
    by = key_id(key.read_bytes(), f"SIGNING_KEY {key}")
    return f"{name}: signed by key {by[:12]}, manifest sha256 {version.sha256}"
