"""The server as its users see it: pictures in, boxes out."""

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests.support.servers import Server, running

Shade = Callable[..., bytes]
REFUSED = {"pic.heic": 415, "truncated_half.jpg": 400}
OTHER_SIZE = ("thin_490x3.jpg", "wide_3000.jpg")
SCALED = {"big_4x.jpg": 4.0, "small_div4.jpg": 0.25}


def test_boxes_and_model_when_asked(server: Server, shade: Shade) -> None:
    answer = server.post("/detect", shade(204))
    found = answer.json()
    assert answer.status == 200
    assert [(each["label"], each["class_id"]) for each in found["detections"]] == [("airplane", 0), ("helicopter", 1)]
    assert found["detections"][0]["confidence"] == pytest.approx(0.8, abs=0.001)
    assert found["detections"][0]["box"] == {"x1": 24, "y1": 24, "x2": 40, "y2": 40}
    assert found["counts"] == {"airplane": 1, "helicopter": 1}
    assert (found["width"], found["height"]) == (64, 64)
    assert found["model"]["name"] == "bright"
    assert answer.headers["x-model-sha256"] == found["model"]["sha256"]
    assert answer.headers["x-request-id"] == found["request_id"]


def test_narrowed_down_when_asked(server: Server, shade: Shade) -> None:
    def labels(query: str) -> list[str]:
        return [each["label"] for each in server.post(f"/detect?{query}", shade(204)).json()["detections"]]

    assert labels("confidence=0.7") == ["airplane"]
    assert labels("classes=helicopter") == ["helicopter"]
    assert labels("classes=helicopter&classes=airplane") == ["airplane", "helicopter"]
    assert labels("max_detections=1") == ["airplane"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("confidence=2", "confidence"),
        ("confidence=nan", "confidence"),
        ("iou=-1", "iou"),
        ("max_detections=0", "max_detections"),
        ("classes=zeppelin", "expected ['airplane', 'helicopter']"),
        ("conf=0.5", "conf"),
    ],
)
def test_422_when_a_parameter_is_wrong(query: str, message: str, server: Server, shade: Shade) -> None:
    answer = server.post(f"/detect?{query}", shade(0))
    assert answer.status == 422
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], 422),
        ([("other", "a.jpg", b"x")], 422),
        ([("file", None, b"x")], 422),
        ([("file", "a.jpg", b"")], 415),
        ([("file", "a.jpg", b"not a picture")], 415),
        ([("file", "../../etc/passwd", b"\x89PNG\r\n\x1a\n")], 400),
    ],
)
def test_clear_4xx_when_the_form_is_wrong(parts: list[tuple[str, str, bytes]], status: int, server: Server) -> None:
    answer = server.post_form("/detect", list(parts))
    assert answer.status == status, answer.body
    assert answer.json()["error"]


def test_415_when_no_form(server: Server) -> None:
    assert server.ask("POST", "/detect", b"{}", {"Content-Type": "application/json"}).status == 415
    assert server.ask("POST", "/detect", b"", {}).status == 415


def test_drawn_when_asked_for_a_picture(server: Server, shade: Shade) -> None:
    jpeg = server.post("/detect/image", shade(204))
    assert jpeg.headers["content-type"] == "image/jpeg"
    assert jpeg.headers["x-detections"] == "2"
    assert Image.open(io.BytesIO(jpeg.body)).size == (480, 480)  # enlarged, so that labels can be read
    png = server.post("/detect/image", shade(204), Accept="image/png, image/*;q=0.8")
    assert png.headers["content-type"] == "image/png"
    assert len(Image.open(io.BytesIO(png.body)).convert("RGB").getcolors(1_000_000) or []) > 3


def test_one_bad_file_spoils_nothing_when_in_a_batch(server: Server, shade: Shade) -> None:
    parts = [("files", "a.png", shade(51)), ("files", "b.txt", b"hello"), ("files", "c.png", shade(255))]
    answer = server.post_form("/detect/batch", [*parts])
    results = answer.json()["results"]
    assert answer.status == 200
    assert [result["status"] for result in results] == [200, 415, 200]
    assert [result["filename"] for result in results] == ["a.png", "b.txt", "c.png"]
    assert results[0]["found"]["counts"] == {"helicopter": 1}
    assert results[2]["found"]["counts"] == {"airplane": 1, "helicopter": 1}
    assert "expected JPEG" in results[1]["error"]


