"""The same tests on every kind of store: a folder, MinIO, SeaweedFS, and a server without versions."""

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from runner.errors import MissingObjectError, ObjectError, StoreError
from runner.pipeline import doctor
from runner.store import Store
from runner.store.init import init_store
from runner.store.s3 import S3Store
from tests.support.s3 import S3

LARGE = 40 << 20  # bytes: an upload in three parts


@pytest.fixture(params=["folder", "minio", "rclone", "seaweedfs"])
def store(request: pytest.FixtureRequest, store_of: Callable[[str], Store], tmp_path: Path) -> Store:
    store = store_of(request.param)
    init_store(tmp_path)
    return store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(b"content")
    return tmp_path / "source"


def keys(store: Store) -> list[str]:
    return [key for key in store.list("") if key != "store.json"]


def test_store_is_empty_before_anything_was_put(store: Store, tmp_path: Path) -> None:
    assert keys(store) == store.list("datasets/") == []
    assert not store.exists("datasets/a.zip")
    for ask in (store.read, store.digest, lambda key: store.fetch(key, tmp_path / "out")):
        with pytest.raises(MissingObjectError, match=r"datasets/a\.zip"):
            ask("datasets/a.zip")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 7, LARGE])
def test_object_comes_back_as_it_was_put(store: Store, tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (tmp_path / "source").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    assert store.put_file("datasets/x/a.zip", tmp_path / "source")
    assert store.exists("datasets/x/a.zip") and not store.exists("datasets/x")
    assert store.digest("datasets/x/a.zip") == sha256
    store.fetch("datasets/x/a.zip", tmp_path / "new" / "out", sha256)
    assert (tmp_path / "new" / "out").read_bytes() == content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_list_gives_the_keys_that_begin_with_the_prefix(store: Store, source: Path) -> None:
    for key in ("datasets/x/b.zip", "datasets/x/a.zip", "datasets/xy/c.zip", "weights/w.pt"):
        store.put_file(key, source)
    assert store.list("datasets/x/") == ["datasets/x/a.zip", "datasets/x/b.zip"]
    assert store.list("datasets/x") == ["datasets/x/a.zip", "datasets/x/b.zip", "datasets/xy/c.zip"]
    assert store.list("models/") == []
    assert len(keys(store)) == 4


def test_the_same_again_is_nothing_and_something_else_is_refused(store: Store, source: Path, tmp_path: Path) -> None:
    assert store.put_file("a", source)
    assert not store.put_file("a", source)
    (tmp_path / "other").write_bytes(b"other!!")
    with pytest.raises(StoreError, match=r": a is there already"):
        store.put_file("a", tmp_path / "other")
    assert store.read("a") == b"content"


def test_fetch_leaves_what_was_there_when_the_digest_differs(store: Store, source: Path, tmp_path: Path) -> None:
    store.put_file("a", source)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "out").write_bytes(b"before")
    found, expected = hashlib.sha256(b"content").hexdigest(), "0" * 64
    with pytest.raises(ObjectError, match=rf": a: its sha256 is {found}, but {expected} "):
        store.fetch("a", tmp_path / "here" / "out", expected)
    assert (tmp_path / "here" / "out").read_bytes() == b"before"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["out"]


def test_key_is_refused_when_it_could_leave_the_store(store: Store, source: Path) -> None:
    writes = (partial(store.put_file, path=source), partial(store.create, content=b""))
    reads = (store.read, partial(store.fetch, path=source), store.digest, store.exists, store.uri_of, store.list)
    for ask in (*writes, partial(store.replace, content=b""), *reads):
        with pytest.raises(StoreError, match="is not a key"):
            ask("../a/b")
    assert keys(store) == []


def test_create_tells_one_of_many_at_once_and_none_later(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda number: store.create("runs/m/1/claim.json", f"{number}".encode()), range(32)))
    assert taken.count(True) == 1
    assert not store.create("runs/m/1/claim.json", b"later")
    assert store.read("runs/m/1/claim.json") == f"{taken.index(True)}".encode()
    assert keys(store) == ["runs/m/1/claim.json"]


def test_tags_never_cost_an_object_when_the_endpoint_keeps_none(store: Store, source: Path, rclone: S3) -> None:
    store.put_file("models/m/1/manifest.json", source)
    kept = store.tag("models/m/1/manifest.json", {"training-run": "1", "stage": "latest"})
    assert store.read("models/m/1/manifest.json") == b"content"
    assert kept == (isinstance(store, S3Store) and store.bucket.endpoint.url != rclone.url)
    if isinstance(store, S3Store) and kept:
        tags = {"training-run": "2"}
        assert store.tag("models/m/1/manifest.json", tags)
        assert store.bucket.client.get_object_tags(store.bucket.name, "models/m/1/manifest.json") == tags


@pytest.mark.parametrize("kind", ["minio", "rclone", "seaweedfs"])
def test_nothing_is_assumed_when_init_did_not_run(store_of: Callable[[str], Store], kind: str, source: Path) -> None:
    store = store_of(kind)
    store.put_file("a", source)
    assert not store.tag("a", {"stage": "latest"})
    assert store.create("b", b"1") and not store.create("b", b"2")
    assert store.read("a") == b"content"


def test_doctor_says_what_the_store_can_do(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found, _) = doctor.data(tmp_path, "sample")
    if not isinstance(store, S3Store):
        assert found == (f"the store is the folder {store.uri}", "")
        return
    does = "conditional PUT, tags, versions" if store.capabilities.tags else "no conditional PUT, no tags, no versions"
    assert found == (f"the store {store.uri} at {store.bucket.endpoint.url} answers: {does}", "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another one")
    (found,) = doctor.data(tmp_path, "sample")
    assert found.what == "the store" and "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in found.remedy
