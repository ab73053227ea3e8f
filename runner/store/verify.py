"""`store verify`: check the digest of every object against its name or a manifest, and the signatures of versions."""

import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tqdm import tqdm

from runner.errors import MissingObjectError, ObjectError, StoreError
from runner.store import SCHEME, Store, is_key
from runner.store.bucket import Bucket
from runner.store.published import Version, latest, model_names, numbers, read_version, version_key
from runner.store.restore import bucket_of, copy_back, overwritten, restored, restored_signature
from runner.store.signatures import signed_files
from serving.storage.signature import SIGNATURE, SignatureError, Signatures, Signers, verify

_AT_ONCE = 4
_RESTORE = "`python -m runner store verify --restore` brings back an earlier version of it, where the store keeps them"
_NAMED_BY_DIGEST = re.compile(
    r"datasets/[^/]+/([0-9a-f]{12})\.(?:jsonl|zip)|weights/([0-9a-f]{12})-[^/]+"
    r"|datasets/[^/]+/pictures/([0-9a-f]{64})(?:\.[a-z0-9]+)?"
)
_UNSIGNED = Signatures("off")
INDEX = re.compile(r"datasets/[^/]+/[0-9a-f]{12}\.jsonl")  # of a dataset's version
_PICTURE_IN_INDEX = re.compile(r'\["([0-9a-f]{64})",')


class ExpectedDigest(NamedTuple):
    """Digest of an object, or its beginning, and the name or manifest that says so."""

    key: str
    sha256: str
    source: str


class WrongSignature(NamedTuple):
    """A version whose signature is missing or not valid."""

    version: Version
    text: str
    is_missing: bool


def verify_store(store: Store, *, signatures: Signatures = _UNSIGNED, restore: bool = False) -> tuple[str, bool]:
    """Hash every object with a known digest; return a line for each finding, and whether there is no error.

    A version left by a killed `publish` is a note, not an error: it is invisible, and the next `publish` completes it.
    A signature that is not valid is an error; a missing one only where `signatures` are required.
    With `restore`, what was overwritten or removed is brought back from an earlier version of it, and checked again;
    StoreError: the store keeps none, or the user is not the endpoint's administrator.
    """
    if restore:
        lines = [f"restored  {line}" for line in _restore(store, signatures)]
        text, well = verify_store(store, signatures=signatures)
        return "\n".join([*lines, text]), well
    keys, notes = store.list(""), list[str]()
    expected, versions, errors = _expected(store, keys)
    errors += [*_wrong_pointers(store, keys), *(text for _, text in _wrong_objects(store, expected))]
    errors += list(dict.fromkeys(text for _, text in _incomplete_datasets(store, keys)))
    bad = list(_wrong_signatures(store, versions, signatures.signers))
    required = signatures.mode == "require"
    errors += [each.text for each in bad if required or not each.is_missing]
    notes += [each.text for each in bad if each.is_missing and not required]
    if signatures.mode != "off" and not signatures.signers:
        (errors if required else notes).append("no signature was checked: no public key is configured")
    try:
        for key, _ in overwritten(store):
            errors.append(f"{store.uri}: {key}: is not the one that was published; as administrator, {_RESTORE}")
    except StoreError as error:
        notes.append(f"whether a manifest was overwritten is unknown: {error}")
    lines = [f"FAIL  {error}" for error in errors] + [f"note  {note}" for note in (*notes, *_unfinished(keys))]
    valid = f"{len(versions) - len(bad)} valid signatures, " if signatures.signers else ""
    hashed = f"{len({each.key for each in expected})} objects of {len(versions)} versions hashed"
    lines.append(f"{hashed}, {valid}{len(errors)} errors")
    return "\n".join(lines), not errors


def _expected(store: Store, keys: list[str]) -> tuple[list[ExpectedDigest], list[Version], list[str]]:
    """Return the known digests, the versions with a manifest, and the errors of the others."""
    errors, versions = list[str](), list[Version]()
    matches = ((key, _NAMED_BY_DIGEST.fullmatch(key)) for key in keys)
    expected = [ExpectedDigest(key, match[match.lastindex or 0], "its name") for key, match in matches if match]
    for model in model_names(store):
        for number in numbers(store, model):
            try:
                versions.append(read_version(store, model, number))
            except ObjectError as error:
                errors.append(str(error))
    for each in (each for version in versions for each in _digests_in(version)):
        if is_key(each.key):
            expected.append(each)
        else:
            errors.append(f"{store.uri}: {each.source}: names {each.key[:80]!r}, expected a key of the store")
    return expected, versions, errors


def _wrong_signatures(store: Store, versions: list[Version], signers: Signers) -> Iterator[WrongSignature]:
    for version in versions if signers else ():
        name = f"{version.model} {version.number}"
        key = version_key(version.model, version.number, SIGNATURE)
        try:
            verify(store.read(key), signed_files(version), signers)
        except MissingObjectError:
            text = f"{name} is not signed; `python -m runner models sign` signs it"
            yield WrongSignature(version, text, is_missing=True)
        except (ObjectError, SignatureError) as error:
            text = f"{store.uri}: {name}: {error}; {_RESTORE}; `python -m runner models sign` signs it anew"
            yield WrongSignature(version, text, is_missing=False)


