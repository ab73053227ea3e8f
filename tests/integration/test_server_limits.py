import contextlib
import json
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.hostile import jpeg2000_of
from tests.support.processes import until
from tests.support.servers import BOUNDARY, Server, form, running
from tests.support.shades import film, shade

HEAD = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
KEY = {"X-API-Key": "geheim"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, bright_model: Path) -> Iterator[Server]:
    limits = {
        "MAX_PICTURE_BYTES": "100000",
        "MAX_PICTURE_PIXELS": "1000000",
        "UPLOAD_SECONDS": "1",
        "API_KEY": KEY["X-API-Key"],
    }
    with running(tmp_path_factory.mktemp("server"), MODEL_URI=str(bright_model), **limits) as started:
        yield started


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (413, "X-API-Key: geheim\r\nContent-Length: 999999999\r\nExpect: 100-continue\r\n\r\n"),  # no "100 Continue"
        (408, "X-API-Key: geheim\r\nContent-Length: 5000\r\n\r\n--"),
        (400, "X-API-Key: geheim\r\nContent-Length: 90000\r\n\r\nthis is no form"),
        (401, "Content-Length: 999999999\r\n\r\n"),
    ],
)
def test_refused_and_closed_before_the_body_came(status: int, head: str, small: Server) -> None:
    start = time.monotonic()
    with small.connect() as connection:
        connection.sendall(f"{HEAD}{head}".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # to its end
    assert answer.startswith(f"HTTP/1.1 {status}".encode())
    assert b"connection: close" in answer
    assert status != 408 or 0.8 < time.monotonic() - start < 10


def test_413_at_the_limit_when_the_body_has_no_length(small: Server) -> None:
    sent = 0
    with small.connect() as connection:
        connection.sendall(f"{HEAD}X-API-Key: geheim\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        begin = form([("file", "a.jpg", b"")])[: -len(BOUNDARY) - 8]
        connection.sendall(f"{len(begin):x}\r\n".encode() + begin + b"\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1_000):
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
                time.sleep(0.001)
        assert sent < 20_000_000
    assert b'flywheel_rejects_total{reason="too_large"}' in small.get("/metrics", **KEY).body


def test_413_when_the_picture_is_a_bomb(small: Server) -> None:
    before = small.resident_mb()
    bomb = shade(0, 9_000, 9_000)
    assert len(bomb) > 100_000
    assert small.post("/detect", bomb, **KEY).status == 413
    header = shade(0, 5_000, 5_000)
    assert len(header) < 100_000
    answer = small.post("/detect", header, **KEY)
    assert answer.status == 413
    assert "5000x5000 pixels" in answer.json()["error"]
    assert small.resident_mb() - before < 30


def test_413_from_the_headers_when_there_is_never_memory_for_it(tmp_path: Path, bright_model: Path) -> None:
    jpeg2000 = jpeg2000_of(7_000, 7_000, (7_000, 7_000), 3)  # 49 megapixels
    video = film([0], (7_680, 4_320), codec="mpeg4")  # 8K
    with running(tmp_path, MODEL_URI=str(bright_model), DECODE_MEMORY_BYTES="600000000") as server:
        server.post("/detect/video", film([0]))
        before = server.resident_mb()
        for path, data in (("/detect", jpeg2000), ("/detect/image", jpeg2000), ("/detect/video", video)):
            answer = server.post(path, data)
            assert answer.status == 413 and "retry-after" not in answer.headers, (path, answer.body)
            assert re.search(r"need.* [\d,]+ MB.* expected at most 600 MB, so send a smaller", answer.json()["error"])
        job = server.post("/jobs/video", video).headers["location"]
        failed = until(lambda: (it := server.get(job).json())["state"] == "failed" and it)
        assert "expected at most 600 MB" in failed["error"]
        assert server.resident_mb() - before < 60


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "x"}, {"X-API-Key": "geheim2"}, {"Authorization": "Basic a"}])
def test_401_when_the_key_is_wrong(headers: dict[str, str], small: Server) -> None:
    for path in ("/model", "/metrics"):
        answer = small.get(path, **headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    for path in ("/docs", "/openapi.json", "/healthz", "/readyz", "/static/swagger-ui.css"):
        assert small.get(path, **headers).status == 200, path


@pytest.mark.parametrize("headers", [KEY, {"Authorization": "Bearer geheim"}])
def test_answered_when_the_key_is_right(headers: dict[str, str], small: Server) -> None:
    assert small.post("/detect", shade(1), **headers).status == 200
    assert small.get("/metrics", **headers).status == 200


def test_only_feedback_and_metrics_guarded_when_anyone_may_detect(tmp_path: Path, bright_model: Path) -> None:
    with running(tmp_path, MODEL_URI=str(bright_model), API_KEY="geheim", API_KEY_FOR="feedback") as server:
        assert server.post("/detect", shade(1)).status == 200
        for path in ("/feedback", "/%66eedback", "/feedback/", "//feedback", "/metrics", "/metrics/", "/%6detrics"):
            assert server.ask("POST", path, b"{}", {}).status in (401, 404, 307, 405), path
            assert server.get(path).status in (401, 404, 307), path
        assert server.get("/%6detrics").status == 401
        # Past the key; and it keeps no pictures, so it takes no feedback.
        assert server.post_form("/feedback", [("verdict", None, b"missed")], **KEY).status == 409
        assert server.get("/metrics", **KEY).status == 200


def test_button_for_the_key_and_nothing_from_elsewhere_when_the_page_is_read(small: Server) -> None:
    api = small.get("/openapi.json").json()
    assert api["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "X-API-Key"
    assert all("security" in api["paths"][path]["post"] for path in ("/detect", "/detect/image", "/feedback"))
    page = small.get("/docs").body.decode()
    assert "https://" not in page and "http://" not in page
    assert '"validatorUrl": null' in page


def test_log_lines_stay_whole_when_the_sender_forges(small: Server) -> None:
    evil = 'a\\r\\n{"level": "FORGED"}'
    small.post("/detect", b"x", filename=evil, **KEY)
    small.get("/%0a%0dFORGED")
    assert small.get("/../../etc/passwd").status in (401, 404)
    assert small.get("/static/../../app.py").status in (401, 404)
    lines = small.lines()
    assert lines
    assert "FORGED" not in json.dumps(lines)


def test_nothing_on_disk_when_large_pictures_came(server: Server) -> None:
    assert server.post("/detect", shade(1) + bytes(8_000_000)).status == 200
    assert not list((server.log.parent / "tmp").iterdir())


def test_503_with_retry_after_when_the_queue_is_full(tmp_path: Path, bright_model: Path) -> None:
    large = shade(128, 5000, 5000)
    with (
        running(tmp_path, MODEL_URI=str(bright_model), WORKERS="1", MAX_WAITING="1") as server,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda _: server.post("/detect", large), range(16)))
        assert {answer.status for answer in answers} == {200, 503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status == 503)
        assert b'flywheel_rejects_total{reason="busy"}' in server.get("/metrics").body


def test_answer_comes_when_told_to_stop(tmp_path: Path, bright_model: Path) -> None:
    large = shade(128, 5000, 5000)
    with (
        running(tmp_path, MODEL_URI=str(bright_model), DRAIN_SECONDS="4", WORKERS="1") as server,
        ThreadPoolExecutor(3) as pool,
    ):
        answers = [pool.submit(server.post, "/detect", large) for _ in range(3)]
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.get("/readyz").status == 503)
        assert server.post("/detect", shade(1)).status == 200  # still answers, until it is out of the cluster's list
        assert [answer.result().status for answer in answers] == [200] * 3
        assert server.process.wait(20) in (0, -signal.SIGTERM)
