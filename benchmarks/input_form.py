"""What the input form of a model costs and is worth: accuracy, pixels and CPU time, beside Ultralytics' own val.

`python -m benchmarks.input_form NAME:EPOCHS=SOURCE …` needs the extra `train`. SOURCE is what `dataset add` takes, and
`SOURCE@REGEX` sets `split.group`. For each dataset and seed (of training and split) a yolo11n is trained from scratch,
without looking at val; then model.onnx is measured on val and test in every form. Ultralytics' boxes, clipped to the
picture as ours, go through our scorer. What is trained already is not trained again.
"""

import argparse
import json
import re
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.rounds import FOLDER, PROJECT, markdown, runner
from runner.config.compose import compose
from runner.config.schema import EvaluateConfig
from runner.pipeline.ultralytics_val import as_yolo, val
from runner.stages.evaluate.examples import Example, class_ids, detect, load, read_part
from runner.stages.evaluate.metrics import Boxes, Floats, average_precision
from runner.stages.evaluate.resampling import ap50, draw, rank
from runner.stages.picture_files import PictureFiles
from serving.vision.letterbox import DECODINGS, SHAPES, InputForm
from tests.support.projects import set_params

SETTINGS = EvaluateConfig(iou=0.7, max_detections=300, worst=0)
OWN_VAL = {True: "Ultralytics' val, rect", False: "Ultralytics' val, square"}
STAGES = ("compose", "fetch", "prepare", "split", "train", "export")
DRAWS = 1000


class Measured(NamedTuple):
    """Figures of one model in one form."""

    map50: float
    map50_95: float
    draws: Floats  # (DRAWS,) mAP50 of resampled pictures, the same ones for every form
    pixels: float  # of the input, mean
    cpu_ms: float  # a picture


def project(folder: Path, name: str, epochs: int, source: str, seed: int, imgsz: int) -> Path:
    """Train and export, unless that is done."""
    if (folder / "artifacts/export/model.onnx").exists():
        return folder
    source, _, group = source.partition("@")
    if not (folder / "params.yaml").exists():
        folder.mkdir(parents=True)
        shutil.copytree(PROJECT / "conf", folder / "conf")
        for file in ("params.yaml", "dvc.yaml", "constraints-train.txt"):
            shutil.copy(PROJECT / file, folder)
        set_params(folder, {"prepare": {"duplicates": "labelled"}})
        runner(folder, "dataset", "add", str(Path(source).resolve()), "--name", name)
    train = {"epochs": epochs, "batch": 8, "nbs": 8, "val": False}
    split = {"group": group or None, "seed": seed, "val": 0.15, "test": 0.3}
    presets = {"dataset": "store", "augment": "default"}
    changes = {"seed": seed, "presets": presets, "split": split, "model": {"imgsz": imgsz}, "train": train}
    set_params(folder, changes)
    for stage in STAGES:
        runner(folder, stage, RUNNER_WORKERS="1")
    return folder


def measure(folder: Path) -> dict[str, Measured]:
    """Measure the model of a project in every form, and by Ultralytics."""
    dataset, split, onnx = (folder / "artifacts" / name for name in ("dataset", "split", "export/model.onnx"))
    files = PictureFiles.of(compose(folder)[0], folder, folder / ".work")
    examples = [each for part in ("val", "test") for each in read_part(part, dataset, split, files)]
    detector = load(onnx)
    ids = class_ids(detector.classes, (dataset / "classes.txt").read_text(encoding="utf-8").splitlines())
    measured = {}
    for shape in SHAPES:
        for decoding in DECODINGS:
            detector.form = InputForm(shape, decoding)
            start = time.process_time()
            found = [each.everything for each in detect(detector, ids, examples, SETTINGS)]
            cpu_ms = (time.process_time() - start) * 1e3 / len(examples)
            inputs = [detector.prepare(each.source.read_bytes())[0] for each in examples]
            pixels = float(np.mean([each.shape[2] * each.shape[3] for each in inputs]))
            measured[f"{shape}, {decoding}"] = _measured(examples, found, len(ids), pixels, cpu_ms)
    view = folder / "artifacts/ultralytics"
    shutil.rmtree(view, ignore_errors=True)
    data = as_yolo(examples, dataset, ids, detector.classes, view)
    for rect, name in OWN_VAL.items():
        start = time.process_time()
        val(onnx, data, view / "run", SETTINGS, max(detector.input_hw), rect=rect)
        cpu_ms = (time.process_time() - start) * 1e3 / len(examples)
        found = _boxes(json.loads((view / "run/predictions.json").read_text()), len(examples), ids)
        measured[name] = _measured(examples, found, len(ids), float("nan"), cpu_ms)
    return measured


