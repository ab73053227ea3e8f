"""The exported model.onnx in other runtimes: the raw output that ours gives, so that other servers may take it."""

import json
import os
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import openvino
import pytest

from tests.integration.test_export import EXPORT
from tests.support.processes import CACHE, free_port, start, stop, unavailable

MLSERVER = CACHE / "mlserver" / "venv" / "bin" / "mlserver"
SHAPES = ((1, 160, 160), (1, 160, 128), (2, 128, 160))  # pictures, height and width; a list of 300 needs 300 cells


def noise(count: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(height).random((count, 3, height, width), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["yolo11n", "yolo26n"])
def test_raw_output_the_same_when_openvino_runs_it(network: str, tmp_path: Path, ultralytics: Any) -> None:
    said = ultralytics(EXPORT, tmp_path / f"{network}.pt", tmp_path)
    models = [tmp_path / f"{head}.onnx" for head, text in said.items() if not text.startswith("error")]
    assert len(models) == (2 if network == "yolo26n" else 1)
    for path in models:
        # Otherwise it would compute in bfloat16 where the CPU has AMX.
        theirs = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        ours = onnxruntime.InferenceSession(path)
        assert {value.name for value in ours.get_inputs()} == theirs.input(0).get_names()
        assert {value.name for value in ours.get_outputs()} == theirs.output(0).get_names()
        for shape in SHAPES:
            (expected,), found = ours.run(None, {"images": noise(*shape)}), theirs([noise(*shape)])[0]
            if (
                path.stem == "one_to_one"
            ):  # of random weights many scores are alike: which boxes are listed is by chance
                expected, found = (each[:, :, 4] for each in (expected, found))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_raw_output_the_same_when_mlserver_serves_the_version_folder(
    tmp_path: Path, project: Path, bright_model: Path
) -> None:
    """By the two files that docs/model-servers.md shows."""
    if not MLSERVER.exists():
        unavailable("the test of other model servers needs MLServer: run `make mlserver`")
    page = (project / "docs/model-servers.md").read_text()
    (code,), (settings,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.S) for kind in ("python", "json"))
    version = tmp_path / "store/models/flyingthings/3"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(bright_model.read_bytes())
    (version / "manifest.json").write_text("{}")
    (tmp_path / "onnx_model.py").write_text(code)
    (tmp_path / "model-settings.json").write_text(settings)
    ports = {f"{kind}_port": free_port() for kind in ("http", "grpc", "metrics")}
    (tmp_path / "settings.json").write_text(json.dumps(ports | {"host": "127.0.0.1", "parallel_workers": 0}))
    url = f"http://127.0.0.1:{ports['http_port']}/v2/models/flyingthings/versions/3"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/ready").status_code == 200
        except httpx.HTTPError:
            return False

    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    process = start([MLSERVER, "start", "."], tmp_path / "log", ready, cwd=tmp_path, env=environment)
    try:
        inputs = noise(2, 32, 32)
        sent = {"name": "images", "shape": inputs.shape, "datatype": "FP32", "data": inputs.ravel().tolist()}
        (output,) = httpx.post(f"{url}/infer", json={"inputs": [sent]}, timeout=60).raise_for_status().json()["outputs"]
    finally:
        stop(process)
    (expected,) = onnxruntime.InferenceSession(bright_model).run(["output0"], {"images": inputs})
    assert (output["name"], output["shape"]) == ("output0", list(expected.shape))
    np.testing.assert_allclose(np.reshape(output["data"], expected.shape), expected, rtol=0, atol=1e-6)
