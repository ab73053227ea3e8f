"""Tiny ONNX models, for tests of what runs them; an environment and a configuration that no developer changed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OURS = ("AWS_", "CA_BUNDLE", "DASK_", "DVC_", "FORGE", "GITHUB_", "GIT_", "REPO_URL", "RUNNER_", "STORE_")  # variables
METADATA = {"task": "detect", "names": "{0: 'airplane', 1: 'helicopter'}", "stride": "32", "end2end": "False"}


def model(
    output: NDArray[np.float32],
    bright: tuple[int, int] | None = None,
    *,
    input_hw: tuple[int, int] = (32, 32),
    batch: int | str = "batch",
    free: bool = False,
    **metadata: str,
) -> bytes:
    """An ONNX model that answers every picture with `output`.

    Args:
        output: (rows, columns), what one picture gets.
        bright: place in `output` to which the mean of the input, 0 to 1, is added; it is at least 0, as a score is.
        input_hw: height and width of its input.
        batch: a number, or a name for any number.
        free: whether height and width may be smaller.
        metadata: what its metadata says otherwise than a detector of airplanes and helicopters does.
    """
    mask = np.zeros((1, *output.shape), np.float32)
    if bright is not None:
        mask[0][bright] = 1
    least = np.where(mask == 1, 0, -np.inf).astype(np.float32)
    constants = {
        "column": np.array([-1, 1, 1]),
        "mask": mask,
        "constant": output[None].astype(np.float32),
        "least": least,
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "column"], ["brightness"]),
        helper.make_node("Mul", ["brightness", "mask"], ["added"]),
        helper.make_node("Add", ["added", "constant"], ["sum"]),
        helper.make_node("Max", ["sum", "least"], ["output0"]),
    ]
    sides = ("height", "width") if free else input_hw
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *sides])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, *output.shape])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    for key, value in (METADATA | {"imgsz": str(list(input_hw))} | metadata).items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what the developer's shell says of stores, forges and commands."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)


@pytest.fixture
def configured(project: Path, tmp_path: Path) -> Path:
    """A folder with the project's params.yaml and conf/."""
    shutil.copy2(project / "params.yaml", tmp_path)
    shutil.copytree(project / "conf", tmp_path / "conf")
    return tmp_path


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., bytes]:
    """Makes the bytes of a model that answers every picture alike: see `model` in this file."""
    return model
