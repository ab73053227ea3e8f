"""Senders that are slow, odd or hostile, against a real server."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import BOUNDARY, Server, form, running
from tests.support.shades import shade

KEY = {"X-API-Key": "geheim"}
CLOSED = (401, 404)
UNKNOWN = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, bright_model: Path, server: Server) -> Iterator[dict[str, Server]]:
    """A server with each of uvicorn's two parsers."""
    folder = tmp_path_factory.mktemp("h11")
    with running(folder, flags=["--http", "h11"], MODEL_URI=str(bright_model)) as other:
        yield {"httptools": server, "h11": other}


@pytest.mark.parametrize("prefix", ["/vision", "/a/b", "/vision/"])
@pytest.mark.parametrize("needed_for", ["all", "feedback"])
def test_key_needed_as_without_a_prefix_when_there_is_one(
    prefix: str, needed_for: str, tmp_path: Path, bright_model: Path
) -> None:
    settings = {"API_KEY": "geheim", "API_KEY_FOR": needed_for, "CAPTURE_URI": str(tmp_path / "store")}
    with running(tmp_path, flags=["--root-path", prefix], MODEL_URI=str(bright_model), **settings) as server:
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/static/swagger-ui.css"):
            assert server.get(path).status == 200, path
        about = [("request_id", None, UNKNOWN.encode()), ("verdict", None, b"missed")]
        for path in ("/feedback", "/feedback/", "/feedback//", f"{prefix}/feedback", "//feedback", "/%66eedback"):
            assert server.post_form(path, about).status in CLOSED, path
        for path in ("/metrics", "/metrics/", f"{prefix}/metrics", "/metrics?x=y", "/%6detrics", "//metrics"):
            assert server.get(path).status in CLOSED, path
            assert server.ask("HEAD", path, None, {}).status in CLOSED, path
        assert server.post_form("/feedback", about).status == 401
        assert server.get("/metrics").status == 401
        assert server.post("/detect", shade(1)).status == (401 if needed_for == "all" else 200)
        assert server.get("/metrics", **KEY).status == 200
        assert server.post_form("/feedback", about, **KEY).json()["picture"] == "needed"


