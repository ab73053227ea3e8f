import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.store import Store, open_store
from runner.store.s3 import S3Store
from runner.store.verify import verify_store

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


@pytest.fixture(params=["folder", "minio", "rclone"])
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


def test_unfinished_versions_are_notes_when_a_publish_was_killed(store: Store) -> None:
    store.replace("runs/planes/2/claim.json", b"{}")
    store.replace("models/planes/3/model.onnx", b"half")
    text, well = verify_store(store)
    assert well
    assert [line.split()[:3] for line in text.splitlines()[:-1]] == [["note", "planes", "2"], ["note", "planes", "3"]]
