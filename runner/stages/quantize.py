"""INT8 and FP16 variants of model.onnx, by ONNX Runtime's own tools.

Batch, height and width stay dynamic, and input, output and the head stay float: box coordinates and confidences of
one tensor have too different ranges for 256 steps (microsoft/onnxruntime#14233 and ultralytics#25045: mAP 0).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from tqdm import tqdm

from runner.errors import StageError
from runner.workspace import writing
from serving.vision.detector import Detector
from serving.vision.picture import PictureError

# Of 285 pictures of planes-helis and 364 of BCCD the extremes cost mAP50; docs/results.md has the figures.
PERCENTILE = 99.999  # of a tensor's values that its 256 steps cover, on either side


def quantize_int8(onnx_file: Path, pictures: Sequence[Path], target: Path) -> None:
    """Write the INT8 variant of a float model, calibrated on pictures, which are prepared as the server does.

    Convolutions multiply bytes; between them values are float, because the activation (SiLU) takes 0.4 ns a value as
    float and 1.1 as bytes. The first convolution, of three channels, and the head stay float.
    """
    model = onnx.load(onnx_file)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    kept = head(model.graph) | {convolutions[0]}
    with writing(target) as temporary, _quiet():
        quantize_static(
            model,
            temporary,
            _Calibration(Detector(onnx_file), model.graph.input[0].name, pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[name for name in convolutions if name in kept],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            # One picture at a time: pictures differ in shape, and all tensors of several would fill the memory.
            extra_options={
                "CalibPercentile": PERCENTILE,
                "CalibTensorRangeSymmetric": False,
                "CalibStridedMinMax": 1,
            },
        )
        quantized = onnx.load(temporary)
        _fuse_silu(quantized)
        _save(quantized, model, temporary)


def convert_fp16(onnx_file: Path, target: Path) -> None:
    """Write the FP16 variant of a float model: half the size, for GPUs."""
    model = onnx.load(onnx_file)
    with writing(target) as temporary:
        half = convert_float_to_float16(onnx.load(onnx_file), keep_io_types=True, node_block_list=head(model.graph))
        OnnxModel(half).topological_sort()
        _save(half, model, temporary)


def head(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the nodes from which no convolution follows: the head's last ones and the decoding of boxes.

    The convolution of the distribution focal loss (`dfl`), whose weights are 0 to 15, belongs to the decoding.
    """
    takers = _takers(graph)
    before: set[str] = set()  # nodes that a trained convolution follows
    for node in reversed(graph.node):  # takers come later
        following = [taker for name in node.output for taker in takers.get(name, [])]
        if any(taker.name in before or (taker.op_type == "Conv" and "/dfl/" not in taker.name) for taker in following):
            before.add(node.name)
    return {node.name for node in graph.node} - before


def _takers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that take each value as an input, by the value's name."""
    takers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    return takers


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Inputs of the model for pictures, one after the other."""

    def __init__(self, detector: Detector, name: str, pictures: Sequence[Path]) -> None:
        self._detector, self._name, self._pictures = detector, name, pictures
        self._left = iter(pictures)
        self._progress = tqdm(total=len(pictures), desc="calibrating", disable=None)

    def __len__(self) -> int:
        return len(self._pictures)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with the pictures of this range."""
        self._left = iter(self._pictures[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input; None at the end."""
        picture = next(self._left, None)
        if picture is None:
            return None
        try:
            inputs, _ = self._detector.prepare(picture.read_bytes(), max_pixels=10**10)
        except (PictureError, OSError) as error:
            raise StageError(f"{picture}: {error}; it could be read when the dataset was prepared") from error
        self._progress.update()
        return {self._name: inputs}


def _fuse_silu(model: onnx.ModelProto) -> None:
    """Replace each x · sigmoid(x) by ONNX Runtime's QuickGelu.

    In a float model ONNX Runtime does so by itself; beside quantized convolutions its optimizer does not.
    """
    takers, fused = _takers(model.graph), set()
    for node in model.graph.node:
        following = takers.get(node.output[0], [])
        if node.op_type != "Sigmoid" or len(following) != 1:
            continue
        product, value = following[0], node.input[0]
        if product.op_type == "Mul" and sorted(product.input) == sorted([value, node.output[0]]):
            attribute = onnx.helper.make_attribute("alpha", 1.0)
            silu = onnx.helper.make_node("QuickGelu", [value], product.output, product.name, domain="com.microsoft")
            silu.attribute.append(attribute)
            product.CopyFrom(silu)
            fused.add(node.name)
    kept = [node for node in model.graph.node if node.name not in fused]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    if fused and not any(opset.domain == "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


def _save(variant: onnx.ModelProto, model: onnx.ModelProto, target: Path) -> None:
    """Save a variant with the metadata of its model, which name the classes."""
    del variant.metadata_props[:]
    variant.metadata_props.extend(model.metadata_props)
    del variant.graph.value_info[:]
    onnx.checker.check_model(variant)
    onnx.save(variant, target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's progress and advice from the terminal."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
