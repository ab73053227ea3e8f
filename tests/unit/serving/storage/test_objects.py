"""Files and objects by URI; tests/integration/test_server_store.py has what needs a server."""

from pathlib import Path

import pytest

from serving.storage.endpoint import Endpoint
from serving.storage.objects import StorageError, beside, read, write

NOWHERE = Endpoint(None, None, None, None)


def test_refused_when_a_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"a\.onnx: cannot be read: FileNotFoundError"):
        read(str(tmp_path / "a.onnx"), NOWHERE)


def test_read_back_when_written_to_a_folder(tmp_path: Path) -> None:
    write(str(tmp_path), "captures/dev/a.json", b"{}", "application/json", NOWHERE)
    assert read(f"file://{tmp_path}/captures/dev/a.json", NOWHERE) == b"{}"
    assert [path.name for path in (tmp_path / "captures/dev").iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("uri", "url"), [("s3://models/a", None), ("s3://models/a", "minio:9000"), ("s3:///a", "http://x")]
)
def test_refused_when_the_address_is_wrong(uri: str, url: str | None) -> None:
    with pytest.raises(StorageError, match="expected"):
        read(uri, Endpoint(url, None, None, None))


def test_no_secret_told_when_the_store_is_away() -> None:
    with pytest.raises(StorageError, match="cannot be read") as caught:
        read("s3://models/a", Endpoint("http://127.0.0.1:9", "user", "geheim", None))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "other"),
    [("manifest.json", "model.onnx"), ("a/m.json", "a/model.onnx"), ("s3://b/m/1/m.json", "s3://b/m/1/model.onnx")],
)
def test_found_beside_when_in_one_folder(uri: str, other: str) -> None:
    assert beside(uri, "model.onnx") == other
