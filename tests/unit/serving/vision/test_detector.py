from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from serving.vision.detector import Detector, Options
from serving.vision.letterbox import DEFAULT_FORM, FORMER_FORM, InputForm
from serving.vision.metadata import Known, ModelError, OutputForm, form_metadata
from serving.vision.picture import decode
from tests.support.pictures import encoded
from tests.support.shades import shade

#                      cx  cy  w   h, airplane, helicopter; the input is 32x32
GRID = np.array([[16, 16, 8, 8, 0.9, 0.1], [17, 16, 8, 8, 0.7, 0.1], [8, 16, 8, 8, 0.2, 0.5]], np.float32).T
LIST = np.array([[12, 12, 20, 20, 0.9, 0], [4, 12, 12, 20, 0.5, 1], [0, 0, 0, 0, 0, 0]], np.float32)
Model = Callable[..., bytes]


def test_no_boxes_when_the_model_finds_nothing(tiny_model: Model) -> None:
    found = Detector(tiny_model(np.zeros((6, 0), np.float32))).detect(shade(0, 64, 32))
    assert found.boxes_xyxy_px.shape == (0, 4)
    assert found.confidences.shape == found.class_ids.shape == (0,)
    assert (found.width, found.height) == (64, 32)


@pytest.mark.parametrize("batch", [1, 2, 4, "batch"])
@pytest.mark.parametrize(("output", "end2end"), [(GRID, "False"), (LIST, "True"), (LIST, "False")])
def test_boxes_in_pixels_of_the_picture_when_found(
    output: NDArray[np.float32], end2end: str, batch: int | str, tiny_model: Model
) -> None:
    detector = Detector(tiny_model(output, end2end=end2end, batch=batch))
    found = detector.detect(shade(0, 64, 32))  # half as high: input rows 8 to 24, at half the size
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
    assert (detector.provider, detector.metadata["task"]) == ("CPUExecutionProvider", "detect")


@pytest.mark.parametrize(
    ("options", "class_ids"),
    [
        ({"iou": 0.9}, [0, 0, 1]),
        ({"confidence": 0.6}, [0]),
        ({"confidence": [0.95, 0.4]}, [1]),
        ({"classes": {1}}, [1]),
        ({"classes": set()}, []),
        ({"max_detections": 1}, [0]),
        ({"confidence": 0.05, "multi_label": True}, [0, 1, 0, 1]),
    ],
)
def test_detections_by_the_options(options: dict[str, Any], class_ids: list[int], tiny_model: Model) -> None:
    detector = Detector(tiny_model(GRID))
    assert detector.detect(shade(0, 32, 32), Options(**options)).class_ids.tolist() == class_ids
    (inferred,) = detector.infer([shade(0, 32, 32)])
    assert detector.select(inferred, Options(**options)).class_ids.tolist() == class_ids


@pytest.mark.parametrize("batch", [1, 2, 4, "batch"])
def test_answers_belong_to_their_pictures_when_in_a_batch(batch: int | str, tiny_model: Model) -> None:
    detector = Detector(tiny_model(GRID * 0 + 1, bright=(4, 0), batch=batch))
    found = detector.detect_batch(
        [shade(51, 32, 32), decode(shade(204, 32, 32)), shade(0, 64, 64)], Options(confidence=0.5)
    )
    assert [round(float(f.confidences[0]), 3) for f in found] == [1.2, 1.8, 1.0]
    assert [f.width for f in found] == [32, 32, 64]
    assert detector.detect_batch([]) == []


def test_input_hugs_the_picture_when_its_size_is_free(tiny_model: Model) -> None:
    detector = Detector(tiny_model(GRID, bright=(4, 0), input_hw=(64, 64), free=True), form=InputForm("hug", "full"))
    pictures = [shade(204, 64, 32), shade(0, 64, 64), shade(0, 32, 64), shade(0, 128, 64)]
    assert [detector.prepare(data)[0].shape[2:] for data in pictures] == [(32, 64), (64, 64), (64, 32), (32, 64)]
    wide, square, tall, large = detector.detect_batch(pictures, Options(confidence=0.6))
    assert wide.boxes_xyxy_px.tolist() == [[12, 12, 20, 20]]
    assert wide.boxes_xyxy_px.tolist() == square.boxes_xyxy_px.tolist() == tall.boxes_xyxy_px.tolist()
    assert large.boxes_xyxy_px.tolist() == [[24, 24, 40, 40]]
    assert [round(float(found.confidences[0]), 2) for found in (wide, square)] == [1.7, 0.9]