def _boxes(rows: list[dict[str, Any]], pictures: int, ids: Any) -> list[Boxes]:
    """Return the boxes of Ultralytics' predictions.json; pictures are named by their numbers, classes count from 1."""
    of_picture: dict[int, list[list[float]]] = defaultdict(list)
    for row in rows:
        x, y, width, height = row["bbox"]
        of_picture[int(row["image_id"])].append([x, y, x + width, y + height, row["category_id"] - 1, row["score"]])
    found = []
    for number in range(pictures):
        rows_of = np.array(of_picture[number], np.float64).reshape(-1, 6)
        best = rows_of[np.argsort(-rows_of[:, 5], kind="stable")]
        found.append(Boxes(best[:, :4], ids[best[:, 4].astype(np.int64)], best[:, 5]))
    return found


def _measured(examples: list[Example], found: list[Boxes], classes: int, pixels: float, cpu_ms: float) -> Measured:
    labelled = [example.labelled for example in examples]
    ranked = average_precision(labelled, found, classes, SETTINGS.max_detections)
    weights = draw(len(examples), DRAWS)
    draws = np.nanmean([ap50(each, weights) for each in rank(labelled, found, classes)], axis=0)
    return Measured(float(np.nanmean(ranked.map50)), float(np.nanmean(ranked.map50_95)), draws, pixels, cpu_ms)


def table(runs: dict[str, list[dict[str, Measured]]]) -> str:
    """Return Markdown: each form's means over datasets and seeds, and its distance to the better of Ultralytics' two.

    The interval is of the mean over the seeds of one dataset, by the paired bootstrap over pictures.
    """
    every = [run for seeds in runs.values() for run in seeds]
    rows = []
    for form in every[0]:
        figures = [run[form] for run in every]
        apart = [
            np.mean([getattr(run[form], key) - _better(run, key) for run in every]) for key in ("map50", "map50_95")
        ]
        means = [np.mean([getattr(each, key) for each in figures]) for key in ("map50", "map50_95")]
        pixels, cpu_ms = (np.mean([getattr(each, key) for each in figures]) for key in ("pixels", "cpu_ms"))
        cells = [*(f"{each:.3f}" for each in means), *(f"{each:+.3f}" for each in apart)]
        rows.append([form, *cells, f"{pixels:.0f}", f"{cpu_ms:.1f}"])
    head = ["form", "mAP50", "mAP50-95", "mAP50 - better val", "mAP50-95 - better val", "pixels", "CPU-ms"]
    means_table, rows = markdown(head, rows), []
    for form in every[0]:
        cells = []
        for seeds in runs.values():
            draws = []
            for run in seeds:
                rect, square = (run[name] for name in OWN_VAL.values())
                draws.append(run[form].draws - (rect if rect.map50 > square.map50 else square).draws)
            apart = np.mean(draws, axis=0)
            low, high = np.quantile(apart, [0.025, 0.975])
            cells.append(f"{np.mean([run[form].map50 for run in seeds]):.3f} ({low:+.3f} to {high:+.3f})")
        rows.append([form, *cells])
    return f"{means_table}\n{markdown(['mAP50', *runs], rows)}"


def _better(run: dict[str, Measured], key: str) -> float:
    return max(float(getattr(run[name], key)) for name in OWN_VAL.values())


def main(arguments: list[str] | None = None) -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", metavar="NAME:EPOCHS=SOURCE")
    parser.add_argument("--folder", type=Path, default=FOLDER / "input_form", help="of the projects, which are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--imgsz", type=int, default=160)
    options = parser.parse_args(arguments)
    runs: dict[str, list[dict[str, Measured]]] = defaultdict(list)
    for seed in range(options.seeds):
        for each in options.datasets:
            if not (parts := re.fullmatch("(.+?):([0-9]+)=(.+)", each)):
                parser.error(f"{each}: expected NAME:EPOCHS=SOURCE")
            name, epochs, source = parts.groups()
            own = (options.folder / f"{name}-{seed}").resolve()
            folder = project(own, name, int(epochs), source, seed, options.imgsz)
            runs[name].append(measure(folder))
            figures = {form: f"{one.map50:.3f}/{one.map50_95:.3f}" for form, one in runs[name][-1].items()}
            print(name, seed, figures, flush=True)
    print(table(runs))


if __name__ == "__main__":
    main()
