"""An installation is led over from one server to another: MinIO to SeaweedFS and back, and from a folder."""

import hashlib
import io
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from minio.error import S3Error

from runner.errors import StoreError
from runner.release.signing import sign
from runner.store import Store, move
from runner.store.init import init_store
from runner.store.move import move_store, open_old
from runner.store.published import read_version
from runner.store.users import USERS
from runner.store.verify import verify_store
from serving.storage.endpoint import connect
from serving.storage.signature import Signatures, read_signers
from tests.support.certificates import make_key
from tests.support.s3 import S3, Use
from tests.support.trees import write_tree


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


ONNX, PICTURE, LARGE = b"onnx", b"a picture", bytes(20 << 20)
MANIFEST = json.dumps(
    {
        "name": "planes",
        "version": 7,
        "onnx_sha256": sha256(ONNX),
        "classes": ["airplane"],
        "verdict": {"passed": True},
        "dataset": {},
        "params": {},
        "files": {"best.pt": sha256(LARGE)},
    }
).encode()
INDEX = f'{{"classes": []}}\n["{sha256(PICTURE)}", "a.jpg"]\n'.encode()
OBJECTS = {
    "models/planes/7/model.onnx": ONNX,
    "models/planes/7/manifest.json": MANIFEST,
    "models/planes/latest.json": json.dumps({"version": 7, "sha256": sha256(MANIFEST)}).encode(),
    "runs/planes/7/claim.json": b"{}",
    "runs/planes/7/best.pt": LARGE,
    f"datasets/birds/{sha256(INDEX)[:12]}.jsonl": INDEX,
    f"datasets/birds/pictures/{sha256(PICTURE)}": PICTURE,
    "dvc/files/md5/ab/cd": b"without a digest of ours",
    "captures/dev/planes/1/a.jpg": b"a capture",
    "pipeline/retrain-1/dvc.lock": b"of a run",
    "feedback/reports.json": b"[]",
}


@pytest.fixture
def signed(tmp_path: Path) -> tuple[dict[str, bytes], Signatures]:
    """The objects of an installation, with a signature, and by whom."""
    (tmp_path / "model.onnx").write_bytes(ONNX)
    (tmp_path / "manifest.json").write_bytes(MANIFEST)
    public = make_key(tmp_path, "key")
    files = {name: tmp_path / name for name in ("model.onnx", "manifest.json")}
    bundle = sign("planes-7", files, tmp_path / "key.pem")
    return OBJECTS | {"models/planes/7/model.sig": bundle}, Signatures("require", read_signers(public))


def content_of(store: Store) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.list("") if key != "store.json"}


def old_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in environment.items():
        monkeypatch.setenv(f"OLD_{name}", value)
    return open_old(Path())


