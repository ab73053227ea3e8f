"""Files and objects by URI; tests/integration/test_server_store.py has what needs a server."""

from pathlib import Path

import pytest

from serving.storage.endpoint import Endpoint
from serving.storage.objects import StorageError, check_writable, read, write
from tests.support.processes import disk


def test_read_back_when_written_to_a_folder(tmp_path: Path) -> None:
    nowhere = Endpoint(None, None, None, None)
    write(str(tmp_path), "captures/dev/a.json", b"{}", "application/json", nowhere)
    assert read(f"file://{tmp_path}/captures/dev/a.json", nowhere) == b"{}"
    assert [path.name for path in (tmp_path / "captures/dev").iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["a b.json", "50% é #1?.json", "a%20b.json"])
def test_one_file_when_named_by_path_or_by_uri(name: str, tmp_path: Path) -> None:
    nowhere = Endpoint(None, None, None, None)
    write(str(tmp_path), name, b"{}", "application/json", nowhere)
    assert read(str(tmp_path / name), nowhere) == read((tmp_path / name).as_uri(), nowhere) == b"{}"
    write(tmp_path.joinpath("folder " + name).as_uri(), "b", b"[]", "application/json", nowhere)
    assert (tmp_path / f"folder {name}/b").read_bytes() == b"[]"


@pytest.mark.parametrize(
    ("uri", "url", "message"),
    [
        ("gone/a.onnx", None, "no such file"),
        ("s3://models/a", None, "AWS_ENDPOINT_URL is not set"),
        ("s3://models/a", "minio:9000", "AWS_ENDPOINT_URL is 'minio:9000'"),
        ("s3:///a", "http://x", "s3://bucket/key"),
        ("s3://models/a", "http://127.0.0.1:9", "http://127.0.0.1:9 does not answer"),
    ],
)
def test_refused_without_the_secret_when_it_cannot_be_read(uri: str, url: str | None, message: str) -> None:
    with pytest.raises(StorageError, match=f"^{uri}: .*{message}") as caught:
        read(uri, Endpoint(url, "user", "geheim", None))
    assert "geheim" not in str(caught.value)


def test_nothing_left_behind_when_the_disk_is_full(tmp_path: Path) -> None:
    nowhere = Endpoint(None, None, None, None)
    with disk(tmp_path / "small", 100_000) as small:
        for _ in range(3):
            with pytest.raises(StorageError, match=r"a\.jpg cannot be written"):
                write(str(small), "a.jpg", bytes(300_000), "image/jpeg", nowhere)
        assert list(small.iterdir()) == []
        write(str(small), "a.jpg", bytes(50_000), "image/jpeg", nowhere)


def test_said_when_a_folder_cannot_be_written(tmp_path: Path) -> None:
    nowhere = Endpoint(None, None, None, None)
    check_writable(str(tmp_path / "new"), "captures/dev", nowhere)
    assert [path for path in (tmp_path / "new").rglob("*") if path.is_file()] == []
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot be written"):
        check_writable(str(tmp_path / "file"), "captures/dev", nowhere)
