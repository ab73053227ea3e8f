import io
import json
from typing import Any

import pytest
from PIL import Image

from tests.support.servers import Answer, Server
from tests.support.shades import film, shade

UNKNOWN = "0123456789abcdef" * 2


def feedback(server: Server, picture: bytes | None = None, **fields: str | bytes) -> Answer:
    parts = [(name, None, text if isinstance(text, bytes) else text.encode()) for name, text in fields.items()]
    return server.post_form("/feedback", [*parts, *([("file", "a.png", picture)] if picture else [])])


def test_boxes_and_model_when_asked(server: Server) -> None:
    answer = server.post("/detect", shade(204))
    found = answer.json()
    assert answer.status == 200
    assert [(each["label"], each["class_id"]) for each in found["detections"]] == [("airplane", 0), ("helicopter", 1)]
    assert found["detections"][0]["confidence"] == pytest.approx(0.8, abs=0.001)
    assert found["detections"][0]["box"] == {"x1": 24, "y1": 24, "x2": 40, "y2": 40}
    assert found["counts"] == {"airplane": 1, "helicopter": 1}
    assert (found["width"], found["height"]) == (64, 64)
    assert set(found["timings_ms"]) == {"waiting", "decode", "inference", "suppression", "total"}
    assert found["model"]["name"] == "bright"
    assert answer.headers["x-model-sha256"] == found["model"]["sha256"]
    assert answer.headers["x-request-id"] == found["request_id"]


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("confidence=0.7", ["airplane"]),
        ("classes=helicopter", ["helicopter"]),
        ("classes=helicopter&classes=airplane", ["airplane", "helicopter"]),
        ("max_detections=1", ["airplane"]),
    ],
)
def test_narrowed_down_when_asked(query: str, labels: list[str], server: Server) -> None:
    assert [each["label"] for each in server.post(f"/detect?{query}", shade(204)).json()["detections"]] == labels


