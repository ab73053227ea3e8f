"""INT8 and FP16 beside float: mAP50, and CPU time of a picture.

`python -m benchmarks quantize` needs the extra `train`: it trains a small model on the drawn sample first. With
`--projects FOLDER…` it takes projects whose `dvc repro` has run with `export.quantize: int8`. FP16 is converted here.
The models take turns, twenty pictures each, on one thread; CPU time is the thread's.
"""

import argparse
import shutil
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import thread_time
from typing import NamedTuple

import numpy as np
import yaml

from benchmarks.evaluate import exported
from benchmarks.rounds import FOLDER, in_turn, markdown, ratio
from runner.config.compose import compose
from runner.config.schema import EvaluateConfig
from runner.stages.evaluate.examples import Example, class_ids, detect, load, read_part
from runner.stages.evaluate.metrics import Floats, Ids
from runner.stages.evaluate.resampling import ap50, draw, rank
from runner.stages.picture_files import PictureFiles
from runner.stages.quantize import convert_fp16
from runner.workspace import work_folder
from serving.vision.detector import Detector, Options
from serving.vision.variants import int8_instructions

DRAWS = 1000
HEAD = (
    *("dataset", "pictures, boxes", "variant", "MB", "mAP50", "lost (95 % of draws)"),
    *("inference, CPU-ms", "÷ float", "whole picture, CPU-ms", "÷ float"),
)


class CpuTime(NamedTuple):
    """Median CPU time of a picture in milliseconds."""

    inference: float
    whole: float  # with decoding and suppression


def cpu_time(detector: Detector, pictures: list[bytes]) -> CpuTime:
    """Detect in each picture once."""
    inference, whole = list[float](), list[float]()
    for content in pictures:
        start = thread_time()
        inputs, _ = detector.prepare(content, max_pixels=10**10)
        prepared = thread_time()
        detector._run(inputs)
        inference.append((thread_time() - prepared) * 1e3)
        start = thread_time()
        detector.detect(content, Options(max_pixels=10**10))
        whole.append((thread_time() - start) * 1e3)
    return CpuTime(statistics.median(inference), statistics.median(whole))


def quality(
    detector: Detector, names: list[str], part: list[Example], settings: EvaluateConfig, weights: Ids
) -> Floats:
    """Return mAP50 for each row of `weights`, the pictures' counts in a draw."""
    ids = class_ids(detector.classes, names)
    found = [each.everything for each in detect(detector, ids, part, settings)]
    classes = rank([example.labelled for example in part], found, len(names))
    mean: Floats = np.nanmean([ap50(each, weights) for each in classes if each.labelled.sum()], axis=0)
    return mean


def measure(name: str, folder: Path, rounds: int) -> Iterator[list[str]]:
    """Yield the rows of a project."""
    artifacts = folder / "artifacts"
    export = artifacts / "export"
    convert_fp16(export / "model.onnx", FOLDER / "model.fp16.onnx")
    files = {"float": export / "model.onnx", "int8": export / "model.int8.onnx", "fp16": FOLDER / "model.fp16.onnx"}
    models = {kind: load(file) for kind, file in files.items()}
    names = (artifacts / "dataset/classes.txt").read_text(encoding="utf-8").splitlines()
    values = yaml.safe_load((artifacts / "config/evaluate.yaml").read_text(encoding="utf-8"))["evaluate"]
    settings = EvaluateConfig.model_validate(values)
    pictures_of = PictureFiles.of(compose(folder)[0], folder, work_folder(folder))
    val, test = (read_part(each, artifacts / "dataset", artifacts / "split", pictures_of) for each in ("val", "test"))
    pictures = [example.source.read_bytes() for example in test[:20]]
    times = in_turn({kind: partial(cpu_time, model, pictures) for kind, model in models.items()}, rounds)
    for title, part in ((f"{name}, test", test), (f"{name}, val and test", [*val, *test])):
        weights = np.vstack([np.ones((1, len(part)), np.int64), draw(len(part), DRAWS)])
        found = {kind: quality(model, names, part, settings, weights) for kind, model in models.items()}
        boxes = sum(len(example.labelled.class_ids) for example in part)
        for kind in models:
            loss = found["float"] - found[kind]
            low, high = np.nanquantile(loss[1:], [0.025, 0.975])
            lost = "" if kind == "float" else f"{loss[0]:+.4f} ({low:+.3f} to {high:+.3f})"
            row = [title, f"{len(part)}, {boxes}", kind, f"{files[kind].stat().st_size / 1e6:.1f}"]
            row += [f"{found[kind][0]:.4f}", lost]
            for place in range(len(CpuTime._fields)):
                mine, floats = ([each[place] for each in times[which]] for which in (kind, "float"))
                row += [f"{statistics.median(mine):.2f}", f"{ratio(floats, mine):.2f}"]
            yield row


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--projects", nargs="*", type=Path, metavar="FOLDER", help="after `dvc repro` with int8")
    parser.add_argument("--pictures", type=int, default=500, help="of the sample")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args(arguments)
    folders = options.projects
    root = FOLDER / "quantize"
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not folders:
        sample = (root / "sample", options.pictures, options.imgsz, options.epochs)
        folders = [exported(*sample, export={"quantize": "int8"})]
    rows = [row for folder in folders for row in measure(folder.name, folder, options.rounds)]
    said = ", ".join(int8_instructions()) or "neither VNNI nor AMX"
    print(markdown(HEAD, rows, f"{said}; {options.rounds} rounds; {datetime.now(UTC):%Y-%m-%d}"))
    shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