def _restore(store: Store, signatures: Signatures) -> Iterator[str]:
    """Bring back what was overwritten or removed; yield a line for each object. Manifests first: they have digests."""
    bucket = bucket_of(store)
    if bucket is None:
        raise StoreError(
            f"{store.uri} keeps no earlier versions, so none can be restored; add or publish again what is damaged"
        )
    for key, first in overwritten(store):
        copy_back(bucket, key, first)
        yield f"{key}, as it was published at {first.stored:%Y-%m-%d %H:%M}"
    keys = store.list("")
    expected, versions, _ = _expected(store, keys)
    yield from _brought_back(bucket, {each.key: each.sha256 for each, _ in _wrong_objects(store, expected)})
    for version, _, _ in _wrong_signatures(store, versions, signatures.signers):
        key = version_key(version.model, version.number, SIGNATURE)
        if stored := restored_signature(bucket, key, signed_files(version), signatures.signers):
            yield f"{key}, as it was stored at {stored:%Y-%m-%d %H:%M}"
    yield from _brought_back(bucket, dict(picture for picture, _ in _incomplete_datasets(store, keys)))  # by its index


def _brought_back(bucket: Bucket, digests: dict[str, str]) -> Iterator[str]:
    for key, sha256 in digests.items():
        if stored := restored(bucket, key, sha256):
            yield f"{key}, as it was stored at {stored:%Y-%m-%d %H:%M}"


def _digests_in(version: Version) -> Iterator[ExpectedDigest]:
    model, number, manifest = version.model, version.number, version.manifest
    source = version_key(model, number)
    for file, sha256 in manifest.model_files.items():
        yield ExpectedDigest(version_key(model, number, file), sha256, source)
    for name, sha256 in manifest.files.items():
        yield ExpectedDigest(f"runs/{model}/{number}/{name}", sha256, source)
    # A commit's own code wrote what follows.
    dataset, base = manifest.dataset, manifest.params.get("model")
    if dataset.get("sha256") and str(dataset.get("url")).startswith(SCHEME):
        yield ExpectedDigest(str(dataset["url"]).removeprefix(SCHEME), str(dataset["sha256"]), source)
    if isinstance(base, dict) and base.get("sha256"):
        sha256 = str(base["sha256"])
        yield ExpectedDigest(f"weights/{sha256[:12]}-{base.get('base')}", sha256, source)


def _wrong_objects(store: Store, expected: list[ExpectedDigest]) -> Iterator[tuple[ExpectedDigest, str]]:
    keys = sorted({each.key for each in expected})

    def digest(key: str) -> str | ObjectError:
        try:
            return store.digest(key)
        except ObjectError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        hashed = tqdm(pool.map(digest, keys), total=len(keys), unit=" objects", disable=not sys.stderr.isatty())
        digests = dict(zip(keys, hashed, strict=True))
    named = set[str]()
    for each in expected:
        found = digests[each.key]
        if isinstance(found, ObjectError) and each.key not in named:
            named.add(each.key)
            yield each, str(found)
        elif isinstance(found, str) and not found.startswith(each.sha256):
            text = f"{store.uri}: {each.key}: its sha256 is {found}, but {each.source} says {each.sha256}: it was "
            yield each, f"{text}damaged or replaced; {_RESTORE}, or remove it and add or publish it again"


def _incomplete_datasets(store: Store, keys: list[str]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield key and digest of each missing picture of a dataset's version, with a text for the first of a version."""
    pictures = {re.sub(r"\.[a-z0-9]+$", "", key) for key in keys if "/pictures/" in key}
    for key in filter(INDEX.fullmatch, keys):
        try:
            missing = sorted(pictures_named(store, key) - pictures)
        except ObjectError:
            continue  # `_wrong_objects` says so
        for picture in missing:
            text = f"{store.uri}: {key}: {len(missing)} of its pictures are missing, the first is {missing[0]}; "
            yield (picture, picture.rpartition("/")[2]), f"{text}{_RESTORE}, or add the dataset again"


def pictures_named(store: Store, index: str) -> set[str]:
    """Return the keys of the pictures that an index of a dataset names; ObjectError: it is missing or damaged."""
    with TemporaryDirectory() as folder:
        store.fetch(index, file := Path(folder, "index"))
        digests = _PICTURE_IN_INDEX.findall(file.read_text(encoding="utf-8", errors="replace"))
    return {f"{index.rpartition('/')[0]}/pictures/{digest}" for digest in digests}


def _wrong_pointers(store: Store, keys: list[str]) -> Iterator[str]:
    for model in (match[1] for key in keys if (match := re.fullmatch(r"models/([^/]+)/latest\.json", key))):
        key = f"models/{model}/latest.json"
        try:
            noted, number = json.loads(store.read(key)), latest(store, model)
            version = read_version(store, model, number or 0)
        except (ObjectError, ValueError) as error:
            yield f"{key}: {error}"
            continue
        if noted.get("sha256") != version.sha256:
            yield f"{store.uri}: {key} names another manifest than {version_key(model, version.number)}; publish anew"


def _unfinished(keys: list[str]) -> Iterator[str]:
    """Yield a line for each version that a killed publish left unfinished."""
    begun = {match[1] for key in keys if (match := re.match(r"(?:runs|models)/([^/]+/[1-9][0-9]*)/", key))}
    for version in sorted(begun):
        if f"models/{version}/manifest.json" not in keys:
            yield f"{version.replace('/', ' ')} was begun, not published; publishing the same model again completes it"
