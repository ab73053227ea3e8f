"""What goes wrong with a store: after each there is a clear error or a completed retry, and the store is whole."""

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio import time as minio_time

from runner.errors import ObjectError, StoreError
from runner.store.init import init_store
from runner.store.s3 import S3Store
from runner.store.verify import verify_store
from serving.storage.endpoint import pool_of
from tests.support.answering import Handler, answering
from tests.support.processes import disk
from tests.support.s3 import S3, Use, serving_s3

CONTENT = random.Random(1).randbytes(40 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = f"datasets/planes/{SHA256[:12]}.zip"
HALF = len(CONTENT) // 2


CHUNK = 64 << 10


@dataclass
class Proxy:
    """Hands on what it is sent to another server."""

    target: int  # port on loopback
    cut_every: int = 0  # each so-manieth connection is cut while it answers; 0: none
    after: int = 0  # bytes, in both directions together, after which `then` is called, once
    then: Callable[[], object] | None = None  # the transfer waits for it
    port: int = 0
    connections: int = 0
    cuts: int = 0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                cut = self.cut_every and self.connections % self.cut_every == 0
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=30)
            except OSError:
                client.close()
                continue
            for source, sink, cuts in ((client, server, False), (server, client, bool(cut))):
                threading.Thread(target=self._hand_on, args=(source, sink, cuts), daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket, cut: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                with self._lock:
                    self.bytes += len(data)
                    if self.then and self.bytes >= self.after:
                        due, self.then = self.then, None
                        due()
                if cut:
                    self.cuts += 1
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def proxying(url: str, **options: object) -> Iterator[Proxy]:
    """A proxy before the server at a URL until the block ends; `options` as in Proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(urlsplit(url).port or 0, port=listener.getsockname()[1], **options)  # type: ignore[arg-type]
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        yield proxy
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # else accept goes on


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(CONTENT)
    return tmp_path / "source"


def is_whole(store: S3Store) -> bool:
    text, well = verify_store(store)
    return well and text.endswith("1 objects of 0 versions hashed, 0 errors")


def restart(server: S3, seconds: float = 1) -> None:
    """Kill a server; it is there again a little later."""
    server.stop(kill=True)
    threading.Timer(seconds, server.start).start()


@pytest.fixture(params=["minio", "rclone"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[S3]:
    """A server of either kind that the test may kill."""
    with serving_s3(request.param, tmp_path / "server") as server:
        yield server
        while server.process is None:  # a timer starts it
            time.sleep(0.1)


@pytest.mark.parametrize("own", ["minio", "rclone", "seaweedfs"], indirect=True)
def test_transfers_complete_when_the_server_is_killed(own: S3, use: Use, source: Path, tmp_path: Path) -> None:
    environment = own.bucket()
    with proxying(own.url, after=HALF, then=lambda: restart(own)) as proxy:
        store = use(environment | {"AWS_ENDPOINT_URL": proxy.url})
        assert store.put_file(KEY, source)
        assert proxy.then is None
        assert is_whole(store) and store.digest(KEY) == SHA256
    with proxying(own.url, after=HALF, then=lambda: restart(own)) as proxy:
        store = use(environment | {"AWS_ENDPOINT_URL": proxy.url})
        store.fetch(KEY, tmp_path / "out" / "zip", SHA256)
        assert proxy.then is None
        assert proxy.bytes < 1.3 * len(CONTENT)  # what came was not sent again
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["zip"]
    assert is_whole(use(environment))


def test_download_goes_on_when_we_are_killed(s3: S3, use: Use, source: Path, tmp_path: Path, project: Path) -> None:
    environment = s3.bucket()
    use(environment).put_file(KEY, source)
    code = f"""
from pathlib import Path
from runner.store import open_store
open_store(Path()).fetch({KEY!r}, Path({str(tmp_path / "out" / "zip")!r}), {SHA256!r})
"""
    child: subprocess.Popen[bytes]
    with proxying(s3.url, after=HALF, then=lambda: child.kill()) as proxy:
        variables = os.environ | environment | {"AWS_ENDPOINT_URL": proxy.url}
        child = subprocess.Popen([sys.executable, "-c", code], cwd=project, env=variables)
        assert child.wait(60) == -9
        (partial,) = (tmp_path / "out").iterdir()
        came = partial.stat().st_size
        assert 0 < came < len(CONTENT)
        before = proxy.bytes
        store = use(environment | {"AWS_ENDPOINT_URL": proxy.url})
        store.fetch(KEY, tmp_path / "out" / "zip", SHA256)
        assert proxy.bytes - before < len(CONTENT) - came + 100_000
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["zip"]
    assert (tmp_path / "out" / "zip").read_bytes() == CONTENT


def test_download_begins_anew_when_what_was_left_is_garbage(
    s3: S3, use: Use, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = use(s3.bucket())
    store.put_file(KEY, source)
    with monkeypatch.context() as patch:
        patch.setattr(store.bucket, "download", lambda key, found, sink: sink.write(bytes(HALF)) or 1 / 0)
        with pytest.raises(ZeroDivisionError, match="division"):
            store.fetch(KEY, tmp_path / "out" / "zip", SHA256)
    assert [path.stat().st_size for path in (tmp_path / "out").iterdir()] == [HALF]
    store.fetch(KEY, tmp_path / "out" / "zip", SHA256)
    assert (tmp_path / "out" / "zip").read_bytes() == CONTENT


def test_all_completes_when_every_third_connection_is_cut(s3: S3, use: Use, source: Path, tmp_path: Path) -> None:
    environment = s3.bucket()
    with proxying(s3.url, cut_every=3) as proxy:
        store = use(environment | {"AWS_ENDPOINT_URL": proxy.url})
        init_store(tmp_path)
        assert store.put_file(KEY, source)
        store.fetch(KEY, tmp_path / "zip", SHA256)
        for number in range(times := 20 if store.capabilities.conditional_put else 3):
            pool_of(store.bucket.endpoint).clear()  # else few connections do for everything
            assert store.create(f"runs/planes/{number}/claim.json", str(number).encode())
            store.replace("models/planes/latest.json", str(number).encode())
            assert store.read("models/planes/latest.json") == str(number).encode()
        assert len(store.list("runs/")) == times
        assert proxy.cuts >= times // 2
    assert use(environment).digest(KEY) == SHA256


def test_full_disk_is_said_when_a_download_does_not_fit(s3: S3, use: Use, source: Path, tmp_path: Path) -> None:
    store = use(s3.bucket())
    store.put_file(KEY, source)
    with disk(tmp_path / "disk", "8M") as full:
        with pytest.raises(OSError, match="No space left on device"):
            store.fetch(KEY, full / "zip", SHA256)
        assert list(full.iterdir()) == []
    assert is_whole(store)


def test_full_disk_is_said_when_it_is_the_servers(use: Use, source: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "64M") as full, serving_s3("minio", full / "minio") as server:
        store = use(server.bucket())
        with pytest.raises(StoreError, match=r"the store is full \(XMinioStorageFull\)"):
            for number in range(3):
                (tmp_path / "large").write_bytes(bytes([number]) + CONTENT[1:])
                store.put_file(f"weights/{number}", tmp_path / "large")
        text, well = verify_store(store)
        assert well, text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, r"user nobody \((InvalidAccessKeyId|SignatureDoesNotMatch)\)"),
        ({"AWS_SECRET_ACCESS_KEY": "geheim"}, r"user root\w+ \(SignatureDoesNotMatch\)"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, r"set AWS_ACCESS_KEY_ID and AWS_SECRET"),
        ({"STORE_URI": "s3://not-there"}, r"there is no such bucket"),
    ],
)
def test_cause_is_said_when_credentials_or_bucket_are_wrong(
    s3: S3, use: Use, source: Path, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    environment = s3.bucket()
    use(environment).put_file(KEY, source)
    store = use(environment | change)
    for ask in (
        lambda: store.put_file("weights/x", source),
        lambda: store.fetch(KEY, tmp_path / "out"),
        lambda: store.list(""),
        lambda: store.read("a"),
    ):
        with pytest.raises(StoreError, match=rf"^{store.uri}: .*{message}") as caught:
            ask()
        assert "geheim" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert is_whole(use(environment))


def test_clocks_are_said_when_ours_is_wrong(minio: S3, use: Use, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = use(minio.bucket())
    with monkeypatch.context() as patch:
        patch.setattr(minio_time, "utcnow", lambda: datetime.now(UTC) + timedelta(hours=1))
        with pytest.raises(StoreError, match=r"clocks .* GMT, .* GMT"):
            store.put_file(KEY, source)
    assert store.put_file(KEY, source) and is_whole(store)


def test_error_comes_when_the_store_stays_away(use: Use, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = use({"STORE_URI": "s3://planes", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    store.bucket.retry_waits_s = (0.1, 0.1)
    with pytest.raises(StoreError, match=rf"^s3://planes: {KEY} .*http://127.0.0.1:9 .*refused.*AWS_ENDPOINT_URL"):
        store.put_file(KEY, source)
    assert capsys.readouterr().err.count("trying again") == 1


class Console(Handler):
    def do_GET(self) -> None:  # noqa: N802
        self.answer(200, b"<!doctype html><p>Sign in")


def test_something_else_than_s3_is_recognised_when_it_answers(use: Use) -> None:
    with answering(Console) as port:
        user = {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "geheim"}
        store = use({"STORE_URI": "s3://planes", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", **user})
        with pytest.raises(StoreError, match=rf"http://127.0.0.1:{port} does not speak S3"):
            store.exists("a")


def truncate(server: S3) -> None:
    """Cut what the server keeps on its disk of the test's object, or of its second part, to a half."""
    (kept,) = server.data.rglob("*.zip")
    file = sorted(kept.rglob("part.*"))[-1] if kept.is_dir() else kept
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("size", [len(CONTENT), 1 << 20])
def test_damage_is_found_when_an_object_is_truncated(own: S3, use: Use, tmp_path: Path, size: int) -> None:
    (tmp_path / "source").write_bytes(CONTENT[:size])
    sha256 = hashlib.sha256(CONTENT[:size]).hexdigest()
    key = f"datasets/planes/{sha256[:12]}.zip"
    store = use(own.bucket())
    store.put_file(key, tmp_path / "source")
    truncate(own)
    with pytest.raises(ObjectError, match=r"breaks off after|its sha256 is \w{64}, but|cannot read it"):
        store.fetch(key, tmp_path / "out" / "zip", sha256)
    assert not (tmp_path / "out" / "zip").exists()
    text, well = verify_store(store)
    assert not well and key in text and text.endswith("1 errors")
    own.client().remove_object(store.bucket.name, key)
    assert store.put_file(key, tmp_path / "source") and is_whole(store)


def test_damage_is_found_when_a_small_object_was_replaced(minio: S3, use: Use) -> None:
    store, key = use(minio.bucket()), "models/planes/latest.json"
    store.replace(key, b"1")
    minio.put(store.bucket.name, key, b"2", sha256=SHA256)
    with pytest.raises(ObjectError, match=rf"{key}: its sha256 is \w{{64}}, but {SHA256}"):
        store.read(key)
