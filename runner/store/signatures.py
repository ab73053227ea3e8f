"""Signatures of published versions, verified: models/<model>/<n>/model.sig beside the manifest.

Whose signatures count, and whether a version must be signed, stand in Git: gitops/components/signers. SIGNATURES and
SIGNERS of the environment go before it. runner/release/signing.py makes signatures.
"""

import os
from pathlib import Path

from runner.errors import ConfigError, MissingObjectError, ObjectError
from runner.store import Store
from runner.store.published import VERDICT, Version, version_key
from runner.workspace import parse_assignments
from serving.storage.signature import (
    MANIFEST,
    MODES,
    SIGNATURE,
    SignatureError,
    Signatures,
    Signers,
    load_signatures,
    verify,
)

FOLDER = Path("gitops/components/signers")


def signatures_of(project: Path) -> Signatures:
    """Return whose signatures count for a project, and whether they are required; ConfigError: its files are wrong."""
    settings, signers = project / FOLDER / "signatures.env", os.environ.get("SIGNERS")
    mode = os.environ.get("SIGNATURES", "")
    if not mode and settings.is_file():
        lines = settings.read_text(encoding="utf-8").splitlines()
        mode = parse_assignments(lines, settings, ("SIGNATURES",)).get("SIGNATURES", "")
    if (mode := mode or "warn") not in MODES:
        raise ConfigError(f"SIGNATURES is {mode!r}, expected {', '.join(MODES)}; it stands in {settings}")
    file = Path(signers) if signers else project / FOLDER / "signers.pem"
    try:
        return load_signatures(mode, file if signers or file.is_file() else None)
    except SignatureError as error:
        raise ConfigError(str(error)) from error


def check_signature(project: Path, store: Store, version: Version) -> str:
    """Return in words what the signature of a version says; its verdict.json is compared with the signed manifest.

    ObjectError: SIGNATURES is require, and the version has no valid signature.
    """
    key = version_key(version.model, version.number, SIGNATURE)

    def bundle() -> bytes:
        check_verdict(store, version)
        try:
            return store.read(key)
        except MissingObjectError as error:
            raise SignatureError("not signed; `python -m runner models sign` signs it") from error

    try:
        return signatures_of(project).check(signed_files(version), bundle)
    except SignatureError as error:
        raise ObjectError(f"{store.uri}: {version.model} {version.number}: {error}") from error


def is_signed(signers: Signers, store: Store, version: Version) -> bool:
    """Whether one of the signers signed a version, its verdict included."""
    if not signers:
        return False  # without a look into the store
    try:
        check_verdict(store, version)
        verify(store.read(version_key(version.model, version.number, SIGNATURE)), signed_files(version), signers)
    except (MissingObjectError, SignatureError):
        return False
    return True


def check_verdict(store: Store, version: Version) -> None:
    """Compare the verdict.json of a version's run with its manifest; SignatureError: it is missing, or another."""
    sha256 = version.manifest.files.get(VERDICT)
    if sha256 is None:
        return
    try:
        found = store.digest(f"runs/{version.model}/{version.number}/{VERDICT}")
    except MissingObjectError as error:
        raise SignatureError(f"{VERDICT} is missing, which the manifest names") from error
    if found != sha256:
        raise SignatureError(f"{VERDICT} has sha256 {found}, not {sha256} as the manifest says")


def signed_files(version: Version) -> dict[str, str]:
    """Return name → sha256 of the files that a version's signature covers."""
    return version.manifest.model_files | {MANIFEST: version.sha256}
