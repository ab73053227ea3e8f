"""The folder store: objects appear whole, never change, and keys stay inside."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.errors import StoreError
from runner.store import check_key, key_of, open_store
from runner.store.folder import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(b"content")
    return tmp_path / "source"


def files(store: FolderStore) -> list[str]:
    return sorted(path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*") if path.is_file())


def test_store_is_empty_before_anything_was_put(store: FolderStore, tmp_path: Path) -> None:
    assert store.list("") == store.list("datasets/") == []
    assert not store.exists("datasets/a.zip")
    with pytest.raises(
        StoreError, match=r"store: there is no datasets/a\.zip; .* that STORE_URI names the store that has"
    ):
        store.fetch("datasets/a.zip", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_object_comes_back_as_it_was_put(store: FolderStore, source: Path, tmp_path: Path) -> None:
    assert store.put_file("datasets/x/a.zip", source)
    assert store.exists("datasets/x/a.zip")
    assert not store.exists("datasets/x")
    store.fetch("datasets/x/a.zip", tmp_path / "new" / "out", hashlib.sha256(b"content").hexdigest())
    assert (tmp_path / "new" / "out").read_bytes() == b"content"


def test_list_gives_the_keys_that_begin_with_the_prefix(store: FolderStore, source: Path) -> None:
    for key in ("datasets/x/b.zip", "datasets/x/a.zip", "datasets/xy/c.zip", "weights/w.pt"):
        store.put_file(key, source)
    (store.folder / "datasets" / "x" / ".a.zip.123.part").touch()
    assert store.list("datasets/x/") == ["datasets/x/a.zip", "datasets/x/b.zip"]
    assert store.list("datasets/x") == ["datasets/x/a.zip", "datasets/x/b.zip", "datasets/xy/c.zip"]
    assert store.list("models/") == []
    assert len(store.list("")) == 4


def test_putting_the_same_again_changes_nothing(store: FolderStore, source: Path) -> None:
    store.put_file("a", source)
    before = (store.folder / "a").stat()
    assert not store.put_file("a", source)
    assert (store.folder / "a").stat().st_mtime_ns == before.st_mtime_ns


def test_putting_something_else_under_the_same_key_is_refused(store: FolderStore, source: Path, tmp_path: Path) -> None:
    store.put_file("a", source)
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(
        StoreError, match=r"store: a is there already, with other content .*objects never change: use anoth"
    ):
        store.put_file("a", tmp_path / "other")
    assert (store.folder / "a").read_bytes() == b"content"


def test_put_leaves_nothing_when_it_dies_midway(
    store: FolderStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_: Path, target: Path) -> None:
        target.write_bytes(b"con")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", die)
    with pytest.raises(OSError, match="No space left on device"):
        store.put_file("datasets/a", source)
    assert files(store) == []


def test_fetch_leaves_what_was_there_when_the_digest_differs(store: FolderStore, source: Path, tmp_path: Path) -> None:
    store.put_file("a", source)
    (tmp_path / "out").write_bytes(b"before")
    found, expected = hashlib.sha256(b"content").hexdigest(), "0" * 64
    with pytest.raises(
        StoreError, match=rf"store: a: its sha256 is {found}, but {expected} was expected: .* add it again"
    ):
        store.fetch("a", tmp_path / "out", expected)
    assert (tmp_path / "out").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source", "store"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "/",
        "a/",
        "/a",
        "a//b",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a/.b",
        "a\\b",
        "C:/a",
        "a b",
        "ä",
        "a\n",
        1001 * "a",
    ],
)
def test_key_is_refused_when_it_could_leave_the_store(store: FolderStore, source: Path, key: str) -> None:
    with pytest.raises(StoreError, match="is not a key, expected words of A-Z a-z 0-9"):
        check_key(key)
    with pytest.raises(StoreError, match="is not a key"):
        store.put_file(key, source)
    with pytest.raises(StoreError, match="is not a key"):
        store.fetch(key, source)
    with pytest.raises(StoreError, match="is not a key"):
        store.exists(key)
    with pytest.raises(StoreError, match="is not a key"):
        store.list("../x")


def test_key_of_a_url_is_what_follows_the_scheme() -> None:
    assert key_of("store:datasets/x/0123456789ab.zip") == "datasets/x/0123456789ab.zip"
    with pytest.raises(StoreError, match="'sample' is not in the store, expected store: and a key"):
        key_of("sample")
    with pytest.raises(StoreError, match=r"'\.\./x' is not a key"):
        key_of("store:../x")


def test_store_is_the_folder_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORE_URI", raising=False)
    assert open_store(tmp_path).uri == str(tmp_path / "store")
    monkeypatch.setenv("STORE_URI", "")
    assert open_store(tmp_path).uri == str(tmp_path / "store")
    monkeypatch.setenv("STORE_URI", "shared/store")
    assert open_store(tmp_path).uri == str(tmp_path / "shared" / "store")
    assert open_store(tmp_path, "/srv/my store").uri == "/srv/my store"
    assert open_store(tmp_path, "file:///srv/my%20store").uri == "/srv/my store"


@pytest.mark.parametrize("uri", ["s3://bucket", "https://example.org", "gs://bucket"])
def test_store_is_refused_when_its_kind_is_not_supported(tmp_path: Path, uri: str) -> None:
    with pytest.raises(
        StoreError, match=rf"^STORE_URI {uri} is not supported yet, expected a folder; leave it empty for /"
    ):
        open_store(tmp_path, uri)


def test_create_takes_a_key_once(store: FolderStore) -> None:
    assert store.create("runs/m/1/claim.json", b"mine")
    assert not store.create("runs/m/1/claim.json", b"theirs")
    assert store.read("runs/m/1/claim.json") == b"mine"
    assert files(store) == ["runs/m/1/claim.json"]


def test_create_tells_one_of_many_at_once(store: FolderStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda number: store.create("claim", f"{number}".encode()), range(64)))
    assert taken.count(True) == 1
    assert store.read("claim") == f"{taken.index(True)}".encode()


def test_replace_puts_a_pointer_in_the_place_of_another(store: FolderStore) -> None:
    for content in (b"1", b"2"):
        store.replace("models/m/latest.json", content)
        assert store.read("models/m/latest.json") == content
    assert files(store) == ["models/m/latest.json"]


def test_read_says_what_is_missing(store: FolderStore) -> None:
    with pytest.raises(StoreError, match=r"there is no models/m/latest\.json"):
        store.read("models/m/latest.json")


def test_object_has_a_uri_and_no_tags(store: FolderStore, source: Path) -> None:
    store.put_file("models/m/1/manifest.json", source)
    assert Path(store.uri_of("models/m/1/manifest.json")).read_bytes() == b"content"
    assert not store.tag("models/m/1/manifest.json", {"stage": "latest"})
