"""Signatures as model-signing makes them: each field altered, each byte of the file, other keys, other files."""

import base64
import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from model_signing import hashing, signing

from serving.storage.endpoint import endpoint_of_environment
from serving.storage.objects import StorageError, read
from serving.storage.signature import MAX_BYTES, SignatureError, Signatures, load_signatures, read_signers, verify

CONTENT = {"manifest.json": b'{"name": "things"}', "model.onnx": b"weights", "model.int8.onnx": b"small weights"}
FILES = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}


def private(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def signed_by(key: ec.EllipticCurvePrivateKey, folder: Path, content: dict[str, bytes] | None = None) -> bytes:
    """Return model-signing's signature on a version's files, which lie in `folder`/things-3 afterwards."""
    (folder / "things-3").mkdir()
    for name, data in (content or CONTENT).items():
        (folder / "things-3" / name).write_bytes(data)
    none = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    (folder / "key.pem").write_bytes(pem)
    config = signing.Config().use_elliptic_key_signer(private_key=folder / "key.pem")
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
    config.sign(folder / "things-3", folder / "model.sig")
    return (folder / "model.sig").read_bytes()


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return private()


@pytest.fixture(scope="module")
def bundle(key: ec.EllipticCurvePrivateKey, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return signed_by(key, tmp_path_factory.mktemp("signed"))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_valid_by_every_curve_of_model_signing(curve: ec.EllipticCurve, tmp_path: Path) -> None:
    mine = private(curve)
    pem = public_pem(mine)
    found = verify(signed_by(mine, tmp_path), FILES, read_signers(b"the cluster's:\n" + public_pem(private()) + pem))
    assert found == hashlib.sha256(pem).hexdigest()


def test_model_signing_verifies_what_we_publish(bundle: bytes, key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    """Whoever copies the folder of a version can check it with model-signing's own command."""
    (tmp_path / "public.pem").write_bytes(public_pem(key))
    (tmp_path / "model.sig").write_bytes(bundle)
    for name, data in CONTENT.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "public.pem").rename(tmp_path.parent / "public.pem")
    command = ["verify", "key", ".", "--signature", "model.sig", "--public_key", "../public.pem"]
    subprocess.run([sys.executable, "-m", "model_signing", *command], cwd=tmp_path, check=True)


def test_refused_when_a_bit_of_the_signature_flips(bundle: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    signers = read_signers(public_pem(key))
    for place in range(len(bundle)):
        for bit in range(8):
            altered = bytearray(bundle)
            altered[place] ^= 1 << bit
            with pytest.raises(SignatureError):
                verify(bytes(altered), FILES, signers)


def altered(value: Any) -> Iterator[Any]:
    """Yield copies of a JSON value, with one thing changed in each: a leaf, or a key more or less."""
    if isinstance(value, dict):
        yield value | {"more": ""}
        for name in value:
            yield {key: item for key, item in value.items() if key != name}
            yield from (value | {name: other} for other in altered(value[name]))
    elif isinstance(value, list):
        yield [*value, copy.deepcopy(value[0]) if value else {}]
        if value:
            yield value[1:]
        for place, item in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in altered(item))
    else:
        yield from (f"{value}0", None, True)


def test_refused_when_a_field_of_the_bundle_is_altered(bundle: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    signers, parsed = read_signers(public_pem(key)), json.loads(bundle)
    verify(json.dumps(parsed).encode(), FILES, signers)
    for other in altered(parsed):
        with pytest.raises(SignatureError):
            verify(json.dumps(other).encode(), FILES, signers)


def test_refused_when_the_signature_is_huge(bundle: bytes, key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    """It is read before anything is checked, into the memory of a server."""
    with pytest.raises(SignatureError, match=f"{MAX_BYTES:,}"):
        verify(bundle + b" " * MAX_BYTES, FILES, read_signers(public_pem(key)))
    with (file := tmp_path / "model.sig").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(StorageError, match=f"{MAX_BYTES:,}"):
        read(str(file), endpoint_of_environment({}), MAX_BYTES)


def resigned(bundle: bytes, key: ec.EllipticCurvePrivateKey, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return the bundle with a statement that the key's owner might sign, but model-signing never would."""
    parsed = json.loads(bundle)
    statement = json.loads(base64.b64decode(parsed["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    kind = parsed["dsseEnvelope"]["payloadType"]
    message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    parsed["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    parsed["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return json.dumps(parsed).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda statement: statement.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda statement: statement.update(predicateType="https://model_signing/Digests/v0.1"),
        lambda statement: statement["subject"].append(statement["subject"][0]),
        lambda statement: statement["subject"][0]["digest"].update(sha256="0" * 64),
        lambda statement: statement["predicate"]["serialization"].update(method="shards"),
        lambda statement: statement["predicate"]["serialization"].update(hash_type="blake2"),
        lambda statement: statement["predicate"]["resources"].pop(),
        lambda statement: statement["predicate"]["resources"].append(statement["predicate"]["resources"][0]),
        lambda statement: statement["predicate"]["resources"][0].update(algorithm="blake2"),
        lambda statement: statement["predicate"]["resources"][0].update(name="other.json"),
        lambda statement: statement["predicate"].pop("resources"),
    ],
)
def test_refused_when_the_statement_is_another(
    change: Callable[[dict[str, Any]], Any], bundle: bytes, key: ec.EllipticCurvePrivateKey
) -> None:
    signers = read_signers(public_pem(key))
    verify(resigned(bundle, key, lambda statement: statement["predicate"].update(later="field")), FILES, signers)
    with pytest.raises(SignatureError):
        verify(resigned(bundle, key, change), FILES, signers)


@pytest.mark.parametrize("name", FILES)
def test_refused_when_a_file_is_another_or_missing(name: str, bundle: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    signers = read_signers(public_pem(key))
    for files in (FILES | {name: "0" * 64}, {each: FILES[each] for each in FILES if each != name}, FILES | {"x": "0"}):
        with pytest.raises(SignatureError, match=f"signs other content of {name}|of x"):
            verify(bundle, files, signers)


def test_refused_when_the_key_is_unknown_or_only_says_to_be_ours(
    bundle: bytes, key: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    with pytest.raises(SignatureError, match="unknown key"):
        verify(bundle, FILES, read_signers(public_pem(private())))
    forged = json.loads(signed_by(private(), tmp_path))
    forged["verificationMaterial"] = json.loads(bundle)["verificationMaterial"]
    with pytest.raises(SignatureError, match="not made with the key"):
        verify(json.dumps(forged).encode(), FILES, read_signers(public_pem(key)))


def test_warn_goes_on_and_require_does_not(bundle: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    def unsigned() -> bytes:
        raise SignatureError("not signed")

    signers = read_signers(public_pem(key))
    for mode in ("warn", "require"):
        assert Signatures(mode, signers).check(FILES, lambda: bundle).startswith("valid, by key ")
    assert Signatures("warn", signers).check(FILES, unsigned) == "not valid: not signed"
    assert Signatures("warn").check(FILES, unsigned).startswith("not checked: ")
    assert Signatures("off", signers).check(FILES, unsigned).startswith("not checked: ")
    for given in (signers, {}):
        with pytest.raises(SignatureError, match="SIGNATURES is require"):
            Signatures("require", given).check(FILES, unsigned)


@pytest.mark.parametrize(
    "pem",
    [
        public_pem(private(ec.SECP256K1())),
        public_pem(rsa.generate_private_key(65537, 2048)),
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ],
    ids=["another curve", "RSA", "no key", "a private key"],
)
def test_signers_refused_when_they_are_other_than_public_keys(pem: bytes, tmp_path: Path) -> None:
    (tmp_path / "signers.pem").write_bytes(pem)
    with pytest.raises(SignatureError, match=r"signers\.pem: "):
        load_signatures("warn", tmp_path / "signers.pem")
    assert load_signatures("off", tmp_path / "signers.pem").signers == {}
    with pytest.raises(SignatureError, match=r"missing\.pem"):
        load_signatures("warn", tmp_path / "missing.pem")