def test_every_answer_belongs_to_its_picture_when_eight_clients_ask(server: Server, shade: Shade) -> None:
    pictures = {value: shade(value, value, value) for value in range(90, 250, 20)}

    def client(value: int) -> None:
        for _ in range(200):
            found = server.post("/detect", pictures[value]).json()
            best = max(found["detections"], key=lambda each: each["class_id"] == 0)
            assert (found["width"], best["confidence"]) == (value, pytest.approx(value / 255, abs=0.002))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, pictures))


def test_kept_for_labelling_when_feedback_comes(server: Server, shade: Shade) -> None:
    request_id = server.post("/detect", shade(100)).json()["request_id"]
    boxes = json.dumps([{"label": "airplane", "box": {"x1": 1, "y1": 2, "x2": 30, "y2": 40}}])
    fields = [("request_id", None, request_id.encode()), ("verdict", None, b"missed"), ("boxes", None, boxes.encode())]
    assert server.post_form("/feedback", [*fields]).json()["picture"] == "kept"
    store = server.log.parent / "store"
    capture = json.loads(next(store.rglob(f"{request_id}.json")).read_text())
    said = json.loads(next(store.rglob(f"{request_id}.feedback.json")).read_text())
    assert capture["detections"][0]["label"] == "helicopter"
    assert said["verdict"] == "missed"
    assert said["boxes"][0]["box"]["y2"] == 40
    assert Image.open(io.BytesIO(next(store.rglob(f"{request_id}.jpg")).read_bytes())).size == (64, 64)


def test_picture_asked_for_when_feedback_names_an_unknown_answer(server: Server, shade: Shade) -> None:
    unknown = "0123456789abcdef" * 2
    fields = [("request_id", None, unknown.encode()), ("verdict", None, b"wrong")]
    assert server.post_form("/feedback", [*fields]).json()["picture"] == "needed"
    assert server.post_form("/feedback", [*fields, ("file", "a.png", shade(9))]).json()["picture"] == "kept"


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": b"../../etc", "verdict": b"missed"},
        {"request_id": b"0123456789abcdef" * 2, "verdict": b"great"},
        {"request_id": b"0123456789abcdef" * 2, "verdict": b"missed", "boxes": b"[{}]"},
        {"request_id": b"0123456789abcdef" * 2, "verdict": b"missed", "comment": b"\xff"},
    ],
)
def test_422_when_feedback_is_wrong(fields: dict[str, bytes], server: Server) -> None:
    assert server.post_form("/feedback", [(name, None, data) for name, data in fields.items()]).status == 422


def test_not_kept_when_opted_out(server: Server, shade: Shade) -> None:
    request_id = server.post("/detect", shade(7), X_No_Capture="1").json()["request_id"]
    fields = [("request_id", None, request_id.encode()), ("verdict", None, b"correct")]
    assert server.post_form("/feedback", [*fields]).json()["picture"] == "needed"


def test_same_box_when_encoded_otherwise(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "same-picture"
    with running(tmp_path, MODEL_URI=str(shared_data / "planes-helis.onnx")) as server:
        expected = server.post("/detect?classes=airplane", (folder / "base.jpg").read_bytes()).json()["detections"][0]
        for path in sorted(folder.iterdir()):
            answer = server.post("/detect?classes=airplane", path.read_bytes(), filename=path.name)
            assert answer.status == REFUSED.get(path.name, 200), path.name
            if path.name in REFUSED or path.name in OTHER_SIZE:
                continue
            box = answer.json()["detections"][0]["box"]
            scale = SCALED.get(path.name, 1.0)
            tolerance = 12 if path.name in SCALED else 5
            for corner, value in expected["box"].items():
                assert box[corner] / scale == pytest.approx(value, abs=tolerance), path.name
        assert not list((tmp_path / "tmp").iterdir())
