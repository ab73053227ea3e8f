"""Our detector and our figures beside Ultralytics' own, on the same model and the same real pictures."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from runner.dataset.entries import write_entries
from runner.dataset.picture_cache import keep_bytes
from runner.pipeline.ultralytics_val import BY_ULTRALYTICS
from runner.stages.evaluate.metrics import overlaps
from serving.vision.detector import Detector, Options
from serving.vision.letterbox import InputForm
from tests.support.pictures import SETTINGS as PREPARE
from tests.support.projects import Run

pytestmark = pytest.mark.slow

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
    raw, dataset, split = (tmp_path / name for name in ("raw", "artifacts/dataset", "artifacts/split"))
    with zipfile.ZipFile(shared_data / "planes-helis-yolo.zip") as file:
        file.extractall(raw)
    for folder in (dataset, split):
        folder.mkdir(parents=True)
    shutil.copy(raw / "classes.txt", dataset)
    index = []
    for path in sorted((raw / "images").iterdir()):
        with Image.open(path) as picture:
            width, height = picture.size
        image, labels = f"images/{path.name}", (raw / f"labels/{path.stem}.txt").read_text()
        entry = {"image": image, "source": image, "width": width, "height": height, "labels": labels}
        sha256 = keep_bytes(path.read_bytes(), tmp_path / ".work")
        index.append(entry | {"sha256": sha256, "bytes": path.stat().st_size, "encoded": None})
    write_entries(dataset, index)
    for start, part in enumerate(("val", "test")):
        (split / f"{part}.txt").write_text("".join(f"{entry['image']}\n" for entry in index[start::3]))
    return tmp_path


def test_figures_agree_when_input_decoding_and_clipping_are_alike(
    planes: Path, shared_data: Path, run: Run, project: Path
) -> None:
    for folder in ("config", "export"):
        (planes / "artifacts" / folder).mkdir()
    shutil.copy(shared_data / "planes-helis.onnx", planes / "artifacts/export/model.onnx")
    settings = {"iou": 0.7, "max_detections": 300, "worst": 0}
    origin = {"url": "sample", "sha256": None, "sample": {"pictures": 20, "seed": 0}}
    composed = {"evaluate": {"evaluate": settings}, "fetch": {"dataset": origin}}
    for name, values in (composed | {"prepare": {"prepare": PREPARE.model_dump()}}).items():
        (planes / f"artifacts/config/{name}.yaml").write_text(json.dumps(values))
    done = run("python", "-m", "runner", "evaluate", "--as-ultralytics", cwd=planes, PYTHONPATH=str(project))
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    title, _, *rows = done.stdout.splitlines()
    assert "95 test pictures" in title
    served, theirs, ours = ([float(figure) for figure in row.split()[-2:]] for row in rows)
    assert min(served) > 0.1
    assert ours == pytest.approx(theirs, abs=0.002)
    assert not (planes / "artifacts/evaluation").exists()


@pytest.mark.parametrize("decoding", ["averaged", "full"])
def test_boxes_agree_when_both_predict(
    decoding: Literal["averaged", "full"], planes: Path, shared_data: Path, ultralytics: Any
) -> None:
    onnx = shared_data / "planes-helis.onnx"
    paths = [str(path) for path in sorted((planes / "raw/images").iterdir())[::12]]
    paths += [str(shared_data / f"same-picture/{name}.jpg") for name in ("base", "big_4x", "small_div4")]
    theirs = ultralytics(PREDICT, onnx, 320, 0.25, *paths)
    detector = Detector(onnx)
    detector.form = InputForm("square", decoding)
    differences = []
    for path in paths:
        ours = detector.detect(Path(path).read_bytes(), Options(confidence=0.1))
        for *box, confidence, class_id in theirs[path]:
            same = np.flatnonzero(ours.class_ids == class_id)
            close = overlaps(np.array([box]), ours.boxes_xyxy_px[same].astype(np.float64))[0]
            assert close.max() > 0.9, path
            differences.append(abs(float(ours.confidences[same[close.argmax()]]) - confidence))
    # Pillow's interpolation rounds down, OpenCV's to the nearest; with the latter, `full` gives their confidences.
    assert len(differences) > 20 and max(differences) < 0.1 and np.mean(differences) < 0.01


@pytest.mark.parametrize(("base", "nms", "end2end"), [("yolo11n", "null", False), ("yolo26n", "false", True)])
def test_boxes_agree_when_freshly_exported(
    base: str, nms: str, end2end: bool, shared_data: Path, tmp_path: Path, ultralytics: Any
) -> None:
    onnx = tmp_path / ultralytics(EXPORT, f"{base}.yaml", nms)
    detector = Detector(onnx)
    assert (detector.end2end, detector.batch, detector.input_hw) == (end2end, None, (64, 64))
    # A list of as many boxes as the whole input has would not fit a smaller one.
    hugging = Detector(onnx, form=InputForm("hug", "averaged"))
    assert (detector.form.shape, hugging.form.shape) == ("margin", "square" if end2end else "hug")
    detector.form = BY_ULTRALYTICS
    picture = tmp_path / "picture.png"  # of the input's size: whatever differs is not the decode
    Image.open(shared_data / "same-picture/base.jpg").resize((64, 64)).save(picture)
    lowest = float(detector.detect(picture.read_bytes(), Options(confidence=0)).confidences[min(9, 299)]) * 0.999
    ours = detector.detect(picture.read_bytes(), Options(confidence=lowest))
    theirs = np.array(ultralytics(PREDICT, onnx, 64, lowest, picture)[str(picture)])
    assert len(ours.confidences) == len(theirs) >= 5
    assert np.allclose(ours.confidences, theirs[:, 4], rtol=1e-3)
    assert ours.class_ids.tolist() == theirs[:, 5].tolist()
    assert np.allclose(ours.boxes_xyxy_px, theirs[:, :4], atol=0.1)
