"""Detector: both forms of output, boxes in the picture's pixels, and models that it must refuse."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serving.vision.detector import Detector
from serving.vision.metadata import ModelError
from serving.vision.picture import PictureError, decode

#                      cx  cy  w   h, airplane, helicopter; the input is 32x32
GRID = np.array([[16, 16, 8, 8, 0.9, 0.1], [17, 16, 8, 8, 0.7, 0.1], [8, 16, 8, 8, 0.2, 0.5]], np.float32).T
LIST = np.array([[12, 12, 20, 20, 0.9, 0], [4, 12, 12, 20, 0.5, 1], [0, 0, 0, 0, 0, 0]], np.float32)
Model = Callable[..., bytes]
NOTHING = np.zeros((6, 0), np.float32)


def png(width: int, height: int, value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (value, value, value)).save(out, "PNG")
    return out.getvalue()


def test_nothing_found_when_the_model_finds_nothing(tiny_model: Model) -> None:
    found = Detector(tiny_model(NOTHING)).detect(png(64, 32))
    assert found.boxes_xyxy_px.shape == (0, 4)
    assert found.confidences.shape == found.class_ids.shape == (0,)
    assert (found.width, found.height) == (64, 32)


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize(("output", "end2end"), [(GRID, "False"), (LIST, "True"), (LIST, "False")])
def test_boxes_in_pixels_of_the_picture_when_found(
    output: NDArray[np.float32], end2end: str, batch: int | str, tiny_model: Model
) -> None:
    detector = Detector(tiny_model(output, end2end=end2end, batch=batch))
    found = detector.detect(png(64, 32))  # half as high: input rows 8 to 24, at half the size
    assert found.boxes_xyxy_px.tolist() == [[24, 8, 40, 24], [8, 8, 24, 24]]
    assert found.boxes_xyxy_px.dtype == np.float32
    assert found.confidences.tolist() == pytest.approx([0.9, 0.5])
    assert found.class_ids.tolist() == [0, 1]
    assert detector.end2end == (output is LIST)
    assert min(found.timings) >= 0


def test_says_what_it_is_when_loaded(tmp_path: Path, tiny_model: Model) -> None:
    path = tmp_path / "größe 1.onnx"
    path.write_bytes(tiny_model(GRID, input_hw=(32, 64), batch=1))
    detector = Detector(path, threads=2)
    assert detector.classes == ["airplane", "helicopter"]
    assert (detector.input_hw, detector.stride, detector.batch) == ((32, 64), 32, 1)
    assert detector.provider == "CPUExecutionProvider"
    assert detector.metadata["task"] == "detect"


def test_narrowed_down_when_asked(tiny_model: Model) -> None:
    detector = Detector(tiny_model(GRID))
    picture = png(32, 32)
    assert detector.detect(picture, iou=0.9).confidences.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert detector.detect(picture, confidence=0.6).class_ids.tolist() == [0]
    assert detector.detect(picture, confidence=[0.95, 0.4]).class_ids.tolist() == [1]
    assert detector.detect(picture, classes={1}).class_ids.tolist() == [1]
    assert detector.detect(picture, classes=set()).class_ids.tolist() == []
    assert detector.detect(picture, max_detections=1).class_ids.tolist() == [0]
    assert len(detector.detect(picture, confidence=0.05, multi_label=True).class_ids) == 4


def test_answers_belong_to_their_pictures_when_in_a_batch(tiny_model: Model) -> None:
    for batch in (1, "batch"):
        detector = Detector(tiny_model(GRID * 0 + 1, bright=(4, 0), batch=batch))
        found = detector.detect_batch([png(32, 32, 51), decode(png(32, 32, 204)), png(64, 64)], confidence=0.5)
        assert [round(float(f.confidences[0]), 3) for f in found] == [1.2, 1.8, 1.0]
        assert [f.width for f in found] == [32, 32, 64]
        assert detector.detect_batch([]) == []


def test_input_hugs_the_picture_when_its_size_is_free(tiny_model: Model) -> None:
    detector = Detector(tiny_model(GRID, bright=(4, 0), input_hw=(64, 64), free=True))
    assert detector.rect
    pictures = [png(64, 32, 204), png(64, 64), png(32, 64), png(128, 64)]
    assert [detector.prepare(data)[0].shape[2:] for data in pictures] == [(32, 64), (64, 64), (64, 32), (32, 64)]
    wide, square, tall, large = detector.detect_batch(pictures, confidence=0.6)
    assert wide.boxes_xyxy_px.tolist() == [[12, 12, 20, 20]]
    assert wide.boxes_xyxy_px.tolist() == square.boxes_xyxy_px.tolist() == tall.boxes_xyxy_px.tolist()
    assert large.boxes_xyxy_px.tolist() == [[24, 24, 40, 40]]
    assert [round(float(found.confidences[0]), 2) for found in (wide, square)] == [1.7, 0.9]
    assert not Detector(tiny_model(GRID)).rect


def test_looked_at_again_when_selected_twice(tiny_model: Model) -> None:
    detector = Detector(tiny_model(GRID))
    (inferred,) = detector.infer([png(64, 32)])
    assert detector.select(inferred).confidences.tolist() == pytest.approx([0.9, 0.5])
    assert len(detector.select(inferred, confidence=0.01, multi_label=True).confidences) == 4
    with pytest.raises(ValueError, match="iou is 2"):
        detector.select(inferred, iou=2)


def test_answers_belong_to_their_pictures_when_asked_by_many_threads(tiny_model: Model) -> None:
    detector = Detector(tiny_model(GRID * 0, bright=(4, 0)))
    values = list(range(15, 255, 10)) * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda value: detector.detect(png(32, 32, value), confidence=0.01), values))
    assert [round(float(f.confidences[0]) * 255) for f in found] == values


def test_picture_error_passes_when_unreadable(tiny_model: Model) -> None:
    detector = Detector(tiny_model(GRID))
    with pytest.raises(PictureError, match="expected JPEG"):
        detector.detect(b"no picture")
    with pytest.raises(PictureError, match="expected at most 100 in all"):
        detector.detect(png(20, 20), max_pixels=100)


def test_value_error_when_out_of_range(tiny_model: Model) -> None:
    detector = Detector(tiny_model(GRID))
    picture = png(4, 4)
    with pytest.raises(ValueError, match=r"confidence is 1\.5; expected 0 to 1, one for all or 2 of them"):
        detector.detect(picture, confidence=1.5)
    with pytest.raises(ValueError, match="confidence is nan"):
        detector.detect(picture, confidence=float("nan"))
    with pytest.raises(ValueError, match="one for all or 2 of them"):
        detector.detect(picture, confidence=[0.5])
    with pytest.raises(ValueError, match=r"iou is -0\.1; expected 0 to 1"):
        detector.detect(picture, iou=-0.1)
    with pytest.raises(ValueError, match="max_detections is 0; expected 1 or more"):
        detector.detect(picture, max_detections=0)
    with pytest.raises(ValueError, match="expected ids of 0 to 1"):
        detector.detect(picture, classes={2})


def test_refused_when_no_model(tmp_path: Path, tiny_model: Model) -> None:
    with pytest.raises(ModelError, match=r"not an ONNX model that ONNX Runtime .* can load"):
        Detector(b"")
    with pytest.raises(ModelError, match="not an ONNX model"):
        Detector(tiny_model(GRID)[:-200])
    with pytest.raises(ModelError, match="not an ONNX model"):
        Detector(tmp_path / "missing.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "pose"}, "task is 'pose'"),
        ({"names": "{0: 'a', 1: 'b', 2: 'c'}"}, r"output is \(1, 6, 3\); expected \(N, 7, boxes\) for the 3 classes"),
        ({"names": "{0: 'a'}"}, r"output is \(1, 6, 3\); expected \(N, 5, boxes\) for the 1 classes"),
        ({"end2end": "True"}, r"output is \(1, 6, 3\); .*or \(N, boxes, 6\) of an end-to-end model"),
        ({"imgsz": "[64, 64]"}, r"input is tensor\(float\) .*32, 32\); expected float \(1 or any, 3, 64, 64\)"),
    ],
)
def test_refused_when_metadata_and_graph_disagree(change: dict[str, str], message: str, tiny_model: Model) -> None:
    with pytest.raises(ModelError, match=message):
        Detector(tiny_model(GRID, **change))


def test_refused_when_the_batch_is_fixed_above_one(tiny_model: Model) -> None:
    with pytest.raises(ModelError, match=r"input is tensor\(float\) \(4, 3, 32, 32\); expected float \(1 or any"):
        Detector(tiny_model(GRID, batch=4))


FULL_SIZE = [
    *("animated.gif", "animated.png", "animated.webp", "cmyk.jpg", "gray.jpg", "gray16.png", "jpeg_named.png"),
    *("la.png", "lossless.webp", "palette_alpha.png", "pic.avif", "pic.bmp", "pic.jp2", "pic.tiff"),
    *("progressive.jpg", "rgb16.png", "rgb8.png", "rgba_hole.png", "trailing_garbage.jpg", "two.mpo.jpg"),
    *(f"exif{turn}.jpg" for turn in range(2, 9)),
]


@pytest.fixture(scope="module")
def aircraft(shared_data: Path) -> Detector:
    """A small model that was really trained."""
    return Detector(shared_data / "planes-helis.onnx")


@pytest.mark.parametrize("name", FULL_SIZE)
def test_same_box_when_encoded_otherwise(name: str, aircraft: Detector, shared_data: Path) -> None:
    base = aircraft.detect((shared_data / "same-picture" / "base.jpg").read_bytes(), confidence=0.4)
    found = aircraft.detect((shared_data / "same-picture" / name).read_bytes(), confidence=0.4)
    assert found.class_ids.tolist() == base.class_ids.tolist() == [0]
    assert np.abs(found.boxes_xyxy_px - base.boxes_xyxy_px).max() < 3
    assert abs(float(found.confidences[0] - base.confidences[0])) < 0.06
    assert (found.width, found.height) == (490, 412)


def test_same_box_when_four_times_as_large(aircraft: Detector, shared_data: Path) -> None:
    base = aircraft.detect((shared_data / "same-picture" / "base.jpg").read_bytes(), confidence=0.4)
    found = aircraft.detect((shared_data / "same-picture" / "big_4x.jpg").read_bytes(), confidence=0.4)
    assert np.abs(found.boxes_xyxy_px / 4 - base.boxes_xyxy_px).max() < 3
    whole = aircraft.detect(decode((shared_data / "same-picture" / "big_4x.jpg").read_bytes()), confidence=0.4)
    assert np.abs(found.boxes_xyxy_px - whole.boxes_xyxy_px).max() < 8
