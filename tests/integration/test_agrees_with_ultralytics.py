"""Our detector and our figures beside Ultralytics' own, on the same model and the same real pictures."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runner.config.schema import EvaluateConfig
from runner.stages.evaluate.evaluate import evaluate
from runner.stages.evaluate.metrics import overlaps
from serving.vision.detector import Detector, Options

pytestmark = pytest.mark.slow

VALIDATE = """
found = YOLO(sys.argv[2], task="detect").val(
    data=sys.argv[3], split="test", imgsz=320, conf=0.001, iou=0.7, rect=False, plots=False, device="cpu", workers=0
)
names = {name: float(found.box.ap50[place]) for place, name in enumerate(found.names.values())}
print(json.dumps({"map50": float(found.box.map50), "map50_95": float(found.box.map), "classes": names}))
"""
PREDICT = """
model = YOLO(sys.argv[2], task="detect")
wanted = {"imgsz": int(sys.argv[3]), "conf": float(sys.argv[4]), "iou": 0.7, "rect": False, "device": "cpu"}
print(json.dumps({path: model.predict(path, **wanted)[0].boxes.data.tolist() for path in sys.argv[5:]}))
"""
EXPORT = """
print(json.dumps(YOLO(sys.argv[2]).export(format="onnx", imgsz=64, dynamic=True, nms=json.loads(sys.argv[3]))))
"""


@pytest.fixture
def planes(shared_data: Path, tmp_path: Path) -> Path:
    """A real dataset as the stages before leave it: every third picture in val, the next in test."""
    raw, dataset, split = (tmp_path / name for name in ("raw", "dataset", "split"))
    with zipfile.ZipFile(shared_data / "planes-helis-yolo.zip") as file:
        file.extractall(raw)
    shutil.copytree(raw / "labels", dataset / "labels")
    shutil.copy(raw / "classes.txt", dataset)
    split.mkdir()
    index = []
    for path in sorted((raw / "images").iterdir()):
        with Image.open(path) as picture:
            width, height = picture.size
        image, labels = f"images/{path.name}", f"labels/{path.stem}.txt"
        index.append({"image": image, "source": image, "width": width, "height": height, "labels": labels})
    (dataset / "index.json").write_text(json.dumps(index))
    for start, part in enumerate(("val", "test")):
        (split / f"{part}.txt").write_text("".join(f"{entry['image']}\n" for entry in index[start::3]))
    (raw / "test.txt").write_text("".join(f"./{entry['image']}\n" for entry in index[1::3]))
    names = (raw / "classes.txt").read_text().split()
    (raw / "data.yaml").write_text(
        json.dumps({"path": str(raw), "train": "test.txt", "val": "test.txt"} | {"test": "test.txt", "names": names})
    )
    return tmp_path


def test_figures_agree_when_both_validate(planes: Path, shared_data: Path, ultralytics: Any) -> None:
    onnx = shared_data / "planes-helis.onnx"
    theirs = ultralytics(VALIDATE, onnx, planes / "raw/data.yaml")
    settings = EvaluateConfig(iou=0.7, max_detections=300, worst=0)
    (planes / "out").mkdir()
    evaluate(onnx, planes / "raw", planes / "dataset", planes / "split", settings, planes / "out")
    ours = json.loads((planes / "out/metrics.json").read_text())
    assert ours["pictures"] == 95
    assert ours["map50"] == pytest.approx(theirs["map50"], abs=0.01)
    assert ours["map50_95"] == pytest.approx(theirs["map50_95"], abs=0.01)
    for name, map50 in theirs["classes"].items():
        assert ours["classes"][name]["map50"] == pytest.approx(map50, abs=0.02)


def test_boxes_agree_when_both_predict(planes: Path, shared_data: Path, ultralytics: Any) -> None:
    onnx = shared_data / "planes-helis.onnx"
    paths = [str(path) for path in sorted((planes / "raw/images").iterdir())[::12]]
    paths += [str(shared_data / f"same-picture/{name}.jpg") for name in ("base", "big_4x", "small_div4")]
    theirs = ultralytics(PREDICT, onnx, 320, 0.25, *paths)
    detector = Detector(onnx)
    compared = 0
    for path in paths:
        ours = detector.detect(Path(path).read_bytes(), Options(confidence=0.1))
        for *box, confidence, class_id in theirs[path]:
            same = np.flatnonzero(ours.class_ids == class_id)
            close = overlaps(np.array([box]), ours.boxes_xyxy_px[same].astype(np.float64))[0]
            assert close.max() > 0.9, path
            assert ours.confidences[same[close.argmax()]] == pytest.approx(confidence, abs=0.05), path
            compared += 1
    assert compared > 20


@pytest.mark.parametrize(("base", "nms", "end2end"), [("yolo11n", "null", False), ("yolo26n", "false", True)])
def test_boxes_agree_when_freshly_exported(
    base: str, nms: str, end2end: bool, shared_data: Path, tmp_path: Path, ultralytics: Any
) -> None:
    onnx = tmp_path / ultralytics(EXPORT, f"{base}.yaml", nms)
    detector = Detector(onnx)
    assert (detector.end2end, detector.batch, detector.input_hw) == (end2end, None, (64, 64))
    # A list of as many boxes as the whole input has would not fit a smaller one.
    assert detector.form.shape == ("square" if end2end else "margin")
    picture = tmp_path / "picture.png"  # of the input's size: whatever differs is not the decode
    Image.open(shared_data / "same-picture/base.jpg").resize((64, 64)).save(picture)
    lowest = float(detector.detect(picture.read_bytes(), Options(confidence=0)).confidences[min(9, 299)]) * 0.999
    ours = detector.detect(picture.read_bytes(), Options(confidence=lowest))
    theirs = np.array(ultralytics(PREDICT, onnx, 64, lowest, picture)[str(picture)])
    assert len(ours.confidences) == len(theirs) >= 5
    assert np.allclose(ours.confidences, theirs[:, 4], rtol=1e-3)
    assert ours.class_ids.tolist() == theirs[:, 5].tolist()
    assert np.allclose(ours.boxes_xyxy_px, theirs[:, :4], atol=0.1)
