import hashlib
import json
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import ConfigError, StoreError
from runner.release.signing import sign
from runner.store import Store, open_store
from runner.store.folder import FolderStore
from runner.store.init import init_store
from runner.store.purge import purge_run_cache
from runner.store.s3 import S3Store
from runner.store.verify import verify_store
from serving.storage.signature import Signatures, read_signers
from tests.support.certificates import make_key
from tests.support.s3 import S3, Use

DATASET, WEIGHTS, ONNX, BEST = b"dataset", b"weights", b"onnx", b"best"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


MANIFEST = {
    "name": "planes",
    "version": 1,
    "onnx_sha256": sha256(ONNX),
    "classes": ["airplane"],
    "verdict": {"passed": True},
    "dataset": {"url": f"store:datasets/planes/{sha256(DATASET)[:12]}.zip", "sha256": sha256(DATASET)},
    "params": {"model": {"base": "yolo11n.pt", "sha256": sha256(WEIGHTS)}},
    "files": {"best.pt": sha256(BEST)},
}
CONTENT = json.dumps(MANIFEST).encode()
OBJECTS = {
    f"datasets/planes/{sha256(DATASET)[:12]}.zip": DATASET,
    f"weights/{sha256(WEIGHTS)[:12]}-yolo11n.pt": WEIGHTS,
    "runs/planes/1/claim.json": b"{}",
    "runs/planes/1/best.pt": BEST,
    "models/planes/1/model.onnx": ONNX,
    "models/planes/1/manifest.json": CONTENT,
    "models/planes/latest.json": json.dumps({"version": 1, "sha256": sha256(CONTENT)}).encode(),
    "dvc/files/md5/ab/cd": b"of no concern",
}


@pytest.fixture(params=["folder", "minio", "rclone", "seaweedfs"])
def store(request: pytest.FixtureRequest, store_of: Callable[[str], Store]) -> Store:
    """A store with one published version."""
    store = store_of(request.param)
    for key, content in OBJECTS.items():
        store.replace(key, content)
    return store


def test_store_is_well_when_empty_or_untouched(store: Store, tmp_path: Path) -> None:
    assert verify_store(open_store(tmp_path, str(tmp_path))) == ("0 objects of 0 versions hashed, 0 errors", True)
    assert verify_store(store) == ("4 objects of 1 versions hashed, 0 errors", True)


@pytest.mark.parametrize("key", [key for key in OBJECTS if not key.startswith("dvc/") and "claim" not in key])
def test_object_is_named_when_it_was_replaced_or_removed(store: Store, key: str) -> None:
    store.replace(key, b"something else")
    text, well = verify_store(store)
    assert not well and key in text.splitlines()[0] and text.startswith("FAIL  ")
    if isinstance(store, S3Store):
        store.bucket.client.remove_object(store.bucket.name, key)
    else:
        Path(store.uri_of(key)).unlink()
    text, well = verify_store(store)
    if key.endswith("latest.json"):
        assert well  # as if none had passed the gate
    else:
        assert not well and (key.rpartition("/")[0] in text or "there is no version 1 of planes" in text)


ODD: list[dict[str, object]] = [
    {"dataset": {"url": "store:../models/planes/1/model.onnx", "sha256": sha256(ONNX)}},
    {"dataset": {"url": "store:datasets/planes/x.zip", "sha256": 7}},
    {"params": {"model": {"base": "../../best.pt", "sha256": sha256(WEIGHTS)}}},
    {"params": {"model": {"base": None, "sha256": [1]}}},
]


