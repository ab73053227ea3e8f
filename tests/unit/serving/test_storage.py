"""Files and objects by URI; the S3 side against a small server that answers as S3 does."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serving.s3 import Endpoint
from serving.storage import StorageError, beside, read, write

NOWHERE = Endpoint(None, None, None, None)


class S3(BaseHTTPRequestHandler):
    """One bucket, "models"; path style; whatever is signed is accepted."""

    objects: dict[str, bytes]
    cut = False

    def do_GET(self) -> None:
        if "location" in self.path:
            self._answer(200, b'<?xml version="1.0"?><LocationConstraint></LocationConstraint>')
            return
        data = self.objects.get(self.path)
        if data is None:
            self._answer(404, b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>gone</Message></Error>')
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if self.cut else data)

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"", ETag='"abc"')

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/xml", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def bucket() -> Iterator[tuple[type[S3], Endpoint]]:
    handler = type("OneS3", (S3,), {"objects": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, Endpoint(f"http://127.0.0.1:{server.server_port}", "user", "geheim", None)
    server.shutdown()
    thread.join()
    server.server_close()


def test_refused_when_a_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"a\.onnx: cannot be read: FileNotFoundError"):
        read(str(tmp_path / "a.onnx"), NOWHERE)


def test_read_back_when_written_to_a_folder(tmp_path: Path) -> None:
    write(str(tmp_path), "captures/dev/a.json", b"{}", "application/json", NOWHERE)
    assert read(f"file://{tmp_path}/captures/dev/a.json", NOWHERE) == b"{}"
    assert [path.name for path in (tmp_path / "captures/dev").iterdir()] == ["a.json"]


def test_read_back_when_written_to_a_bucket(bucket: tuple[type[S3], Endpoint]) -> None:
    handler, endpoint = bucket
    write("s3://models/prefix/", "captures/a b.json", b"{}", "application/json", endpoint)
    assert list(handler.objects) == ["/models/prefix/captures/a%20b.json"]
    assert read("s3://models/prefix/captures/a b.json", endpoint) == b"{}"


def test_refused_when_an_object_is_missing_or_cut(bucket: tuple[type[S3], Endpoint]) -> None:
    handler, endpoint = bucket
    with pytest.raises(StorageError, match=r"s3://models/1/model.onnx: cannot be read: .*NoSuchKey"):
        read("s3://models/1/model.onnx", endpoint)
    handler.objects["/models/a"] = bytes(1000)
    handler.cut = True
    with pytest.raises(StorageError, match="s3://models/a"):
        read("s3://models/a", endpoint)


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
