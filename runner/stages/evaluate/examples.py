"""Pictures of a part with their labels, and the model's detections in them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from runner.config.schema import EvaluateConfig
from runner.dataset.entries import INDEX, Entry, read_entries
from runner.errors import DatasetError, StageError
from runner.stages.evaluate.metrics import Boxes, Floats, Ids
from runner.stages.parallel import workers
from runner.stages.picture_files import PictureFiles
from serving.vision.detector import Detections, Detector, Options
from serving.vision.metadata import ModelError
from serving.vision.picture import PictureError

LOWEST = 0.001  # lowest confidence for average precision, as in Ultralytics' `val`


class Example(NamedTuple):
    """A source picture with its labels."""

    image: str
    name: str  # of its file in the dataset
    source: Path  # in the cache of pictures, under its digest
    pixels: int
    labelled: Boxes


class Predictions(NamedTuple):
    """Detections of a picture: all boxes, for average precision, and the boxes as served."""

    everything: Boxes
    served: Boxes


def load(onnx: Path) -> Detector:
    """Load the model, or raise StageError if it is not a detector or cannot be loaded."""
    try:
        return Detector(onnx)
    except ModelError as error:
        raise StageError(f"{onnx}: {error}; run `dvc repro export`") from error


def class_ids(known: Sequence[str], names: Sequence[str]) -> Ids:
    """Return the dataset's class id for each of the model's classes, or raise StageError if the names differ."""
    if set(known) != set(names):
        only_model = ", ".join(sorted(set(known) - set(names))) or "none"
        only_dataset = ", ".join(sorted(set(names) - set(known))) or "none"
        raise StageError(
            f"the model's classes are not the dataset's (in the model alone: {only_model}; in the dataset alone: "
            f"{only_dataset}); expected the same names; run `dvc repro` to train on this dataset"
        )
    return np.array([names.index(name) for name in known], np.int64)


def read_part(part: str, dataset: Path, split: Path, files: PictureFiles) -> list[Example]:
    """Return the pictures of val or test, as users would send them, with the labels of `prepare`."""
    index = {entry["image"]: entry for entry in read_entries(dataset)}
    images = (split / f"{part}.txt").read_text(encoding="utf-8").splitlines()
    if unknown := [image for image in images if image not in index]:
        raise DatasetError(f"{split / part}.txt: {unknown[0]} is not in {dataset / INDEX}; run `dvc repro split`")
    entries = [index[image] for image in images]
    return [_example(entry, source) for entry, source in zip(entries, files.sources(entries), strict=True)]


def _example(entry: Entry, source: Path) -> Example:
    try:
        rows = np.array([line.split() for line in entry["labels"].splitlines()], np.float64).reshape(-1, 5)
    except ValueError as error:
        raise DatasetError(
            f"{entry['image']}: expected labels of `class x y w h`; run `dvc repro prepare`, which writes them"
        ) from error
    size = np.array([entry["width"], entry["height"]], np.float64)
    centre, half = rows[:, 1:3] * size, rows[:, 3:5] * size / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    labelled = Boxes(boxes, rows[:, 0].astype(np.int64), np.ones(len(rows)))
    return Example(entry["image"], Path(entry["source"]).name, source, entry["width"] * entry["height"], labelled)


def detect(
    detector: Detector, ids: Ids, examples: Sequence[Example], settings: EvaluateConfig, *, clip: bool = True
) -> Iterator[Predictions]:
    """Yield the detections of each picture in order, with as many pictures at a time as there are workers.

    `clip`: boxes to the picture, as the server does.
    """

    limits = settings.iou, settings.max_detections

    def predict(example: Example) -> Predictions:
        try:
            (inference,) = detector.infer([example.source.read_bytes()], max_pixels=example.pixels)
        except (PictureError, OSError) as error:
            where = f"{example.image} ({example.source})"
            raise DatasetError(f"{where}: {error}; it could be read when the dataset was prepared") from error
        everything, served = (
            detector.select(inference, Options(LOWEST, *limits, multi_label=multi_label, clip=clip))
            for multi_label in (True, False)
        )
        return Predictions(_boxes(everything, ids), _boxes(served, ids))

    with ThreadPoolExecutor(workers()) as pool:
        try:
            yield from tqdm(pool.map(predict, examples), total=len(examples), desc="evaluating", disable=None)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _boxes(found: Detections, ids: Ids) -> Boxes:
    # Rounded as written, so that thresholds and figures can be recomputed from predictions.json.
    confidences: Floats = found.confidences.astype(np.float64).round(6)
    return Boxes(found.boxes_xyxy_px.astype(np.float64), ids[found.class_ids], confidences)