@pytest.mark.parametrize("lie", ODD)
def test_the_rest_is_checked_when_a_manifest_names_what_is_no_object(lie: dict[str, object], tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for key, content in OBJECTS.items():
        store.replace(key, content)
    store.replace("models/planes/2/manifest.json", json.dumps(MANIFEST | lie | {"version": 2}).encode())
    store.replace("models/planes/1/model.onnx", b"something else")
    text, well = verify_store(store)
    assert not well and text.count("FAIL  ") > 1
    assert "models/planes/1/model.onnx: its sha256 is" in text


@pytest.mark.parametrize("name", ["birds", "birds.v2"])
def test_a_dataset_is_whole_while_it_has_its_pictures(name: str, tmp_path: Path) -> None:
    store, objects = FolderStore(tmp_path), dataset_of_one(name)
    for key, content in objects.items():
        store.replace(key, content)
    assert verify_store(store)[1]
    (picture,) = (key for key in objects if "/pictures/" in key)
    (tmp_path / picture).unlink()
    text, well = verify_store(store)
    assert not well and picture in text


def test_unfinished_versions_are_notes_when_a_publish_was_killed(store: Store) -> None:
    store.replace("runs/planes/2/claim.json", b"{}")
    store.replace("models/planes/3/model.onnx", b"half")
    text, well = verify_store(store)
    assert well
    assert [line.split()[:3] for line in text.splitlines()[:-1]] == [["note", "planes", "2"], ["note", "planes", "3"]]


def signed_by(folder: Path, name: str) -> tuple[bytes, bytes]:
    """Return the signature of the published version by a new key, and the key's public half."""
    public, files = make_key(folder, name), {"model.onnx": folder / "model.onnx", "manifest.json": folder / "manifest"}
    files["model.onnx"].write_bytes(ONNX)
    files["manifest.json"].write_bytes(CONTENT)
    return sign("planes-1", files, folder / f"{name}.pem"), public


SIGNATURE = "models/planes/1/model.sig"


def test_signatures_are_checked_by_the_keys_in_git(store: Store, tmp_path: Path) -> None:
    bundle, public = signed_by(tmp_path, "ours")
    other, _ = signed_by(tmp_path, "theirs")
    warn, require = (Signatures(mode, read_signers(public)) for mode in ("warn", "require"))
    without = "no signature was checked"
    for signatures, is_well in ((Signatures("off"), True), (Signatures("warn"), True), (Signatures("require"), False)):
        text, well = verify_store(store, signatures=signatures)
        assert well == is_well and (without in text) == (signatures.mode != "off")
    for signatures, first in ((warn, "note"), (require, "FAIL")):
        text, _ = verify_store(store, signatures=signatures)
        assert text.startswith(f"{first}  planes 1 is not signed")
    store.replace(SIGNATURE, bundle)
    for signatures in (warn, require):
        assert verify_store(store, signatures=signatures) == (
            "4 objects of 1 versions hashed, 1 valid signatures, 0 errors",
            True,
        )
    place = bundle.index(b'"sig"') + 20
    flipped = bundle[:place] + bytes([bundle[place] ^ 1]) + bundle[place + 1 :]
    for wrong in (flipped, bundle[:-9], b"", other):
        store.replace(SIGNATURE, wrong)
        text, well = verify_store(store, signatures=warn)
        assert not well and "planes 1: model.sig: " in text and "0 valid signatures, 1 errors" in text


@pytest.fixture(params=["minio", "seaweedfs"])
def kept(request: pytest.FixtureRequest, use: Use, tmp_path: Path) -> S3Store:
    """A bucket that keeps versions, with one published version and a dataset of one picture."""
    server: S3 = request.getfixturevalue(request.param)
    use(server.environment(f"kept-{secrets.token_hex(4)}"))
    init_store(tmp_path)
    store = open_store(tmp_path)
    assert isinstance(store, S3Store)
    for key, content in {**OBJECTS, **dataset_of_one("birds")}.items():
        store.replace(key, content)
    return store


def dataset_of_one(name: str) -> dict[str, bytes]:
    """Return the objects of a dataset of one picture."""
    index = f'{{"classes": []}}\n["{sha256(BEST)}", "a.jpg"]\n'.encode()
    return {f"datasets/{name}/{sha256(index)[:12]}.jsonl": index, f"datasets/{name}/pictures/{sha256(BEST)}": BEST}


def test_what_was_overwritten_or_removed_comes_back(kept: S3Store) -> None:
    before = {key: kept.read(key) for key in kept.list("")}
    assert verify_store(kept, restore=True) == verify_store(kept)
    published = [key for key in before if not key.startswith(("dvc/", "store.json")) and "claim" not in key]
    published.remove("models/planes/latest.json")
    for key in published:
        kept.replace(key, b"something else")
    kept.replace(
        "models/planes/1/manifest.json", json.dumps(MANIFEST | {"onnx_sha256": sha256(b"something else")}).encode()
    )
    kept.bucket.client.remove_object(kept.bucket.name, f"datasets/birds/pictures/{sha256(BEST)}")
    text, well = verify_store(kept)
    assert not well and "models/planes/1/manifest.json: is not the one that was published" in text
    text, well = verify_store(kept, restore=True)
    assert well, text
    assert {line.split()[1].rstrip(",") for line in text.splitlines() if line.startswith("restored")} == set(published)
    assert {key: kept.read(key) for key in kept.list("")} == before


def test_the_last_valid_signature_comes_back(kept: S3Store, tmp_path: Path) -> None:
    (former, _), (bundle, public) = signed_by(tmp_path, "former"), signed_by(tmp_path, "ours")
    signatures = Signatures("require", read_signers(public))
    for content in (former, bundle, b"overwritten"):
        kept.replace(SIGNATURE, content)
    text, well = verify_store(kept, signatures=signatures, restore=True)
    assert well and f"restored  {SIGNATURE}, as it was" in text and kept.read(SIGNATURE) == bundle
    kept.bucket.client.remove_object(kept.bucket.name, SIGNATURE)
    assert verify_store(kept, signatures=signatures, restore=True)[1] and kept.read(SIGNATURE) == bundle


def test_nothing_is_restored_when_no_versions_are_kept(store: Store) -> None:
    with pytest.raises(StoreError, match="keeps no earlier versions"):
        verify_store(store, restore=True)


@pytest.mark.parametrize("kind", ["folder", "minio", "seaweedfs"])
def test_the_run_cache_is_emptied_and_nothing_else(store_of: Callable[[str], Store], kind: str) -> None:
    store = store_of(kind)
    for key in ("dvc/runs/ab/abcd/ef", "dvc/runs/ab/abcd/12", "dvc/files/md5/ab/cd", "models/runs/1/model.onnx"):
        store.replace(key, b"x")
    assert isinstance(store, FolderStore | S3Store)
    assert " 0 entries" in purge_run_cache(store, "2999-01-01")
    assert " 2 entries" in purge_run_cache(store, "2020-01-01T00:00+00:00")
    assert store.list("") == ["dvc/files/md5/ab/cd", "models/runs/1/model.onnx"]
    with pytest.raises(ConfigError, match="--since: found 'yesterday'"):
        purge_run_cache(store, "yesterday")