@pytest.mark.parametrize(
    ("metadata", "form", "expected"),
    [
        ({"free": True}, None, DEFAULT_FORM),
        ({"free": True}, FORMER_FORM, FORMER_FORM),  # of a version whose manifest does not name it
        ({"free": True} | form_metadata(InputForm("square", "reduced")), FORMER_FORM, InputForm("square", "reduced")),
        (
            {"free": False} | form_metadata(InputForm("hug", "full")),
            None,
            InputForm("square", "full"),
        ),  # of a fixed size
    ],
)
def test_input_form_is_the_models_own(
    metadata: dict[str, Any], form: InputForm | None, expected: InputForm, tiny_model: Model
) -> None:
    onnx = tiny_model(GRID, **metadata)
    detector = Detector(onnx) if form is None else Detector(onnx, form=form)
    assert (detector.form, detector.free) == (expected, metadata.get("free", False))


@pytest.mark.parametrize("width", [20, 33, 63, 64, 127, 130, 400, 900])
@pytest.mark.parametrize(("decoding", "off"), [("full", 0), ("averaged", 0.01)])
def test_a_jpeg_and_a_png_of_its_pixels_have_one_input(
    decoding: str, off: float, width: int, tiny_model: Model
) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(90, 166, (width * 3 // 4, width, 3), np.uint8))
    jpeg = encoded(noise, "JPEG", quality=92)
    detector = Detector(tiny_model(GRID), form=InputForm("square", decoding))
    inputs = [detector.prepare(each)[0] for each in (jpeg, encoded(decode(jpeg).image, "PNG"), decode(jpeg))]
    assert np.abs(inputs[0] - inputs[1]).mean() <= off
    assert np.array_equal(inputs[1], inputs[2])


@pytest.mark.parametrize(
    "options",
    [
        *({"confidence": 1.5}, {"confidence": -0.1}, {"confidence": float("nan")}, {"confidence": [0.5]}),
        *({"iou": -0.1}, {"iou": 1.1}, {"max_detections": 0}, {"classes": {2}}, {"classes": {-1}}),
    ],
)
def test_value_error_when_out_of_range(options: dict[str, Any], tiny_model: Model) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} is "):
        Detector(tiny_model(GRID)).detect(shade(0, 4, 4), Options(**options))


def rows(*columns: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(40, 6) float32 of 40 different rows; a column is a number, or two that it goes from and to."""
    ends = [each if isinstance(each, tuple) else (each, each) for each in columns]
    return np.stack([np.linspace(first, last, 40) for first, last in ends], 1).astype(np.float32)


@pytest.mark.parametrize(
    ("output", "change", "message"),
    [
        # RT-DETR with two classes: cx cy w h in shares, two scores
        (rows((0, 1), (0, 1), (0, 0.3), (0, 0.3), (0.1, 0.7), (0.6, 0.2)), {}, "no class id but a score"),
        # YOLOv5 with one class: cx cy w h in pixels, objectness, score
        (rows((1, 30), (1, 30), 8, 8, (0, 0.9), (0.9, 0.99)), {"names": "{0: 'a'}"}, "no class id but a score"),
        (rows((0, 0.5), (0, 0.5), (0.5, 1), (0.5, 1), 0.9, 1), {}, "not shares"),
        (rows((9, 30), (9, 30), 4, 4, 0.9, 0), {}, "end before they begin"),
        (rows((1, 9), (1, 9), 20, 20, (1, 7), 0), {}, "confidences are 1 to 7"),
        (rows((0, 1), (0, 1), 0.2, 0.2, 0.1, 0.9).T, {}, "not shares"),
        (rows((0, 30), (0, 30), 9, 9, (-8, 3), 0.9).T, {}, "scores are -8 to 3"),
        (rows((0, 30), (0, 30), 9, 9, float("nan"), 0.9).T, {}, "NaN"),  # of an FP16 export beyond its range
        (rows((1, 30), (1, 30), 40, 40, float("nan"), 0), {}, "NaN"),
    ],
)
def test_refused_when_another_detector_has_the_shape_of_ours(
    output: Any, change: dict[str, str], message: str, tiny_model: Model
) -> None:
    with pytest.raises(ModelError, match=message):
        Detector(tiny_model(output, **change))


@pytest.mark.parametrize(
    "output",
    [
        np.zeros((300, 6), np.float32),  # suppression in the graph, nothing found
        rows((1, 9), (1, 9), (10, 30), (10, 30), (0.9, 0.1), 1),
        rows((-50, 9), (1, 9), (10, 300), (10, 30), (0.9, 0), 0),
        rows((0, 30), (0, 30), 8, 8, (0, 1), (1, 0)).T,
    ],
)
def test_loaded_when_the_output_is_odd_but_right(output: Any, tiny_model: Model) -> None:
    assert Detector(tiny_model(output)).classes == ["airplane", "helicopter"]


def test_advice_given_when_the_weights_are_in_another_file(tmp_path: Path, tiny_model: Model) -> None:
    proto = onnx.load_from_string(tiny_model(GRID))
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=0, location="model.onnx.data")
    with pytest.raises(ModelError, match=r"external data\); expected one file"):
        Detector(path.read_bytes())


def test_names_and_size_as_known_when_the_file_says_nothing(tiny_model: Model) -> None:
    proto = onnx.load_from_string(tiny_model(GRID, input_hw=(32, 64)))
    del proto.metadata_props[:]
    detector = Detector(proto.SerializeToString(), known=Known(["a", "b"]))
    assert (detector.classes, detector.input_hw) == (["a", "b"], (32, 64))
    with pytest.raises(ModelError, match="task"):
        Detector(proto.SerializeToString())


def test_refused_when_no_model(tmp_path: Path, tiny_model: Model) -> None:
    for model in (b"", tiny_model(GRID)[:-200], tmp_path / "missing.onnx"):
        with pytest.raises(ModelError, match="not an ONNX model"):
            Detector(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "pose"}, "task .*'pose'"),
        ({"names": "{0: 'a', 1: 'b', 2: 'c'}"}, r"output is \(1, 6, 3\); expected \(N, 7, boxes\)"),
        ({"names": "{0: 'a'}"}, r"output is \(1, 6, 3\); expected \(N, 5, boxes\)"),
        ({"end2end": "True"}, r"output is \(1, 6, 3\); .*\(N, boxes, 6\)"),
        ({"imgsz": "[64, 64]"}, r"input is tensor\(float\) .*32, 32\); expected float \(1 or any, 3, 64, 64\)"),
        ({"batch": 4, "imgsz": "[64, 64]"}, r"input is tensor\(float\) \(4, 3, 32, 32\); expected float \(1 or any"),
    ],
)
def test_refused_when_metadata_and_graph_disagree(change: dict[str, Any], message: str, tiny_model: Model) -> None:
    with pytest.raises(ModelError, match=message):
        Detector(tiny_model(GRID, **change))


# Two classes; the input is 32x32. Boxes as shares of it, then logits; in pixels, then objectness and scores.
QUERIES = np.array([[0.5, 0.5, 0.25, 0.25, 3, -1], [0.25, 0.5, 0.5, 0.5, -4, 1], [0, 0, 0, 0, -9, -9]], np.float32)
OBJECTNESS = np.array([[16, 16, 8, 8, 0.9, 1, 0], [17, 16, 8, 8, 0.9, 0.8, 0], [8, 8, 8, 8, 0.5, 0.1, 0.9]], np.float32)
ONE_OUTPUT = OutputForm("queries", "output0", "output0", columns=[4, 5])


@pytest.mark.parametrize(
    ("output", "form", "shape", "boxes", "confidences"),
    [
        (QUERIES, ONE_OUTPUT, "stretch", [[24, 12, 40, 20], [0, 8, 32, 24], [24, 12, 40, 20]], [0.953, 0.731, 0.269]),
        (OBJECTNESS, OutputForm("objectness"), "corner", [[24, 24, 40, 32], [8, 8, 24, 24]], [0.9, 0.45]),
    ],
)
def test_boxes_of_another_family_when_its_form_is_declared(
    output: Any, form: OutputForm, shape: str, boxes: Any, confidences: list[float], tiny_model: Model
) -> None:
    known = Known(["a", "b"], output=form)  # the declared names count
    for batch in (1, 2, "batch"):
        model = tiny_model(output, batch=batch, head="RTDETRDecoder")
        detector = Detector(model, known=known, form=InputForm(shape, "full"))
        assert (detector.classes, detector.end2end) == (["a", "b"], form.form == "queries")
        found = detector.detect(shade(0, 64, 32))  # twice the input in width, stretched to as much in height
        assert found.boxes_xyxy_px.tolist() == boxes
        assert found.confidences.tolist() == pytest.approx(confidences, abs=1e-3)
    with pytest.raises(ModelError):
        Detector(model, form=InputForm(shape, "full"))


def test_offsets_are_decoded_as_the_cells_of_three_grids(tiny_model: Model) -> None:
    offsets = np.zeros((16 + 4 + 1, 7), np.float32)
    offsets[6] = [0.5, 0.25, np.log(2), 0, 0.9, 1, 0]  # the cell in column 2 and row 1, of 8 px
    offsets[20] = [0.5, 0.5, 0, np.log(0.5), 0.8, 0, 1]  # the only one of 32 px
    found = Detector(tiny_model(offsets), known=Known(output=OutputForm("offsets"))).detect(shade(0, 32, 32))
    assert found.boxes_xyxy_px.tolist() == [[12, 6, 28, 14], [0, 8, 32, 24]]
    assert found.class_ids.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("output", "form", "message"),
    [
        (QUERIES, OutputForm("queries", "boxes", "output0"), "'boxes' is not in the model"),
        (QUERIES, OutputForm("queries", "output0", "output0", columns=[4, 6]), r"7 or more"),
        (QUERIES, OutputForm("queries", "output0", "output0", columns=[4]), "a column, 0 or more, for each"),
        (QUERIES, OutputForm("queries", "output0", "output0", "none", [4, 5]), "0 to 1 with the activation none"),
        (QUERIES, OutputForm("queries", "output0", "output0", columns=[0, 1]), "scores are .*expected logits"),
        (QUERIES * 32, ONE_OUTPUT, "expected cx cy w h as shares"),
        (OBJECTNESS, ONE_OUTPUT, "expected cx cy w h as shares"),
        (QUERIES, OutputForm("objectness"), r"expected \(N, boxes, 7\)"),
        (OBJECTNESS, OutputForm("offsets"), "expected 21"),
        (np.repeat(OBJECTNESS, 7, 0) * 2, OutputForm("objectness"), "objectness and scores are"),
        (np.repeat(OBJECTNESS, 7, 0) * 2, OutputForm("offsets"), "objectness and scores are"),
        (np.full((21, 7), 0.5, np.float32), OutputForm("objectness"), "not shares"),
        (GRID, OutputForm("list"), r"expected \(N, boxes, 6\)"),
    ],
)
def test_refused_when_the_output_is_not_as_declared(
    output: Any, form: OutputForm, message: str, tiny_model: Model
) -> None:
    with pytest.raises(ModelError, match=message):
        Detector(tiny_model(output), known=Known(output=form))


def test_values_of_the_input_are_as_declared(tiny_model: Model) -> None:
    form = InputForm("corner", "antialiased", 1.0, (1.0, 2.0, 3.0), (2.0, 4.0, 8.0), "BGR")
    detector = Detector(tiny_model(GRID), form=form)
    inputs, _ = detector.prepare(encoded(Image.new("RGB", (8, 16), (10, 20, 33)), "PNG"))
    assert inputs[0, :, 31, 15].tolist() == [(33 - 1) / 2, (20 - 2) / 4, (10 - 3) / 8]
    assert inputs[0, :, 0, 16].tolist() == [(114 - 1) / 2, (114 - 2) / 4, (114 - 3) / 8]
