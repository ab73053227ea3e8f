"""Signature of a published version: model.sig, as model-signing writes it with an elliptic-curve key.

The file is a Sigstore bundle (v0.3) around a DSSE envelope (https://github.com/secure-systems-lab/dsse, protocol v1)
around an in-toto statement (v1) that lists the version's files with their digests (predicate
https://model_signing/signature/v1.0). Verified here with `cryptography` alone, and more strictly than model-signing
does: no field may be altered, not even one that the signature does not cover.
"""

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

Signers = Mapping[str, "EllipticCurvePublicKey"]  # public keys by key id
log = logging.getLogger(__name__)
MANIFEST, SIGNATURE = "manifest.json", "model.sig"  # beside each other
MODES = ("off", "warn", "require")
MAX_BYTES = 1 << 20  # of model.sig, which has some 2 kB
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----\s.+?-----END PUBLIC KEY-----", re.DOTALL)


class SignatureError(Exception):
    """A version is not signed, or its signature is not valid; the text says what was expected."""


def _from_base64(text: object) -> bytes:
    """Return the bytes of a text that no other text stands for."""
    if not isinstance(text, str):
        raise ValueError("expected text")
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("expected canonical base64")
    return data


_Base64 = Annotated[bytes, PlainValidator(_from_base64)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _PublicKey(_Strict):
    hint: _Sha256


class _Material(_Strict):
    public_key: _PublicKey = Field(alias="publicKey")
    log_entries: list[str] = Field(alias="tlogEntries", max_length=0)  # a key's signature is in no log


class _Sig(_Strict):
    sig: _Base64
    keyid: Literal[""]


class _Envelope(_Strict):
    payload: _Base64
    payload_type: Literal["application/vnd.in-toto+json"] = Field(alias="payloadType")
    signatures: list[_Sig] = Field(min_length=1, max_length=1)


class _Bundle(_Strict):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = Field(alias="mediaType")
    material: _Material = Field(alias="verificationMaterial")
    envelope: _Envelope = Field(alias="dsseEnvelope")


class _Sha256Digest(BaseModel):
    sha256: _Sha256


class _Subject(BaseModel):
    name: str
    digest: _Sha256Digest


class _SignedFile(BaseModel):
    name: str
    algorithm: Literal["sha256"]
    digest: _Sha256


class _Serialization(BaseModel):
    method: Literal["files"]
    hash_type: Literal["sha256"]


class _Predicate(BaseModel):
    serialization: _Serialization
    resources: list[_SignedFile]


class _Statement(BaseModel):
    """Fields of other versions of model-signing are kept out of the way: the signature covers them too."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: list[_Subject] = Field(min_length=1, max_length=1)
    predicate_type: Literal["https://model_signing/signature/v1.0"] = Field(alias="predicateType")
    predicate: _Predicate


class Signatures(NamedTuple):
    """Whose signatures count, and what follows from a missing or wrong one."""

    mode: str = "warn"  # off | warn | require
    signers: "Signers" = MappingProxyType({})  # see `read_signers`

    def check(self, files: Mapping[str, str], read: Callable[[], bytes]) -> str:
        """Return in words what the signature of a version says.

        `files` are the version's, name → sha256; `read` returns model.sig or raises SignatureError. SignatureError: the
        mode is require, and there is no valid signature; with warn this is logged and returned.
        """
        if self.mode == "off":
            return "not checked: SIGNATURES is off"
        try:
            if not self.signers:
                raise SignatureError("no public key is configured")
            return f"valid, by key {verify(read(), files, self.signers)[:12]}"
        except SignatureError as error:
            if self.mode == "require":
                raise SignatureError(f"{error}; SIGNATURES is require") from error
            if not self.signers:
                return f"not checked: {error}"
            log.warning("signature not valid: %s; SIGNATURES is warn, so the model is used all the same", error)
            return f"not valid: {error}"


def load_signatures(mode: str, file: Path | None) -> Signatures:
    """Return what SIGNATURES and the PEM file of public keys say (None: no keys); SignatureError: it cannot be read."""
    if mode == "off" or file is None:
        return Signatures(mode)
    try:
        return Signatures(mode, read_signers(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise SignatureError(f"{file}: {error}; expected a file of public keys, docs/signatures.md") from error


def read_signers(pem: bytes) -> "Signers":
    """Return the public keys of a PEM file by key id, the sha256 of their PEM; text around them is skipped.

    ValueError: one is no elliptic-curve key on P-256, P-384 or P-521.
    """
    if b"-----BEGIN" not in pem:
        return {}  # without a key nothing need be loaded that knows keys
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    found: dict[str, ec.EllipticCurvePublicKey] = {}
    for block in _PEM.findall(pem):
        try:
            key = serialization.load_pem_public_key(block)
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
            raise ValueError("expected public keys on the curves P-256, P-384 or P-521")
        written = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        found[hashlib.sha256(written).hexdigest()] = key
    if pem.count(b"-----BEGIN") != len(found):
        raise ValueError("expected PUBLIC KEY blocks alone, each once")
    return found


def verify(bundle: bytes, files: Mapping[str, str], signers: "Signers") -> str:
    """Return the id of the key that signed these files, name → sha256, no more and no fewer; raise SignatureError."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if len(bundle) > MAX_BYTES:
        raise SignatureError(f"{SIGNATURE}: has {len(bundle):,} bytes, expected at most {MAX_BYTES:,}")
    try:
        parsed = _Bundle.model_validate_json(bundle)
    except ValidationError as error:
        raise SignatureError(f"{SIGNATURE}: {_first(error)}; expected a bundle as model-signing writes it") from error
    envelope, key_id = parsed.envelope, parsed.material.public_key.hint
    if (key := signers.get(key_id)) is None:
        known = ", ".join(each[:12] for each in signers)
        raise SignatureError(f"{SIGNATURE}: by the unknown key {key_id[:12]}; expected one of {known}")
    # The pre-authentication encoding: everything that is signed, with its length.
    kind, payload = envelope.payload_type.encode(), envelope.payload
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    sizes = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    try:
        key.verify(envelope.signatures[0].sig, signed, ec.ECDSA(sizes[key.curve.key_size]))
    except InvalidSignature as error:
        raise SignatureError(f"{SIGNATURE}: not made with the key {key_id[:12]} that it names, or altered") from error
    try:
        statement = _Statement.model_validate_json(payload)
    except ValidationError as error:
        raise SignatureError(f"{SIGNATURE}: {_first(error)}; expected a statement of model-signing 1") from error
    listed = statement.predicate.resources
    root = hashlib.sha256(b"".join(bytes.fromhex(each.digest) for each in listed)).hexdigest()
    if root != statement.subject[0].digest.sha256:
        raise SignatureError(f"{SIGNATURE}: contradicts itself: its files do not have the digest of its subject")
    digests = {each.name: each.digest for each in listed}
    if len(digests) != len(listed) or digests != dict(files):
        odd = sorted(name for name in digests.keys() | files.keys() if digests.get(name) != files.get(name))
        raise SignatureError(f"{SIGNATURE}: signs other content of {', '.join(odd) or 'a file that is listed twice'}")
    return key_id


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'text'}: {first['msg']}"