@pytest.mark.parametrize(
    "query", ["confidence=2", "confidence=nan", "iou=-1", "max_detections=0", "conf=0.5", "classes=zeppelin"]
)
def test_422_when_a_parameter_is_wrong(query: str, server: Server) -> None:
    answer = server.post(f"/detect?{query}", shade(0))
    name, _, value = query.partition("=")
    assert answer.status == 422
    assert answer.json()["error"].startswith(f"{name}: ") and f"'{value}'" in answer.json()["error"]


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], 422),
        ([("other", "a.jpg", b"x")], 422),
        ([("file", None, b"x")], 422),
        ([("file", "a.jpg", b"x"), ("file", "b.jpg", b"x")], 422),
        ([("file", "a.jpg", b"")], 415),
        ([("file", "a.jpg", b"not a picture")], 415),
        ([("file", "../../etc/passwd", b"\x89PNG\r\n\x1a\n")], 400),
    ],
)
def test_clear_4xx_when_the_form_is_wrong(parts: list[tuple[str, str, bytes]], status: int, server: Server) -> None:
    answer = server.post_form("/detect", list(parts))
    assert answer.status == status, answer.body
    assert answer.json()["error"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_drawn_when_asked_for_a_picture(server: Server) -> None:
    jpeg = server.post("/detect/image", shade(204))
    assert jpeg.headers["content-type"] == "image/jpeg"
    assert jpeg.headers["x-detections"] == "2"
    drawn = Image.open(io.BytesIO(jpeg.body))
    assert (drawn.format, drawn.size) == ("JPEG", (480, 480))  # enlarged, so that labels can be read
    for accept in ("image/jpeg, image/png", "*/*, image/png", "text/html"):
        assert server.post("/detect/image", shade(204), Accept=accept).headers["content-type"] == "image/jpeg"
    answer = server.post("/detect/image", shade(204), Accept="image/png, image/*;q=0.8")
    assert answer.headers["content-type"] == "image/png"
    png = Image.open(io.BytesIO(answer.body))
    assert png.format == "PNG" and len(png.convert("RGB").getcolors(1_000_000) or []) > 3


def test_one_bad_file_spoils_nothing_when_in_a_batch(server: Server) -> None:
    parts = [("files", "a.png", shade(51)), ("files", "b.txt", b"hello"), ("files", "c.png", shade(255))]
    answer = server.post_form("/detect/batch", [*parts])
    results = answer.json()["results"]
    assert answer.status == 200
    assert [(each["filename"], each["status"]) for each in results] == [("a.png", 200), ("b.txt", 415), ("c.png", 200)]
    assert results[0]["found"]["counts"] == {"helicopter": 1}
    assert results[2]["found"]["counts"] == {"airplane": 1, "helicopter": 1}
    assert results[1]["error"] and results[1]["found"] is None
    assert server.post_form("/detect/batch", [("file", "a.png", shade(51))]).status == 422
    assert server.post_form("/detect/batch", [("files", "a.png", shade(51))] * 33).status == 413


def test_kept_for_labelling_when_feedback_comes(server: Server) -> None:
    request_id = server.post("/detect", shade(100)).json()["request_id"]
    boxes = json.dumps([{"label": "airplane", "box": {"x1": 1, "y1": 2, "x2": 30, "y2": 40}}])
    answer = feedback(server, request_id=request_id, verdict="missed", boxes=boxes)
    assert answer.json() == {"request_id": request_id, "verdict": "missed", "picture": "kept"}
    store = server.log.parent / "store"
    capture = json.loads(next(store.rglob(f"{request_id}.json")).read_text())
    said = json.loads(next(store.rglob(f"{request_id}.feedback.json")).read_text())
    assert capture["detections"][0]["label"] == "helicopter"
    assert (said["verdict"], said["picture"], said["comment"]) == ("missed", "kept", None)
    assert said["boxes"][0]["box"]["y2"] == 40
    assert Image.open(io.BytesIO(next(store.rglob(f"{request_id}.jpg")).read_bytes())).size == (64, 64)


def test_picture_asked_for_when_the_server_does_not_have_it(server: Server) -> None:
    assert feedback(server, request_id=UNKNOWN, verdict="wrong").json()["picture"] == "needed"
    assert feedback(server, shade(9), request_id=UNKNOWN, verdict="wrong").json()["picture"] == "kept"
    opted_out = server.post("/detect", shade(7), X_No_Capture="1").json()["request_id"]
    assert feedback(server, request_id=opted_out, verdict="correct").json()["picture"] == "needed"
    kept = server.post("/detect", shade(7), X_No_Capture="0").json()["request_id"]
    assert feedback(server, request_id=kept, verdict="correct").json()["picture"] == "kept"


BOX = '[{"label": "%s", "box": {"x1": %d, "y1": 0, "x2": 9, "y2": 9}}]'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("request_id", "../../etc"), ("request_id", ""), ("verdict", "great"), ("comment", b"\xff")),
        *(("comment", "x" * 2_001), ("boxes", "[{}]"), ("boxes", "{"), ("boxes", BOX % ("\n", 1))),
        *(("boxes", BOX % ("airplane", 9)), ("boxes", BOX % ("airplane", -1))),
    ],
)
def test_422_when_feedback_is_wrong(field: str, value: Any, server: Server) -> None:
    answer = feedback(server, **{"request_id": UNKNOWN, "verdict": "missed", field: value})
    assert answer.status == 422
    assert field in answer.json()["error"] or value == b"\xff"


def test_detections_or_film_with_boxes_when_asked(server: Server) -> None:
    video = film([0] * 10 + [250] * 15)
    answer = server.post("/detect/video", video, filename="film.mp4")
    content = answer.json()
    both = {"airplane": 1, "helicopter": 1}
    assert answer.status == 200
    assert [frame["counts"] for frame in content["frames"]] == [{"helicopter": 1}, both, both]
    assert (content["most"], content["complete"], content["stopped_by"]) == (both, True, None)
    assert (content["width"], content["height"], content["every"], content["model"]["name"]) == (64, 64, 10, "bright")
    drawn = server.post("/detect/video?every=5", video, Accept="video/mp4")
    assert (drawn.status, drawn.headers["content-type"], drawn.headers["x-complete"]) == (200, "video/mp4", "true")
    assert drawn.body[4:8] == b"ftyp"
    followed = server.post("/detect/video?every=1&tracks=true", video).json()
    assert followed["tracks"] == both
    assert {(each["label"], each["track"]) for frame in followed["frames"] for each in frame["detections"]} == {
        ("helicopter", 1),
        ("airplane", 2),
    }
    assert server.post("/detect/video", shade(1)).status == 415
    assert server.post("/detect/video?every=0", b"").status == 422


def test_classes_named_on_the_page_where_they_are_typed(server: Server) -> None:
    parameters = server.get("/openapi.json").json()["paths"]["/detect"]["post"]["parameters"]
    classes = next(each for each in parameters if each["name"] == "classes")
    assert "`airplane`, `helicopter`" in classes["description"]
