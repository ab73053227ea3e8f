"""INT8 of Ultralytics' own networks: which pictures calibrate it, its shapes, and a trained model's detections."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runner.dataset.entries import write_entries
from runner.stages.quantize import quantize_int8
from serving.vision.detector import Detector, Options

EXPORT = """
from runner.config.schema import ExportConfig
from runner.stages.export.export import export
project = Path(sys.argv[2])

class Files:
    def sources(self, entries):
        return [project / "pictures" / entry["source"] for entry in entries]

torch.manual_seed(0)
network = YOLO("yolo11n.yaml", task="detect")
(project / "dataset/classes.txt").write_text("\\n".join(network.names.values()))
network.model.args["imgsz"] = 64
(project / "model").mkdir()
network.save(project / "model/best.pt")
said = {}
for kind, changed in (("first", None), ("other val and test", ("val", "test")), ("other train", ("train",))):
    for part in changed or ():
        for number in range(3):
            shutil.copy(project / f"other/{part}{number}.png", project / f"pictures/images/{part}{number}.png")
    out = project / kind
    out.mkdir()
    settings = ExportConfig(
        opset=20, head="one_to_many", input_shape="margin", decoding="full", pictures=1, max_difference=0.01,
        quantize="int8", calibration=3,
    )
    folders = (project / name for name in ("model", "dataset", "split"))
    export(*folders, "ultralytics", 64, settings, out, work=project / "work", files=Files())
    said[kind] = hashlib.sha256((out / "model.int8.onnx").read_bytes()).hexdigest()
print(json.dumps(said))
"""


def drawn(seed: int) -> bytes:
    out = io.BytesIO()
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(small).resize((64, 48)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.slow
def test_pictures_of_train_alone_calibrate_it(tmp_path: Path, ultralytics: Any) -> None:
    project = tmp_path / "project"
    for folder in ("pictures/images", "other", "dataset", "split", "work"):
        (project / folder).mkdir(parents=True)
    index = []
    for place, part in enumerate(("train", "val", "test")):
        images = [f"images/{part}{number}.png" for number in range(3)]
        for number, image in enumerate(images):
            (project / "pictures" / image).write_bytes(drawn(10 * place + number))
            (project / f"other/{part}{number}.png").write_bytes(drawn(100 + 10 * place + number))
            index.append({"image": image, "source": image})
        (project / f"split/{part}.txt").write_text("".join(f"{image}\n" for image in images))
    write_entries(project / "dataset", index)
    said = ultralytics("import hashlib, shutil, torch\n" + EXPORT, project)
    assert said["first"] == said["other val and test"] != said["other train"]
    detector, int8 = (Detector(project / f"first/{file}") for file in ("model.onnx", "model.int8.onnx"))
    assert (int8.free, int8.batch, int8.metadata) == (True, None, detector.metadata)
    for one, other in zip(detector.infer([drawn(1)]), int8.infer([drawn(1)]), strict=True):
        assert one.output.shape == other.output.shape and one.place.input_height < one.place.input_width
        assert np.abs(one.output[:4] - other.output[:4]).max() < 0.1 * 64


@pytest.mark.slow
def test_a_trained_models_detections_agree_with_float(shared_data: Path, tmp_path: Path) -> None:
    trained = shared_data / "planes-helis.onnx"
    with zipfile.ZipFile(shared_data / "planes-helis-yolo.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("images/") and not name.endswith("/"))
        for number, name in enumerate(names[::6]):
            (tmp_path / f"{number}{Path(name).suffix}").write_bytes(archive.read(name))
    pictures = sorted(tmp_path.iterdir())
    quantize_int8(trained, pictures[::2], tmp_path / "model.int8.onnx")
    assert (tmp_path / "model.int8.onnx").stat().st_size < 0.4 * trained.stat().st_size
    detectors = Detector(trained), Detector(tmp_path / "model.int8.onnx")
    agreeing, all_found, differences = 0, 0, []
    for picture in pictures[1::2]:
        one, other = (detector.detect(picture.read_bytes(), Options(confidence=0.1)) for detector in detectors)
        for place in np.flatnonzero(one.confidences > 0.3):
            all_found += 1
            same = np.flatnonzero(other.class_ids == one.class_ids[place])
            corners = np.abs(other.boxes_xyxy_px[same] - one.boxes_xyxy_px[place]).max(axis=1)
            if len(corners) and corners.min() < 0.03 * one.width:
                agreeing += 1
                differences.append(abs(other.confidences[same[corners.argmin()]] - one.confidences[place]))
    assert all_found > 10 and agreeing >= 0.9 * all_found
    assert np.median(differences) < 0.05
