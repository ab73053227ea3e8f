"""Keys, URIs, and a write that dies; tests/integration/test_stores.py has what a folder and a bucket share."""

import shutil
from pathlib import Path

import pytest

from runner.errors import StoreError
from runner.store import check_key, key_of_url, open_store
from runner.store.folder import FolderStore

S3 = "s3://bucket"


def test_put_leaves_nothing_when_it_dies_midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_: Path, target: Path) -> None:
        target.write_bytes(b"con")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", die)
    with pytest.raises(OSError, match="No space left on device"):
        FolderStore(tmp_path / "store").put_file("datasets/a", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "key",
    [
        *("", ".", "..", "/", "a/", "/a", "a//b", "../a", "a/../b", "a/..", "./a", "a/.b"),
        *("a\\b", "C:/a", "a b", "ä", "a\n", 1001 * "a"),
    ],
)
def test_key_is_refused_when_it_could_leave_the_store(key: str) -> None:
    with pytest.raises(StoreError, match="is not a key"):
        check_key(key)
    with pytest.raises(StoreError, match="is not a key"):
        key_of_url(f"store:{key}")


def test_key_of_a_url_is_what_follows_the_scheme() -> None:
    assert key_of_url("store:datasets/x/0123456789ab.zip") == "datasets/x/0123456789ab.zip"
    with pytest.raises(StoreError, match="'sample' is not in the store"):
        key_of_url("sample")


@pytest.mark.parametrize(
    ("variable", "uri", "found"),
    [
        (None, None, "{project}/store"),
        ("", None, "{project}/store"),
        ("shared/store", None, "{project}/shared/store"),
        ("shared/store", "/srv/my store", "/srv/my store"),
        ("", "file:///srv/my%20store", "/srv/my store"),
    ],
)
def test_store_is_the_folder_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, uri: str | None, found: str
) -> None:
    if variable is not None:
        monkeypatch.setenv("STORE_URI", variable)
    assert open_store(tmp_path, uri).uri == found.format(project=tmp_path)


@pytest.mark.parametrize(
    ("uri", "variables", "message"),
    [
        *((uri, {}, rf"^STORE_URI {uri} is not supported") for uri in ("https://example.org", "gs://bucket")),
        *((uri, {}, rf"^STORE_URI {uri} ") for uri in ("s3://", "s3://a", "s3://bucket/prefix", "s3://Bucket")),
        ("a.zip", {}, r"^STORE_URI a\.zip is a file"),
        (S3, {}, "^s3://bucket: AWS_ENDPOINT_URL is not set"),
        (S3, {"AWS_ENDPOINT_URL": "minio:9000"}, "^s3://bucket: AWS_ENDPOINT_URL is 'minio:9000'"),
        (S3, {"AWS_ENDPOINT_URL": "http://minio", "AWS_ACCESS_KEY_ID": "a"}, "AWS_SECRET_ACCESS_KEY: one is set"),
        (S3, {"AWS_ENDPOINT_URL": "https://minio", "CA_BUNDLE": "/gone.pem"}, "CA_BUNDLE is '/gone.pem': No such"),
    ],
)
def test_store_is_refused_when_it_cannot_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, variables: dict[str, str], message: str
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "CA_BUNDLE"):
        monkeypatch.setenv(name, variables.get(name, ""))
    (tmp_path / "a.zip").touch()
    with pytest.raises(StoreError, match=message):
        open_store(tmp_path, uri)
