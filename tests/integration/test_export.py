"""Export of real networks by Ultralytics: the head and the input form that the configuration names."""

import re
from pathlib import Path
from typing import Any

import pytest

from serving.vision.detector import Detector
from serving.vision.letterbox import InputForm

pytestmark = pytest.mark.slow

EXPORT = """
from runner.config.schema import ExportConfig
from runner.errors import StageError
from runner.stages.export.export import export_stock
weights, work = Path(sys.argv[2]), Path(sys.argv[3])
network = YOLO(weights.with_suffix(".yaml").name, task="detect")
network.overrides["imgsz"] = 64
network.model.args["imgsz"] = 64
network.save(weights)
said = {}
for head in ("one_to_many", "one_to_one"):
    settings = {"opset": 20, "pictures": 1, "max_difference": 0.01, "head": head, "quantize": "none", "calibration": 1}
    try:
        said[head] = export_stock(
            weights,
            ExportConfig(**settings, input_shape="square", decoding="full"),
            work / f"{head}.onnx",
            work=work,
        )
    except StageError as error:
        said[head] = f"error: {error}"
print(json.dumps(said))
"""


def test_each_head_is_what_it_says_when_the_network_has_two(tmp_path: Path, ultralytics: Any) -> None:
    said = ultralytics(EXPORT, tmp_path / "yolo26n.pt", tmp_path)
    assert all(re.match("ONNX and weights differ by at most", text) for text in said.values()), said
    many, single = (Detector(tmp_path / f"{head}.onnx") for head in said)
    assert (many.end2end, single.end2end) == (False, True)
    assert many.form == single.form == InputForm("square", "full")
    assert many.metadata["names"] == single.metadata["names"]


def test_refused_when_the_network_has_no_second_head(tmp_path: Path, ultralytics: Any) -> None:
    said = ultralytics(EXPORT, tmp_path / "yolo11n.pt", tmp_path)
    assert "export.head is one_to_one" in said["one_to_one"]
    assert not (tmp_path / "one_to_one.onnx").exists()
    assert not Detector(tmp_path / "one_to_many.onnx").end2end