def test_new_key_taken_when_its_file_changes(tmp_path: Path, bright_model: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\n")
    with running(tmp_path, MODEL_URI=str(bright_model), API_KEY_FILE=str(keys)) as server:
        assert [server.get("/model", X_API_Key=key).status for key in ("one", "two")] == [401, 401]
        assert [server.get("/model", **{"X-API-Key": key}).status for key in ("one", "two")] == [200, 401]
        keys.write_text("one\ntwo\n")
        assert [server.get("/model", **{"X-API-Key": key}).status for key in ("one", "two")] == [200, 200]


BOMBS = {
    "objects": b"[" + b"{}," * 100_000 + b"{}]",
    "nulls": b"[" + b"null," * 60_000 + b"1]",
    "lists": b"[" * 200_000,
    "dicts": b'{"a":' * 50_000,
    "boxes": b"[" + b",".join([b'{"label":"airplane","box":{"x1":1,"y1":1,"x2":9,"y2":9}}'] * 5_000) + b"]",
    "number": b"[1" + b"0" * 300_000 + b"]",
    "text": b'["' + b"a" * 300_000 + b'"]',
    "large": b"[" + b"{}," * 1_000_000 + b"{}]",
    "keys": b"[{" + b",".join(b'"%d":1' % number for number in range(30_000)) + b"}]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_refused_in_little_memory_when_boxes_are_a_bomb(name: str, server: Server) -> None:
    before = server.resident_mb()
    fields = [("request_id", UNKNOWN), ("verdict", "missed")]
    parts = [(key, None, value.encode()) for key, value in fields] + [("boxes", "x.json", BOMBS[name])]
    answer = server.post_form("/feedback", parts)
    assert answer.status in (413, 422)
    assert len(answer.body) < 1_000
    assert server.resident_mb() - before < 40


@pytest.mark.parametrize("path", ["/detect", "/detect/image", "/detect/batch", "/detect/video", "/feedback"])
@pytest.mark.parametrize("boundary", ["a" * 257, "a" * 60_000, '""', "", "\xff", "a b", "=;"])
def test_4xx_when_the_boundary_is_odd(path: str, boundary: str, server: Server) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = server.ask("POST", path, b"x", kind)
    assert answer.status in (400, 415, 431)
    assert server.get("/healthz").status == 200


def test_told_what_is_wrong_or_taken_when_the_body_is_no_usual_form(server: Server) -> None:
    taken = server.ask("POST", "/detect", shade(204), {"Content-Type": "image/png"})
    assert (taken.status, taken.json()["counts"]) == (200, {"airplane": 1, "helicopter": 1})
    nameless = server.post_form("/detect", [("file", None, shade(204))])
    assert nameless.status == 200
    wrong_field = server.post_form("/detect", [("image", "a.png", shade(1))])
    assert wrong_field.status == 422 and "image" in wrong_field.json()["error"]
    coded = server.ask("POST", "/detect", b'{"image": "aGVsbG8="}', {"Content-Type": "application/json"})
    assert coded.status == 415 and "multipart/form-data" in coded.json()["error"]
    packed = {"Content-Type": "image/png", "Content-Encoding": "gzip"}
    compressed = server.ask("POST", "/detect", gzip.compress(shade(204)), packed)
    assert compressed.status == 415 and "'gzip'" in compressed.json()["error"]


@pytest.mark.parametrize(
    ("path", "field"), [("/detect", "file"), ("/detect/image", "file"), ("/detect/batch", "files")]
)
def test_422_when_a_parameter_is_in_the_form(path: str, field: str, server: Server) -> None:
    picture = (field, "a.png", shade(204))
    assert server.post_form(path, [picture]).status == 200
    answer = server.post_form(path, [("confidence", None, b"0.9"), picture])
    assert answer.status == 422 and "confidence" in answer.json()["error"]


@pytest.mark.parametrize("offer", ["h2c", "websocket", "x"])
@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("pieces", [1, 50])
def test_body_read_when_the_client_offers_another_protocol(
    pieces: int, http: str, offer: str, both: dict[str, Server]
) -> None:
    # As Java's HttpClient sends every request of plain HTTP, and `curl --http2`.
    wish = f"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\nHTTP2-Settings: AAEAAEAA\r\n"
    body = form([("file", "a.png", shade(204))])
    head = f"POST /detect HTTP/1.1\r\n{wish}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    last = f"GET /nothing HTTP/1.1\r\n{wish}Connection: close\r\n\r\n".encode()
    sent = whole + chunked + last
    step = -(-len(sent) // pieces)
    with both[http].connect() as connection:
        for start in range(0, len(sent), step):
            connection.sendall(sent[start : start + step])
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200", b"404"]
    assert received.count(b'"counts":{"airplane":1,"helicopter":1}') == 2


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json", "/metrics", "/model", "/"])
def test_headers_of_get_and_no_body_when_asked_by_head(path: str, server: Server) -> None:
    head, get = server.ask("HEAD", path, None, {}), server.get(path)
    assert (head.status, head.headers.get("content-type"), head.body) == (
        get.status,
        get.headers.get("content-type"),
        b"",
    )


def test_answered_without_a_redirect_when_the_path_ends_in_a_slash(server: Server) -> None:
    assert server.post("/detect/", shade(204)).status == 200
    assert server.get("/healthz/").status == 200
    for path in ("/nothing/", "//", "/detect//x/"):
        answer = server.get(path)
        assert "http://" not in answer.headers.get("location", "")


def feedback(server: Server, request_id: str, *files: tuple[str, str | None, bytes], **fields: str) -> tuple[int, str]:
    parts = [(name, None, text.encode()) for name, text in {"request_id": request_id, **fields}.items()]
    answer = server.post_form("/feedback", [*parts, *files])
    return answer.status, answer.body.decode()


def box(x1: float, y1: float, x2: float, y2: float, label: str = "airplane") -> str:
    return json.dumps([{"label": label, "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2}}])


@pytest.mark.parametrize(
    ("corners", "kept"),
    [
        ((-5, -5, 20, 20), None),
        ((40, 0, 70, 90), [40, 0, 64, 64]),
        ((50, 50, 5_000, 65), [50, 50, 64, 64]),
        ((0, 0, 64, 64), [0, 0, 64, 64]),
        ((5_000, 5_000, 9_000, 9_000), None),
        ((1, 1, 1 + 1e-9, 9), None),
        ((64, 1, 90, 9), None),
        ((9, 1, 1, 9), None),
        ((0, 1, 1e308, 9), [0, 1, 64, 9]),
    ],
)
def test_box_clipped_to_the_picture_or_refused(
    corners: tuple[float, float, float, float], kept: list[float] | None, server: Server
) -> None:
    request_id = server.post("/detect", shade(100)).json()["request_id"]
    status, text = feedback(server, request_id, verdict="missed", boxes=box(*corners))
    assert status == (422 if kept is None else 200), text
    found = list((server.log.parent / "store").rglob(f"{request_id}.feedback.json"))
    assert len(found) == (kept is not None)
    if kept is not None:
        assert list(json.loads(found[0].read_text())["boxes"][0]["box"].values()) == kept


def test_thing_of_an_unknown_class_kept_when_it_is_reported(server: Server) -> None:
    request_id = server.post("/detect", shade(100)).json()["request_id"]
    assert feedback(server, request_id, verdict="missed", boxes=box(1, 1, 9, 9, "zeppelin"))[0] == 200
    said = json.loads(next((server.log.parent / "store").rglob(f"{request_id}.feedback.json")).read_text())
    assert (said["boxes"][0]["label"], said["unknown_classes"]) == ("zeppelin", ["zeppelin"])
    for label in ("", " ", "a\nb", "x" * 201):
        assert feedback(server, request_id, verdict="missed", boxes=box(1, 1, 9, 9, label))[0] == 422


def test_first_verdict_stays_when_another_comes(server: Server) -> None:
    request_id = server.post("/detect", shade(100)).json()["request_id"]
    assert feedback(server, request_id, verdict="missed", boxes=box(1, 1, 9, 9))[0] == 200
    assert feedback(server, request_id, verdict="missed", boxes=box(1, 1, 9, 9))[0] == 200  # sent twice
    for later in ({"verdict": "correct"}, {"verdict": "missed"}, {"verdict": "missed", "comment": "x"}):
        status, text = feedback(server, request_id, **later)
        assert status == 409 and "missed" in text
    said = json.loads(next((server.log.parent / "store").rglob(f"{request_id}.feedback.json")).read_text())
    assert (said["verdict"], len(said["boxes"])) == ("missed", 1)


def test_nothing_overwritten_or_stored_when_the_id_is_invented(server: Server) -> None:
    store = server.log.parent / "store"
    known = server.post("/detect", shade(100)).json()["request_id"]
    feedback(server, known, verdict="correct")
    files = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert feedback(server, UNKNOWN[::-1], verdict="wrong")[0] == 200  # needed
    assert {path for path in store.rglob("*") if path.is_file()} == set(files)
    answer = server.post_form(
        "/feedback", [("request_id", None, UNKNOWN.encode()), ("verdict", None, b"wrong"), ("file", "a", shade(7))]
    ).json()
    assert answer["picture"] == "kept" and answer["kept_as"] != UNKNOWN
    assert not list(store.rglob(f"{UNKNOWN}*"))
    said = json.loads(next(store.rglob(f"{answer['kept_as']}.feedback.json")).read_text())
    assert (said["request_id"], said["about"]) == (answer["kept_as"], UNKNOWN)
    assert all(path.read_bytes() == data for path, data in files.items())


def test_limits_of_captures_hold_when_feedback_floods(tmp_path: Path, bright_model: Path) -> None:
    settings = {"CAPTURE_URI": str(tmp_path / "store"), "CAPTURE_PER_DAY": "2", "CAPTURE_STRATEGIES": "random:0"}
    with running(tmp_path, MODEL_URI=str(bright_model), **settings) as server:
        ids = [f"{number:032x}" for number in range(6)]
        sent = [feedback(server, each, ("file", "a", shade(5)), verdict="missed") for each in ids]
        assert [status for status, _ in sent] == [200, 200, 503, 503, 503, 503]
        known = server.post("/detect", shade(9)).json()["request_id"]
        assert feedback(server, known, verdict="missed")[0] == 503
        assert len(list((tmp_path / "store").rglob("*.jpg"))) == 2
        assert b'flywheel_rejects_total{reason="feedback_limit"} 5.0' in server.get("/metrics").body
