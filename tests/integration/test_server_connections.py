"""Connections that send or read slowly, or nothing: closed after a time, while others are answered."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import until
from tests.support.servers import BOUNDARY, Server, form, running
from tests.support.shades import film, shade

HEAD = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
SECONDS = 20.0  # more than any limit here, on a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, bright_model: Path) -> Iterator[Server]:
    limits = {
        **{"HEADER_SECONDS": "1", "UNREAD_SECONDS": "1", "KEEP_ALIVE_SECONDS": "2", "MAX_CONNECTIONS": "40"},
        **{"UPLOAD_SECONDS": "60", "MAX_HELD_BYTES": "1000000"},
    }
    with running(tmp_path_factory.mktemp("server"), MODEL_URI=str(bright_model), **limits) as started:
        yield started


def closed(server: Server, reason: str) -> float:
    """How many connections the server closed for a reason."""
    name = f'flywheel_connections_closed_total{{reason="{reason}"}} '
    lines = server.get("/metrics").body.decode().splitlines()
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


def to_the_end(connection: socket.socket) -> bytes:
    connection.settimeout(SECONDS)
    with contextlib.suppress(ConnectionResetError):
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


def answered(connection: socket.socket) -> bool:
    """Read the answer to GET; whether it is 200."""
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    return answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("before", "half"),
    [
        (b"", b""),
        (b"", b"P"),
        (b"", b"POST /detect HT"),
        (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"),
        (b"", b"\r\n\r\n\r\n"),
        (GET, b"GET /heal"),
    ],
)
def test_closed_when_half_a_request_came(before: bytes, half: bytes, server: Server) -> None:
    with server.connect() as connection:
        if before:
            connection.sendall(before)
            assert answered(connection)
        start = time.monotonic()
        connection.sendall(half)
        answer = to_the_end(connection)
        assert 0.8 < time.monotonic() - start < SECONDS
        assert answer.startswith(b"HTTP/1.1 408") == bool(half)


def test_closed_when_a_request_comes_byte_by_byte(server: Server) -> None:
    start = time.monotonic()
    with server.connect() as connection, contextlib.suppress(OSError):
        for byte in b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 100:
            connection.sendall(bytes([byte]))
            time.sleep(0.2)
    assert time.monotonic() - start < SECONDS


def test_kept_for_a_while_between_two_requests(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(GET)
            assert answered(connection)
            time.sleep(1.3)  # more than HEADER_SECONDS
        start = time.monotonic()
        assert to_the_end(connection) == b""
        assert time.monotonic() - start < SECONDS


@pytest.mark.parametrize("sent", [b"", b"POST /detect HT", GET, f"{HEAD}Content-Length: 5000\r\n\r\n--".encode()])
def test_others_answered_when_more_connections_come_than_there_may_be(sent: bytes, server: Server) -> None:
    before = closed(server, "displaced")
    with ExitStack() as stack:
        for number in range(120):
            connection = stack.enter_context(server.connect())
            with contextlib.suppress(OSError):
                connection.sendall(sent)
            if number % 20 == 0:
                until(lambda: server.get("/healthz").status == 200, SECONDS)
                until(lambda: server.post("/detect", shade(1)).status == 200, SECONDS)
    assert closed(server, "displaced") > before
    assert server.log.stat().st_size < 300_000


def test_503_when_all_connections_are_at_work(tmp_path: Path, bright_model: Path) -> None:
    body = form([("file", "a.mp4", film([0] * 400, (640, 480)))])
    with running(tmp_path, MODEL_URI=str(bright_model), MAX_CONNECTIONS="1") as server:
        with server.connect() as connection:
            head = HEAD.replace("/detect", "/detect/video?every=1") + "Accept: video/mp4\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            time.sleep(1)
            answer = server.get("/healthz")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        until(lambda: server.get("/healthz").status == 200, SECONDS)
        assert closed(server, "full") >= 1


def test_little_logged_and_answered_when_files_run_out(tmp_path: Path, bright_model: Path) -> None:
    settings = {"MODEL_URI": str(bright_model), "HEADER_SECONDS": "2"}
    with running(tmp_path, files="200", **settings) as server, ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(server.connect()).sendall(b"POST /detect HT")
        until(lambda: server.get("/healthz").status == 200, SECONDS)
        assert server.post("/detect", shade(1)).status == 200
        until(lambda: server.get("/metrics").body.count(b"\nflywheel_connections 1.0") == 1)
        assert len(server.lines()) < 100


@pytest.mark.parametrize(("path", "times"), [("/static/swagger-ui-bundle.js", 10), ("/openapi.json", 400)])
def test_closed_when_the_answer_is_not_read(path: str, times: int, server: Server) -> None:
    before = closed(server, "unread")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        with contextlib.suppress(OSError):
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * times)
        until(lambda: closed(server, "unread") > before, SECONDS)


LARGE = {
    "value": [b"GET / HTTP/1.1\r\nX: ", b"a" * 5_000_000],
    "headers": [b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 300_000],
    "url": [b"GET /", b"a" * 5_000_000],
    "trailers": [HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n1\r\n-\r\n0\r\n", b"X: y\r\n" * 300_000],
    "extension": [HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n1;a=", b"b" * 5_000_000],
}


@pytest.mark.parametrize("name", LARGE)
def test_closed_in_little_memory_when_a_head_never_ends(name: str, server: Server) -> None:
    before, memory = closed(server, "large_head"), server.resident_mb()
    with server.connect() as connection, contextlib.suppress(OSError):
        for piece in LARGE[name]:
            connection.sendall(piece)
        to_the_end(connection)
    assert closed(server, "large_head") == before + 1
    assert server.resident_mb() - memory < 20


def test_others_answered_soon_when_bodies_come_in_chunks_of_a_byte(server: Server) -> None:
    start = form([("file", "a.png", b"")])[: -len(BOUNDARY) - 8]
    wire = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{len(start):x}\r\n".encode() + start + b"\r\n"
    wire += b"1\r\n0\r\n" * 500_000 + b"0\r\n\r\n"

    def send() -> None:
        with server.connect() as connection, contextlib.suppress(OSError):
            connection.sendall(wire)
            to_the_end(connection)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    waits = []
    while any(thread.is_alive() for thread in threads):
        asked = time.monotonic()
        assert server.get("/healthz").status == 200
        waits.append(time.monotonic() - asked)
    assert max(waits) < 3


def test_video_answered_when_another_sends_nothing(server: Server) -> None:
    video = film([0] * 5)
    with server.connect() as connection:
        connection.sendall(HEAD.replace("/detect", "/detect/video").encode() + b"Content-Length: 5000\r\n\r\n")
        time.sleep(0.3)
        assert server.post("/detect/video", video).status == 200


def test_video_answered_when_the_sender_of_another_is_gone(server: Server) -> None:
    body = form([("file", "a.mp4", film([0] * 400, (640, 480)))])
    with server.connect() as connection:
        head = (
            HEAD.replace("/detect", "/detect/video?every=1") + f"Accept: video/mp4\r\nContent-Length: {len(body)}\r\n"
        )
        connection.sendall(f"{head}\r\n".encode() + body)
        until(lambda: server.post("/detect/video", film([0])).status == 503, SECONDS)
        gone = time.monotonic()
    until(lambda: server.post("/detect/video", film([0])).status == 200, SECONDS)
    assert time.monotonic() - gone < 3


def test_uploads_that_stand_still_make_room(server: Server) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(3)]
        for connection in held:
            connection.sendall(f"{HEAD}Content-Length: 400000\r\n\r\n".encode() + form([("file", "a", bytes(320_000))]))
        time.sleep(1.5)
        for _ in range(3):
            assert server.post("/detect", shade(1) + bytes(100_000)).status == 200
        assert b"slow" in to_the_end(held[0]) or b"slow" in to_the_end(held[1])
    assert b'flywheel_rejects_total{reason="slow"}' in server.get("/metrics").body


def test_done_files_answered_when_one_of_a_batch_is_slow(tmp_path: Path, bright_model: Path) -> None:
    settings = {"MODEL_URI": str(bright_model), "REQUEST_SECONDS": "0.3", "WORKERS": "2"}
    with running(tmp_path, **settings) as server:
        slow = shade(0, 7_000, 7_000)
        answer = server.post_form("/detect/batch", [("files", "a", shade(1)), ("files", "b", slow)])
        assert answer.status == 200, answer.body
        assert [each["status"] for each in answer.json()["results"]] == [200, 503]
        assert server.post_form("/detect/batch", [("files", "b", slow)]).status == 503
