"""`evaluate --as-ultralytics`: our figures of model.onnx beside those of Ultralytics' own `val`, on the test part.

docs/releases.md says in which three points they differ. The last two rows of the table agree in all three.
"""

import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from runner.config.schema import EvaluateConfig
from runner.dataset.entries import read_entries
from runner.stages.evaluate.examples import LOWEST, Example, class_ids, detect, load, read_part
from runner.stages.evaluate.metrics import Ids, average_precision
from runner.stages.registry import picture_files
from runner.tables import Row, Table, figure
from runner.workspace import ARTIFACTS, made_by, scratch, work_folder
from serving.vision.detector import Detector
from serving.vision.letterbox import InputForm

BY_ULTRALYTICS = InputForm("square", "full")  # of `val` with rect=False


def beside_ultralytics(project: Path) -> str:
    """Return a table of mAP50 and mAP50-95 on test: as served, by Ultralytics' val, and ours without the differences.

    Nothing in artifacts/ changes. StageError: the stages up to export have not run.
    """
    folder = project / ARTIFACTS
    dataset, split, onnx = (folder / name for name in ("dataset", "split", "export/model.onnx"))
    with made_by("dvc repro export"):
        values = yaml.safe_load((folder / "config/evaluate.yaml").read_text(encoding="utf-8"))
        names = (dataset / "classes.txt").read_text(encoding="utf-8").splitlines()
        test = read_part("test", dataset, split, picture_files())
        onnx.stat()
    settings = EvaluateConfig.model_validate(values["evaluate"])
    detector = load(onnx)
    ids = class_ids(detector.classes, names)
    rows: list[Row] = [("measured by", "input", "decoding", "boxes", "mAP50", "mAP50-95")]
    served = (detector.form.shape, detector.form.decoding, "clipped to the picture")
    rows.append(("Flywheel, as served", *served, *_figures(detector, ids, test, settings)))
    with scratch("ultralytics-") as view:
        data = as_yolo(test, dataset, ids, detector.classes, view)
        inputs = {True: "margin, for each batch of 16", False: "square"}
        for rect, shape in inputs.items() if detector.free else [(False, "square")]:
            found = val(onnx, data, view / "run", settings, max(detector.input_hw), rect=rect)
            if found["pictures"] != len(test):
                rows.append((f"Ultralytics read only {found['pictures']} of {len(test)} pictures:", *[""] * 5))
            figures = (figure(found["map50"]), figure(found["map50_95"]))
            rows.append((f"Ultralytics' val, rect={rect}", shape, "full", "as predicted", *figures))
    detector.form = BY_ULTRALYTICS
    plain = _figures(detector, ids, test, settings, clip=False)
    rows.append(("Flywheel, as Ultralytics", *("square", "full", "as predicted"), *plain))
    return Table(f"{onnx} on {len(test)} test pictures", rows).as_text()


def _figures(
    detector: Detector, ids: Ids, test: Sequence[Example], settings: EvaluateConfig, *, clip: bool = True
) -> tuple[str, str]:
    found = [each.everything for each in detect(detector, ids, test, settings, clip=clip)]
    labelled = [example.labelled for example in test]
    measured = average_precision(labelled, found, len(ids), settings.max_detections)
    with np.errstate(invalid="ignore"):
        means = [each[~np.isnan(each)] for each in (measured.map50, measured.map50_95)]
    map50, map50_95 = (figure(float(each.mean()) if len(each) else None) for each in means)
    return map50, map50_95


def as_yolo(test: Sequence[Example], dataset: Path, ids: Ids, classes: Sequence[str], view: Path) -> Path:
    """Copy pictures and labels into a layout of Ultralytics, where it may write; return its data.yaml.

    Pictures are copied as they were sent; labels get the model's class ids, `ids` being the dataset's for each of them.
    """
    index = {entry["image"]: entry for entry in read_entries(dataset)}
    own = {int(of_dataset): of_model for of_model, of_dataset in enumerate(ids)}
    for folder in ("images", "labels"):
        (view / folder).mkdir(parents=True)
    listed = []
    for number, example in enumerate(test):
        image = view / "images" / f"{number:06d}{Path(example.name).suffix}"
        shutil.copyfile(example.source, image)
        listed.append(f"{image}\n")
        lines = [line.split() for line in index[example.image]["labels"].splitlines()]
        text = "".join(f"{own[int(class_id)]} {' '.join(box)}\n" for class_id, *box in lines)
        (view / "labels" / f"{number:06d}.txt").write_text(text, encoding="utf-8")
    (view / "test.txt").write_text("".join(listed), encoding="utf-8")
    described = {"path": str(view), **dict.fromkeys(("train", "val", "test"), "test.txt"), "names": list(classes)}
    (view / "data.yaml").write_text(yaml.safe_dump(described, allow_unicode=True), encoding="utf-8")
    return view / "data.yaml"


def val(onnx: Path, data: Path, run: Path, settings: EvaluateConfig, imgsz: int, *, rect: bool) -> dict[str, Any]:
    """Run Ultralytics' val of an ONNX file on the test part of a data.yaml; return map50, map50_95 and pictures.

    `run` gets predictions.json, boxes clipped to the picture. Whatever Ultralytics prints goes to stderr.
    """
    seen: list[int] = []
    with redirect_stdout(sys.stderr):
        from runner.stages.offline import set_up

        set_up("ultralytics", work_folder())
        from ultralytics import YOLO

        model = YOLO(onnx, task="detect")
        model.add_callback("on_val_end", lambda validator: seen.append(validator.seen))
        options = {"conf": LOWEST, "iou": settings.iou, "max_det": settings.max_detections, "rect": rect}
        files = {"project": str(run.parent), "name": run.name, "exist_ok": True, "save_json": True, "plots": False}
        found = model.val(data=str(data), split="test", imgsz=imgsz, device="cpu", **options, **files)
    return {"map50": float(found.box.map50), "map50_95": float(found.box.map), "pictures": seen[-1]}
