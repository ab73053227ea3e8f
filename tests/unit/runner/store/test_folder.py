"""The folder store: objects appear whole, never change, and keys stay inside."""

import hashlib
import shutil
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


@pytest.mark.parametrize("uri", ["https://example.org", "gs://bucket"])
def test_store_is_refused_when_its_kind_is_not_supported(tmp_path: Path, uri: str) -> None:
    with pytest.raises(StoreError, match=rf"^STORE_URI {uri} is not supported, expected a folder or s3://bucket; "):
        open_store(tmp_path, uri)


@pytest.mark.parametrize("uri", ["s3://", "s3://a", "s3://bucket/prefix", "s3://Bucket", "s3://a b"])
def test_store_is_refused_when_it_names_no_bucket(tmp_path: Path, uri: str) -> None:
    with pytest.raises(StoreError, match=rf"^STORE_URI {uri} names no bucket, expected s3://NAME of 3 to 63"):
        open_store(tmp_path, uri)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "AWS_ENDPOINT_URL is None; expected the object store's, like http://minio:9000"),
        ({"AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL is 'minio:9000'; expected"),
        ({"AWS_ENDPOINT_URL": "http://minio:9000", "AWS_ACCESS_KEY_ID": "a"}, "one is set; expected both, or neither"),
        ({"AWS_ENDPOINT_URL": "https://minio:9000", "CA_BUNDLE": "/gone.pem"}, "No such file or directory: '/gone.pem"),
    ],
)
def test_store_is_refused_when_its_endpoint_is_not_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "CA_BUNDLE"):
        monkeypatch.setenv(name, variables.get(name, ""))
    with pytest.raises(StoreError, match=rf"^s3://bucket: .*{message}"):
        open_store(tmp_path, "s3://bucket")
