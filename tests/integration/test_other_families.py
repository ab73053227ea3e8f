"""RF-DETR, D-FINE and YOLOX beside LibreYOLO, which exported them with random weights (`make libreyolo`)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.storage.endpoint import endpoint_of_environment
from serving.storage.manifest import Declaration
from serving.storage.model import LoadingError, load_model
from serving.vision.detector import Detector, Inference, Options
from serving.vision.outputs import read_output
from serving.vision.picture import decode
from tests.support.families import DECLARATIONS, MODELS
from tests.support.pictures import encoded
from tests.support.processes import unavailable
from tests.support.servers import running

PICTURES = ("wide", "tall", "odd")
CLASSES = ["ant", "bee", "cat"]  # other names than the file's, as many as make shapes collide


@pytest.fixture(scope="module", autouse=True)
def models() -> None:
    if not (MODELS / ".ready").is_file():
        unavailable("the tests of other families need models of LibreYOLO: run `make libreyolo`")


@pytest.fixture(scope="module", params=DECLARATIONS)
def manifest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest, by hand, beside the export."""
    return write_manifest(request.param, tmp_path_factory.mktemp(request.param))


def write_manifest(family: str, folder: Path, **changes: Any) -> Path:
    onnx = (MODELS / family / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(onnx)
    digest = hashlib.sha256(onnx).hexdigest()
    content = {"name": family, "version": 1, "onnx_sha256": digest, "classes": CLASSES, **DECLARATIONS[family]}
    (folder / "manifest.json").write_text(json.dumps(content | changes))
    return folder / "manifest.json"


def reference(manifest: Path, picture: str) -> tuple[bytes, dict[str, Any]]:
    folder = MODELS / json.loads(manifest.read_text())["name"]
    return (folder / f"{picture}.png").read_bytes(), dict(np.load(folder / f"{picture}.npz"))


@pytest.mark.parametrize("picture", PICTURES)
def test_agrees_with_libreyolo(manifest: Path, picture: str) -> None:
    detector = load_model(str(manifest), endpoint_of_environment()).detector
    data, theirs = reference(manifest, picture)
    inputs, place = detector.prepare(data)
    step = 1 / 255 / np.array(detector.form.std, np.float32)[:, None, None] * np.float32(detector.form.scale * 255)
    assert (np.abs(inputs[0] - theirs["inputs"][0]) <= step).all()

    raw = detector._raw(detector._names, theirs["inputs"])
    order = ["output_1", "output_0"] if detector.output.boxes == "pred_boxes" else ["output_0", "output_1"]
    expected_raw = [theirs[name] for name in order[: len(raw)]]
    rows, expected_rows = (np.concatenate([each[0] for each in some], axis=1) for some in (raw, expected_raw))
    if len(raw) == 1:  # in pixels; as shares like the others
        for each in (rows, expected_rows):
            each[:, :4] /= max(detector.input_hw)
    # Queries whose scores are nearly equal change places, which moves the others a little, or one of them with the
    # first that is left out.
    apart = np.array([(np.abs(rows - row) - 1e-3 * np.abs(row)).max(axis=1).min() for row in expected_rows])
    assert (apart <= (1e-3 if len(raw) == 1 else 1e-2)).mean() >= (1 if len(raw) == 1 else 0.98)

    output = read_output(detector.output, [theirs[name] for name in order[: len(raw)]], len(CLASSES), detector.input_hw)
    inferred = Inference(output[0], place, 0, 0)
    found = detector.select(inferred, Options(float(theirs["confidence"]), iou=0.6))
    known = theirs["classes"] < len(CLASSES)  # RF-DETR has a column more
    clipped = theirs["boxes"][known].clip(0, [place.width, place.height] * 2)  # where LibreYOLO does not
    expected = zip(clipped, theirs["scores"][known], theirs["classes"][known], strict=True)
    left = list(zip(found.boxes_xyxy_px, found.confidences, found.class_ids, strict=True))
    for box, score, class_id in expected:
        same = [
            i
            for i, (own, confidence, own_id) in enumerate(left)
            if own_id == class_id and abs(confidence - score) < 1e-5 and np.abs(own - box).max() < 0.01
        ]
        assert same, (box, score, class_id)
        left = [each for i, each in enumerate(left) if i not in same[:1]]
    assert not left


def test_served_when_a_manifest_declares_it(manifest: Path, tmp_path: Path) -> None:
    data, theirs = reference(manifest, "odd")
    confidence = float(theirs["confidence"])
    detector = load_model(str(manifest), endpoint_of_environment()).detector
    jpeg = encoded(decode(data).image, "JPEG", quality=95)
    with running(tmp_path, MODEL_URI=str(manifest)) as server:
        for sent in (data, jpeg, encoded(decode(data).image, "TIFF")):  # here, and in a decoder process
            answer = server.post("/detect?confidence=" + str(confidence), sent)
            assert answer.status == 200, answer.body
            found = detector.detect(sent, Options(confidence))
            boxes = [list(each["box"].values()) for each in answer.json()["detections"]]
            assert np.allclose(boxes, found.boxes_xyxy_px, atol=0.01) and boxes
            assert {each["label"] for each in answer.json()["detections"]} <= set(CLASSES)


@pytest.mark.parametrize("family", DECLARATIONS)
def test_refused_when_nothing_declares_it(family: str, tmp_path: Path) -> None:
    for changes in ({"output": None}, {"output": {"form": "grid"}}, {"output": {"form": "list"}}):
        with pytest.raises(LoadingError):
            load_model(str(write_manifest(family, tmp_path, **changes)), endpoint_of_environment())


@pytest.mark.parametrize(
    ("family", "output"),
    [
        ("rfdetr", {"form": "queries", "boxes": "labels", "scores": "dets"}),  # of one shape with three classes
        ("rfdetr", {"form": "queries", "boxes": "dets", "scores": "labels", "activation": "none"}),
        ("rfdetr", {"form": "queries", "boxes": "dets", "scores": "labels", "columns": [1, 2, 4]}),
        ("dfine", {"form": "queries", "boxes": "dets", "scores": "labels"}),
        ("dfine", {"form": "objectness", "boxes": "pred_boxes"}),
        ("yolox", {"form": "offsets"}),
        ("yolox", {"form": "queries", "boxes": "output", "scores": "output", "activation": "none"}),
    ],
)
def test_refused_when_the_output_is_not_as_declared(family: str, output: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LoadingError):
        load_model(str(write_manifest(family, tmp_path, output=output)), endpoint_of_environment())


def test_a_batch_is_that_of_single_pictures(manifest: Path) -> None:
    detector = load_model(str(manifest), endpoint_of_environment()).detector
    confidence = float(reference(manifest, "odd")[1]["confidence"])
    pictures = [reference(manifest, picture)[0] for picture in PICTURES]
    for single, several in zip(
        (detector.detect(each, Options(confidence)) for each in pictures),
        detector.detect_batch(pictures, Options(confidence)),
        strict=True,
    ):
        assert len(single.confidences) == pytest.approx(len(several.confidences), abs=3)
        assert np.allclose(single.confidences[:20], several.confidences[:20], atol=1e-3)


@pytest.mark.parametrize("family", DECLARATIONS)
def test_loaded_by_its_declaration(family: str) -> None:
    declared = Declaration.model_validate(DECLARATIONS[family])
    detector = Detector(MODELS / family / "model.onnx", form=declared.preprocessing.form, known=declared.known)
    assert detector.classes == ["class_0", "class_1", "class_2"]  # as the file names them
    assert detector.end2end == (family != "yolox")
