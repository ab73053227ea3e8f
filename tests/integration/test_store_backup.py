"""Backups on real servers: what comes back, from when, and what the second store's key cannot undo."""

import json
import secrets
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from minio.error import S3Error

from runner.__main__ import main
from runner.errors import ObjectError, StoreError
from runner.store import Store
from runner.store.backup import back_up, check_backup, open_backup, restore
from runner.store.folder import FolderStore
from runner.store.init import init_store
from runner.store.prune import prune_backups
from runner.store.s3 import S3Store
from runner.store.verify import verify_store
from tests.integration.test_store_verify import BEST, MANIFEST, OBJECTS, ONNX, sha256
from tests.support.processes import meanwhile
from tests.support.s3 import S3, Use
from tests.support.trees import read_tree, write_tree

HALF = {"runs/planes/2/claim.json": b'{"run": 2}', "models/planes/2/model.onnx": b"half"}  # its publish was killed
LEFT_OUT = {"captures/dev/planes/1/a.jpg": b"a person", "pipeline/retrain-1/dvc.lock": b"at work"}


def content(store: Store) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.list("") if key != "store.json"}


def fill(store: Store, objects: dict[str, bytes]) -> None:
    for key, value in objects.items():
        store.replace(key, value)


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_WORK", str(tmp_path / "work"))


@pytest.fixture
def second(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "second")


@pytest.mark.parametrize("kind", ["folder", "minio", "rclone"])
def test_each_backup_comes_back_as_it_was(kind: str, store_of: Callable[[str], Store], second: FolderStore) -> None:
    store, empty = store_of(kind), FolderStore(second.folder.with_name("empty"))
    assert " 0 objects, 0 of them copied" in back_up(store, second, "store")
    fill(store, OBJECTS | HALF | LEFT_OUT)
    first = back_up(store, second)
    assert f" {len(OBJECTS | HALF)} objects, {len(OBJECTS | HALF)} of them copied" in first
    assert ", 0 of them copied" in back_up(store, second)
    fill(store, {"models/planes/latest.json": b'{"version": 0}', "dvc/files/md5/ab/ef": b"later"})
    assert ", 2 of them copied" in back_up(store, second)
    assert check_backup(second).endswith("objects hashed, no errors")

    assert f" {len(content(store)) - len(LEFT_OUT)} of " in restore(second, empty)
    assert content(empty) == {key: value for key, value in content(store).items() if key not in LEFT_OUT}
    earlier = FolderStore(second.folder.with_name("earlier"))
    restore(second, earlier, begins=first.partition("backups/store/")[2].partition(".")[0])
    assert content(earlier) == OBJECTS | HALF
    assert verify_store(earlier)[1]
    with pytest.raises(StoreError, match=r"no backup of store from 1999 .*T"):
        restore(second, empty, begins="1999")


