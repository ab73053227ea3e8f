import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.answering import receiving
from tests.support.processes import until
from tests.support.servers import Server, running
from tests.support.shades import film, shade
from tests.support.trees import write_tree

PROGRAM = """
from PIL import Image

def hide(image):
    if image.getpixel((0, 0))[0] > 200:
        raise ValueError("not this one")
    return Image.new("RGB", image.size)
"""


STATES = [("open", None), ("labelled", None), *(("in_dataset", digit * 64) for digit in "1239")]


def captures(store: Path) -> list[Path]:
    return sorted(store.glob("captures/local/bright/*/*/*.json"))


def picture_of(capture: Path) -> Image.Image:
    return Image.open(io.BytesIO(capture.with_suffix(".jpg").read_bytes()))


def dropped(server: Server, reason: str) -> float:
    lines = server.get("/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if "captures_dropped_total{" in line and f'"{reason}"' in line)


def test_frames_of_a_video_are_captured_as_pictures_are(bright_model: Path, tmp_path: Path) -> None:
    store, video = tmp_path / "store", film([0] * 10 + [250] * 15)
    settings = {"MODEL_URI": str(bright_model), "CAPTURE_URI": str(store), "CAPTURE_STRATEGIES": "random:1"}
    with running(tmp_path, **settings) as server:
        assert server.post("/detect/video", video, X_No_Capture="1").status == 200
        server.post("/detect/video", video)
        (first,) = until(lambda: captures(store))
    with running(tmp_path, **settings) as server:  # which has forgotten what it saw
        server.post("/detect/video", video)
        until(lambda: dropped(server, "similar"))
    assert captures(store) == [first] and picture_of(first).size == (64, 64)
    with running(tmp_path, **settings, CAPTURE_SIMILAR_BITS="-1") as server:
        request_id = server.post("/detect/video", video).json()["request_id"]
        until(lambda: len(captures(store)) == 4)
    found = [path for path in captures(store) if path != first]
    assert [path.stem for path in found] == [f"{request_id}-{number}" for number in range(3)]
    labels = [[each["label"] for each in json.loads(path.read_text())["detections"]] for path in found]
    assert labels == [["helicopter"], ["airplane", "helicopter"], ["airplane", "helicopter"]]


def test_what_is_not_to_be_stored_is_taken_out(
    bright_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    settings = {"MODEL_URI": str(bright_model), "CAPTURE_URI": str(store), "CAPTURE_STRATEGIES": "random:1"}
    halves = Image.new("RGB", (64, 64), (0, 0, 250))
    halves.paste((250, 0, 0), (0, 0, 32, 64))
    halves.save(sent := io.BytesIO(), "JPEG", quality=95)
    with running(tmp_path, **settings, CAPTURE_REDACT="0 0 1 0.5, 0 0.9 0.1 1") as server:
        answer = server.post("/detect", sent.getvalue()).json()
        (found,) = until(lambda: captures(store))
        picture = picture_of(found)
    above: Any = picture.crop((0, 0, 64, 28)).getextrema()
    below: Any = picture.crop((0, 36, 64, 56)).getextrema()
    assert all(high - low < 12 for low, high in above)  # one colour
    assert all(high - low > 200 for low, high in below[::2])
    write_tree(tmp_path / "code", {"hiding.py": PROGRAM.encode()})
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'code'}")
    with running(tmp_path, **settings, CAPTURE_SIMILAR_BITS="-1", CAPTURE_REDACT="hiding:hide") as server:
        server.post("/detect", shade(100))
        until(lambda: len(captures(store)) == 2)
        bright = server.post("/detect", shade(250)).json()
        until(lambda: dropped(server, "redaction"))
        fields = [("request_id", None, bright["request_id"].encode()), ("verdict", None, b"wrong")]
        assert server.post_form("/feedback", fields).status == 503
    (hidden,) = set(captures(store)) - {found}
    assert picture_of(hidden).getextrema() == ((0, 0),) * 3
    assert answer["request_id"] == found.stem


def test_a_person_sees_what_became_of_a_report(bright_model: Path, tmp_path: Path) -> None:
    store, onnx = tmp_path / "store", bright_model.read_bytes()
    manifest = {"name": "bright", "version": 2, "classes": ["airplane", "helicopter"], "dataset": {"sha256": "2" * 64}}
    content = json.dumps(manifest | {"onnx_sha256": hashlib.sha256(onnx).hexdigest()}).encode()
    uri = write_tree(tmp_path / "models/bright/2", {"model.onnx": onnx, "manifest.json": content}) / "manifest.json"
    reports = {f"{number:032x}": {"state": state, "version": version} for number, (state, version) in enumerate(STATES)}
    versions = [digit * 64 for digit in "123"]
    write_tree(store / "feedback", {"reports.json": json.dumps({"versions": versions, "reports": reports}).encode()})
    with running(tmp_path, MODEL_URI=str(uri), CAPTURE_URI=str(store)) as server:
        found = [server.get(f"/feedback/{request_id}").json() for request_id in reports]
        assert [(each["state"], each.get("dataset")) for each in found] == [
            *(("open", None), ("labelled", None)),
            *(("in_model", "1" * 64), ("in_model", "2" * 64), ("in_dataset", "3" * 64), ("in_dataset", "9" * 64)),
        ]
        assert found[2]["model"]["version"] == "2"
        request_id = server.post("/detect", shade(1)).json()["request_id"]
        assert server.get(f"/feedback/{request_id}").status == 404
        fields = [("request_id", None, request_id.encode()), ("verdict", None, b"missed")]
        assert server.post_form("/feedback", fields).status == 200
        assert server.get(f"/feedback/{request_id}").json()["state"] == "received"
        assert server.get("/feedback/%2e%2e%2fmodels").status in (404, 422)


def test_boxes_are_an_annotation_when_the_key_is_an_annotators_and_the_receiver_is_told(
    bright_model: Path, tmp_path: Path
) -> None:
    store, keys = tmp_path / "store", tmp_path / "keys"
    keys.write_text("anna a1\n")
    boxes = json.dumps([{"label": "airplane", "box": {"x1": 1, "y1": 2, "x2": 30, "y2": 40}}]).encode()
    settings = {"MODEL_URI": str(bright_model), "CAPTURE_URI": str(store), "CAPTURE_STRATEGIES": "below:0"}
    settings |= {"API_KEY": "any", "API_KEY_FOR": "feedback", "ANNOTATOR_KEY_FILE": str(keys)}
    with (
        receiving(202) as (url, calls),
        running(tmp_path, **settings, FEEDBACK_WEBHOOK_URL=url, FEEDBACK_WEBHOOK_SECRET="s") as server,
    ):

        def report(key: str, *more: tuple[str, None, bytes]) -> tuple[Any, Any]:
            """Report on a new answer; return the answer to it, and who is said to have annotated in the store."""
            request_id = server.post("/detect", shade(100)).json()["request_id"]
            fields = [("request_id", None, request_id.encode()), ("verdict", None, b"missed"), *more]
            said = server.post_form("/feedback", fields, X_API_Key=key)
            (kept,) = store.glob(f"captures/local/*/*/*/{request_id}.feedback.json")
            return said.json().get("annotator"), json.loads(kept.read_text())["annotator"]

        assert report("a1", ("boxes", None, boxes)) == ("anna", "anna")
        until(lambda: calls)
        assert report("any", ("boxes", None, boxes), ("annotator", None, b"anna")) == (None, None)
        assert report("a1") == (None, None)  # no boxes, no annotation
        request_id = server.post("/detect", shade(100)).json()["request_id"]
        fields = [("request_id", None, request_id.encode()), ("verdict", None, b"missed"), ("boxes", None, boxes)]
        codes = [server.post_form("/feedback", fields, X_API_Key=key).status for key in ("any", "any", "a1")]
        assert codes == [200, 200, 409]  # what is stored as a proposal is not called an annotation
        assert server.post_form("/feedback", [("verdict", None, b"missed")], X_API_Key="a2").status == 401
        until(lambda: len(calls) > 1)
    assert set(calls) == {("Bearer s", b"{}")}
