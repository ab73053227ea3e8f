"""INT8 and FP16 of a small convolutional detector; tests/integration has Ultralytics' own networks."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from runner.stages.quantize import convert_fp16, head, quantize_int8
from serving.vision.detector import Detector
from tests.unit.conftest import METADATA

SHAPES = [(64, 64), (64, 40), (40, 64)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float detector, and pictures of several shapes."""
    folder = tmp_path_factory.mktemp("quantize")
    onnx.save(network(), folder / "model.onnx")
    rng = np.random.default_rng(0)
    for number in range(12):
        width, height = SHAPES[number % len(SHAPES)]
        small = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(small).resize((width, height)).save(folder / f"{number}.png")
    quantize_int8(folder / "model.onnx", pictures(folder), folder / "model.int8.onnx")
    convert_fp16(folder / "model.onnx", folder / "model.fp16.onnx")
    return folder


def pictures(folder: Path) -> list[Path]:
    return [folder / f"{number}.png" for number in range(8)]


def network() -> onnx.ModelProto:
    """Convolutions with SiLU between them, then boxes and confidences on a grid of 8 px, (N, 6, A)."""
    rng = np.random.default_rng(1)
    constants: dict[str, NDArray[np.generic]] = {"grid": np.array([0, 6, -1]), "boxes": np.array([4, 2])}
    nodes, value = [], "images"
    for name, channels, before, stride in (("0", 16, 3, 2), ("1", 32, 16, 2), ("2", 32, 32, 2), ("3", 6, 32, 1)):
        side = 1 if name == "3" else 3
        constants[f"{name}.weight"] = rng.normal(0, (before * side**2) ** -0.5, (channels, before, side, side))
        constants[f"{name}.bias"] = rng.normal(0, 0.1, channels)
        named = {"kernel_shape": [side] * 2, "strides": [stride] * 2, "pads": [side // 2] * 4}
        inputs, after = [value, f"{name}.weight", f"{name}.bias"], f"{name}.out"
        nodes.append(helper.make_node("Conv", inputs, [after], f"/{name}/Conv", **named))
        value = after
        if name != "3":
            nodes.append(helper.make_node("Sigmoid", [value], [f"{name}.sigmoid"], f"/{name}/Sigmoid"))
            nodes.append(helper.make_node("Mul", [value, f"{name}.sigmoid"], [f"{name}.silu"], f"/{name}/Mul"))
            value = f"{name}.silu"
    constants["scale"] = np.full((1, 4, 1), 32.0)
    nodes += [
        helper.make_node("Reshape", [value, "grid"], ["flat"], "/head/Reshape"),
        helper.make_node("Split", ["flat", "boxes"], ["raw", "logits"], "/head/Split", axis=1),
        helper.make_node("Mul", ["raw", "scale"], ["boxes_px"], "/head/Mul"),
        helper.make_node("Sigmoid", ["logits"], ["confidences"], "/head/Sigmoid"),
        helper.make_node("Concat", ["boxes_px", "confidences"], ["output0"], "/head/Concat", axis=1),
    ]
    integers = ("grid", "boxes")
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 6, "boxes"])],
        [
            numpy_helper.from_array(each.astype(np.int64 if name in integers else np.float32), name)
            for name, each in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    for key, text in (METADATA | {"imgsz": "[64, 64]"}).items():
        model.metadata_props.add(key=key, value=text)
    return model


@pytest.mark.parametrize(("kind", "bound"), [("int8", 0.02), ("fp16", 0.002)])
def test_outputs_agree_with_float_at_every_shape(kind: str, bound: float, folder: Path) -> None:
    model, variant = Detector(folder / "model.onnx"), Detector(folder / f"model.{kind}.onnx")
    assert (variant.free, variant.batch, variant.metadata) == (True, None, model.metadata)
    contents = [(folder / f"{number}.png").read_bytes() for number in range(8, 12)]  # of which none calibrated
    for one, other in zip(model.infer(contents), variant.infer(contents), strict=True):
        assert one.place == other.place and one.output.shape == other.output.shape
        difference = np.abs(one.output - other.output)
        assert 0 < difference[:4].max() / 64 < bound and difference[4:].max() < bound
    assert len({one.output.shape for one in variant.infer(contents)}) > 1
    assert (folder / f"model.{kind}.onnx").stat().st_size < (folder / "model.onnx").stat().st_size


def test_the_first_convolution_and_the_head_stay_float(folder: Path) -> None:
    graph = onnx.load(folder / "model.int8.onnx").graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    inputs = {node.name: made.get(node.input[0]) for node in graph.node if node.op_type == "Conv"}
    assert inputs == {
        "/0/Conv": None,
        "/1/Conv": "DequantizeLinear",
        "/2/Conv": "DequantizeLinear",
        "/3/Conv": "QuickGelu",
    }
    assert head(network().graph) == {f"/head/{name}" for name in ("Reshape", "Split", "Mul", "Sigmoid", "Concat")} | {
        "/3/Conv"
    }


def test_bytes_are_equal_when_made_again(folder: Path, tmp_path: Path) -> None:
    quantize_int8(folder / "model.onnx", pictures(folder), tmp_path / "again.onnx")
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()}
    assert digests == {hashlib.sha256((folder / "model.int8.onnx").read_bytes()).hexdigest()}
    quantize_int8(folder / "model.onnx", pictures(folder)[:3], tmp_path / "again.onnx")
    assert hashlib.sha256((tmp_path / "again.onnx").read_bytes()).hexdigest() not in digests