def test_everything_comes_along_and_is_locked(
    minio: S3,
    seaweedfs: S3,
    use: Use,
    signed: tuple[dict[str, bytes], Signatures],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From a bucket of before, without object lock, to a bucket of the same name: the pin stays as it is."""
    objects, signatures = signed
    environment = minio.bucket()
    store = use(environment)
    keys = {f"{user}/AWS_ACCESS_KEY_ID": f"{user.replace('-', '')}{secrets.token_hex(2)}" for user in USERS}
    passwords = {f"{user}/AWS_SECRET_ACCESS_KEY": secrets.token_hex(16) for user in USERS}
    monkeypatch.setenv("STORE_USERS", str(write_tree(tmp_path / "users", keys | passwords)))
    init_store(tmp_path)
    store.bucket.client.put_object(store.bucket.name, "dvc/files/md5/ab/ce", io.BytesIO(b"of DVC"), 6)
    for key, content in objects.items():
        store.replace(key, content)
    pin, before = read_version(store, "planes", 7), content_of(store)
    assert not store.capabilities.object_lock

    new = use(seaweedfs.environment(store.bucket.name))
    old = old_of(environment, monkeypatch)
    init_store(tmp_path)
    text, well = move_store(old, new)
    assert well and f"{len(before)} of {len(before)} objects copied" in text
    assert content_of(new) == content_of(old) == before
    assert read_version(new, "planes", 7) == pin and new.uri == store.uri
    text, well = verify_store(new, signatures=signatures)
    assert well and "1 valid signatures, 0 errors" in text
    assert "0 of " in move_store(old, new)[0] and move_store(old, new, check=True)[1]
    (version,) = new.bucket.client.list_objects(new.bucket.name, "models/planes/7/model.onnx", include_version=True)
    with pytest.raises(S3Error, match=r"AccessDenied|WORM"):
        new.bucket.client.remove_object(new.bucket.name, version.object_name, version_id=version.version_id)
    user = [(keys | passwords)[f"trainer/AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
    trainer = connect(new.bucket.endpoint._replace(access_key=user[0], secret_key=user[1]))
    trainer.put_object(new.bucket.name, "dvc/x", io.BytesIO(b"x"), 1)
    with pytest.raises(S3Error, match="AccessDenied"):
        trainer.put_object(new.bucket.name, "models/planes/7/model.onnx", io.BytesIO(b"x"), 1)


@pytest.mark.parametrize(("source", "target"), [("folder", "minio"), ("seaweedfs", "minio"), ("minio", "rclone")])
def test_a_move_goes_on_where_it_was_cut_and_takes_what_changed(
    source: str,
    target: str,
    store_of: Callable[[str], Store],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = store_of(source), store_of(target)
    for key, content in OBJECTS.items():
        old.replace(key, content)
    copy, copied = move._copy, list[str]()

    def cut(*arguments: object, **more: object) -> None:
        if len(copied) == len(OBJECTS) - 4:
            raise KeyboardInterrupt
        copied.append(str(arguments[2]))
        copy(*arguments, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(move, "_copy", cut)
        with pytest.raises(KeyboardInterrupt):
            move_store(old, new)
    assert not new.exists("models/planes/7/manifest.json")  # what names others comes last
    assert not move_store(old, new, check=True)[1]
    assert move_store(old, new)[1] and content_of(new) == OBJECTS
    changed = {
        "models/planes/latest.json": b"{}",
        "feedback/reports.json": b"[1]",
        "captures/dev/planes/1/b.jpg": b"new",
        "dvc/files/md5/ab/cd": b"without a digest of OURS",
    }
    for key, content in changed.items():
        old.replace(key, content)
    assert f"{len(changed)} of {len(OBJECTS) + 1} objects copied, 0 wrong" in move_store(old, new)[0]
    assert content_of(new) == OBJECTS | changed
    new.replace("models/planes/7/model.onnx", b"ONNX")
    text, well = move_store(old, new)
    assert not well and "FAIL  models/planes/7/model.onnx: is another" in text
    assert new.read("models/planes/7/model.onnx") == b"ONNX"


def test_the_command_needs_another_store(minio: S3, project: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STORE_"))}
    (tmp_path / "old").mkdir()
    (tmp_path / "old/a").write_bytes(b"a")
    for own, code, said in (
        ({}, 1, "OLD_STORE_URI is empty"),
        ({"OLD_STORE_URI": str(tmp_path / "old"), "STORE_URI": str(tmp_path / "old")}, 1, "is the store itself"),
        ({"OLD_STORE_URI": str(tmp_path / "old"), **minio.bucket()}, 0, "1 of 1 objects copied, 0 wrong"),
    ):
        command = [sys.executable, "-m", "runner", "store", "move"]
        done = subprocess.run(
            command, cwd=project, env=environment | own | {"RUNNER_WORK": str(tmp_path)}, capture_output=True, text=True
        )
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stderr
    with pytest.raises(StoreError, match="OLD_STORE_URI"):
        open_old(tmp_path, {})