def test_a_restore_adds_and_never_replaces(second: FolderStore, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    fill(store, OBJECTS)
    back_up(store, second)
    Path(store.uri_of("models/planes/1/model.onnx")).unlink()
    store.replace("models/planes/latest.json", b"newer")
    said = restore(second, store).splitlines()
    assert [line.split()[1] for line in said[:-1]] == ["models/planes/latest.json"]
    assert f" 1 of {len(OBJECTS)} objects" in said[-1]
    assert content(store) == OBJECTS | {"models/planes/latest.json": b"newer"}


ROWS = {
    "a setting": ["store.json", sha256(BEST), 4, ""],
    "a run": ["pipeline/retrain-1/release.json", sha256(BEST), 4, ""],
    "a path": ["models/../../etc/x", sha256(BEST), 4, ""],
    "no digest": ["models/planes/9/model.onnx", "ab", 4, ""],
    "a path for a digest": ["models/planes/9/model.onnx", "../../store.json", 4, ""],
    "too few": ["models/planes/9/model.onnx", sha256(BEST)],
    "a size": ["models/planes/9/model.onnx", sha256(BEST), -1, ""],
    "no row": {"key": "models/planes/9/model.onnx"},
    "a deep one": None,
}


@pytest.mark.parametrize("kind", ROWS)
def test_nothing_is_restored_from_a_list_that_no_backup_wrote(kind: str, second: FolderStore, tmp_path: Path) -> None:
    """Whoever has the key that only adds may add one under a name that fits."""
    good = ["runs/planes/1/best.pt", sha256(BEST), len(BEST), ""]
    bad = "[" * 5000 if ROWS[kind] is None else json.dumps(ROWS[kind])
    content = f"{json.dumps(good)}\n{bad}\n".encode()
    second.replace(f"backups/objects/{sha256(BEST)}", BEST)
    second.replace(f"backups/store/2099-01-01T000000-000000Z.{sha256(content)[:12]}.jsonl", content)
    target = FolderStore(tmp_path / "target")
    with pytest.raises(ObjectError, match="backups/store/2099"):
        restore(second, target)
    assert target.list("") == []


def test_a_backup_that_was_cut_off_is_none_and_the_next_one_completes_it(second: FolderStore, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    fill(store, OBJECTS)
    back_up(store, second)
    shutil.rmtree(second.folder / "backups/store")  # what a kill leaves: objects, and no list
    Path(second.uri_of(f"backups/objects/{sha256(BEST)}")).unlink()
    with pytest.raises(StoreError, match="no backup of store"):
        restore(second, FolderStore(tmp_path / "empty"))
    assert f" {len(OBJECTS)} objects, 1 of them copied" in back_up(store, second)
    Path(second.uri_of(f"backups/objects/{sha256(BEST)}")).unlink()
    with pytest.raises(StoreError, match=sha256(BEST)):
        check_backup(second)
    with pytest.raises(ObjectError, match=sha256(BEST)):
        restore(second, FolderStore(tmp_path / "empty"))
    assert ", 1 of them copied" in back_up(store, second)  # what was lost there is copied again


def test_every_version_is_whole_when_others_are_published_meanwhile(second: FolderStore, tmp_path: Path) -> None:
    store, ended = FolderStore(tmp_path / "store"), threading.Event()

    def publish() -> None:
        for number in range(1, 10_000):
            if ended.is_set():
                return
            picture = str(number).encode()
            index = f'{{}}\n["{sha256(picture)}", "a.jpg"]\n'.encode()
            key = f"datasets/planes/{sha256(index)[:12]}.jsonl"
            dataset = {"url": f"store:{key}", "sha256": sha256(index)}
            manifest = json.dumps(MANIFEST | {"version": number, "dataset": dataset, "params": {}}).encode()
            fill(
                store,
                {
                    **{f"datasets/planes/pictures/{sha256(picture)}": picture, key: index},
                    f"runs/planes/{number}/best.pt": BEST,
                    f"models/planes/{number}/model.onnx": ONNX,
                    f"models/planes/{number}/manifest.json": manifest,
                    "models/planes/latest.json": json.dumps({"version": number, "sha256": sha256(manifest)}).encode(),
                },
            )

    try:
        with meanwhile(publish):
            for _ in range(5):
                back_up(store, second)
            ended.set()
    finally:
        ended.set()
    for path in sorted((second.folder / "backups/store").iterdir()):
        target = FolderStore(tmp_path / path.name)
        restore(second, target, begins=path.name[:24])
        text, well = verify_store(target)
        assert well, text


def test_the_rest_is_kept_and_the_object_named_when_one_is_damaged(minio: S3, use: Use, second: FolderStore) -> None:
    store = use(minio.bucket())
    fill(store, OBJECTS)
    back_up(store, second)
    minio.put(store.bucket.name, "runs/planes/1/best.pt", b"rotten", sha256=sha256(BEST))
    minio.put(store.bucket.name, "weights/0123456789ab-a.pt", b"rotten", sha256=sha256(BEST))
    store.replace("dvc/files/md5/ab/ef", b"later")
    with pytest.raises(StoreError, match=r"; 2 objects .*(best|-a)\.pt"):
        back_up(store, second)
    store.replace("models/planes/1/manifest.json", b"somebody else's")
    with pytest.raises(StoreError, match=r"; 3 objects "):
        back_up(store, second)
    target = FolderStore(second.folder.with_name("target"))
    restore(second, target)
    assert content(target) == OBJECTS | {"dvc/files/md5/ab/ef": b"later"}


def test_nothing_is_lost_when_the_key_of_the_backup_is_stolen(
    minio: S3, use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = minio.environment(f"second-{secrets.token_hex(4)}")
    key = {"AWS_ACCESS_KEY_ID": f"writer-{secrets.token_hex(2)}", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    users = write_tree(tmp_path / "users", {f"backup-writer/{name}": value for name, value in key.items()})
    monkeypatch.setenv("STORE_USERS", str(users))
    use(place)
    assert "object lock: honoured" in init_store(tmp_path)
    store = FolderStore(tmp_path / "store")
    second = open_backup(tmp_path, {f"BACKUP_{name}": value for name, value in (place | key).items()})
    assert isinstance(second, S3Store)
    fill(store, OBJECTS | HALF)
    back_up(store, second)
    for stored in second.list("backups/"):
        with pytest.raises(S3Error, match="AccessDenied"):
            second.bucket.client.remove_object(second.bucket.name, stored)
        second.replace(stored, b"somebody else's")
    with pytest.raises(StoreError, match=f"{len(OBJECTS | HALF)} of {len(OBJECTS | HALF)} objects"):
        check_backup(second)
    target = FolderStore(tmp_path / "target")
    restore(second, target)
    assert content(target) == OBJECTS | HALF
    assert check_backup(second)
    assert ", 0 of them copied" in back_up(store, second)


@pytest.mark.parametrize("kind", ["folder", "minio"])
def test_old_backups_go_but_for_the_last_of_a_month(
    kind: str, store_of: Callable[[str], Store], tmp_path: Path
) -> None:
    source, second = FolderStore(tmp_path / "source"), store_of(kind)
    assert isinstance(second, FolderStore | S3Store)
    for value in (b"first", b"second"):
        fill(source, {"feedback/a": value, "feedback/b": b"both"})
        back_up(source, second)
    back_up(source, second, "another")
    before, later = content(second), datetime.now(UTC) + timedelta(days=31)
    assert ": 0 of 3 backups, 0 objects" in prune_backups(second, remove=True)
    assert ": 1 of 3 backups, 1 objects of them alone" in prune_backups(second, now=later)
    assert content(second) == before
    prune_backups(second, remove=True, now=later)
    assert len(before) - len(content(second)) == 2
    for name in ("store", "another"):
        check_backup(second, name)
    assert ": 0 of 2 backups, 0 objects" in prune_backups(second, remove=True, now=later)
    assert ", 0 of them copied" in back_up(source, second)


def test_nothing_goes_when_a_list_is_damaged(second: FolderStore, tmp_path: Path) -> None:
    source = FolderStore(tmp_path / "source")
    for value in (b"first", b"second"):
        fill(source, {"feedback/a": value})
        back_up(source, second)
    before = content(second)
    newest = max(key for key in before if key.endswith(".jsonl"))
    second.replace(newest, b"[]")
    with pytest.raises(ObjectError, match=newest):
        prune_backups(second, remove=True, now=datetime.now(UTC) + timedelta(days=31))
    assert content(second) == before | {newest: b"[]"}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "BACKUP_STORE_URI is empty"),
        ({"STORE_URI": "s3://a-bucket", "BACKUP_STORE_URI": "s3://a-bucket"}, "s3://a-bucket is the store itself"),
        ({"BACKUP_STORE_URI": "s3://a-bucket"}, "AWS_ENDPOINT_URL"),
    ],
)
def test_refused_when_there_is_no_second_store(environment: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=said):
        open_backup(tmp_path, environment)


def test_files_of_a_folder_are_a_backup_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKUP_STORE_URI", "second")
    files = {"labelstudio.dump": b"tables", "data.tar": b"uploads"}
    write_tree(tmp_path / "out", files)
    arguments = ["--name", "label-studio", "--folder"]
    assert main(["store", "backup", *arguments, "out"]) == 0
    assert main(["store", "restore", *arguments, "back"]) == 0
    assert read_tree(tmp_path / "back") == files
    assert main(["store", "backup", "--check"]) == 1  # of the store there is none
