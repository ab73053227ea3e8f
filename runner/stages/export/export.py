"""Export of the trained weights to ONNX, compared with the weights on pictures of val.

Batch, height and width are dynamic, so that the server can fit the input to each picture (`serving.vision.detector`,
`rect`). No date is in the metadata: equal weights give equal bytes.
"""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxslim
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from PIL import Image

from runner.config.schema import ExportConfig
from runner.dataset.entries import read_entries
from runner.errors import StageError
from runner.stages.offline import set_up
from runner.stages.picture_files import PictureFiles
from runner.stages.quantize import convert_fp16, quantize_int8
from runner.workspace import write_text, writing
from serving.vision.detector import Detector
from serving.vision.letterbox import InputForm
from serving.vision.metadata import form_metadata
from serving.vision.variants import FP16, INT8, variant_file

Batch = NDArray[np.float32]


class Weights(Protocol):
    """Weights as the program that trained them loads them."""

    classes: list[str]  # in the order of their ids

    def to_onnx(self, imgsz: int, settings: ExportConfig) -> onnx.ModelProto:
        """Return their ONNX, with `names`, `imgsz`, `stride` and `task` in its metadata, and no date."""

    def network(self, *, end2end: bool) -> Callable[[Batch], Batch]:
        """Return the network itself: from inputs, (N, 3, H, W), RGB, 0 to 1, to the output of the ONNX."""


def export(
    model: Path,
    dataset: Path,
    split: Path,
    trainer: str,
    imgsz: int,
    settings: ExportConfig,
    out: Path,
    *,
    work: Path,
    files: PictureFiles,
) -> str:
    """Fill `out` with model.onnx and difference.json; return a line with the differences, measured on pictures of val.

    Where `settings.quantize` names a variant, `out` has it too, such as model.int8.onnx; the gate judges it.
    `model` is the folder of best.pt, `trainer` the program that made it, `imgsz` the side of the square input in
    pixels, `work` a scratch folder.
    """
    weights = _open(trainer, model / "best.pt", work)
    expected = (dataset / "classes.txt").read_text(encoding="utf-8").splitlines()
    if weights.classes != expected:
        raise StageError(
            f"best.pt knows the classes {weights.classes}, the dataset {expected}; run `dvc repro` to train anew"
        )
    _write_onnx(weights, imgsz, settings, out / "model.onnx")
    pictures = [file.read_bytes() for file in _sources("val", settings.pictures, dataset, split, files)]
    difference = compare(out / "model.onnx", weights, pictures)
    difference["allowed"] = settings.max_difference
    write_text(out / "difference.json", json.dumps(difference, indent=2) + "\n")
    accepted = _accepted(difference, settings)
    if settings.quantize == INT8:
        train = _sources("train", settings.calibration, dataset, split, files, spread=True)
        quantize_int8(out / "model.onnx", train, out / variant_file(INT8))
    elif settings.quantize == FP16:
        convert_fp16(out / "model.onnx", out / variant_file(FP16))
    return accepted


def export_stock(file: Path, settings: ExportConfig, onnx_file: Path, *, work: Path) -> str:
    """Export a pretrained .pt file of Ultralytics at its own input size; compare both on a picture of noise.

    Return the differences.
    """
    set_up("ultralytics", work)
    from runner.stages.export.ultralytics_weights import UltralyticsWeights

    weights = UltralyticsWeights(file, work)
    if weights.task != "detect":
        raise StageError(f"{file}: a model for the task {weights.task}, expected one that finds boxes (detect)")
    imgsz = weights.imgsz
    _write_onnx(weights, imgsz, settings, onnx_file)
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (imgsz, imgsz, 3), np.uint8)).save(noise, "PNG")
    return _accepted(compare(onnx_file, weights, [noise.getvalue()]), settings)


def _open(trainer: str, file: Path, work: Path) -> Weights:
    set_up(trainer, work)
    if trainer == "libreyolo":
        from runner.stages.export.libreyolo_weights import LibreYoloWeights

        return LibreYoloWeights(file, work)
    from runner.stages.export.ultralytics_weights import UltralyticsWeights

    return UltralyticsWeights(file, work)


def _write_onnx(weights: Weights, imgsz: int, settings: ExportConfig, target: Path) -> None:
    """Fold constants, and name the input form."""
    slim = onnxslim.slim(weights.to_onnx(imgsz, settings))
    del slim.graph.value_info[:]  # names of dynamic dimensions, in the random order of a Python set
    metadata = {entry.key: entry.value for entry in slim.metadata_props}
    metadata |= form_metadata(InputForm(settings.input_shape, settings.decoding))
    del slim.metadata_props[:]
    onnx.helper.set_model_props(slim, dict(sorted(metadata.items())))
    onnx.checker.check_model(slim, full_check=True)
    with writing(target) as temporary:
        onnx.save(slim, temporary)


def _accepted(difference: dict[str, float], settings: ExportConfig) -> str:
    text = (
        f"ONNX and weights differ by at most {difference['box']:.2g} of the input in a box and "
        f"{difference['confidence']:.2g} in a confidence, on {difference['pictures']} pictures"
    )
    if max(difference["box"], difference["confidence"]) > settings.max_difference:
        raise StageError(f"{text}; export.max_difference allows {settings.max_difference:g}")
    return text


def _sources(
    part: str, count: int, dataset: Path, split: Path, files: PictureFiles, *, spread: bool = False
) -> list[Path]:
    """Return the source files of at most `count` pictures of a part: the first, or `spread` over the part."""
    index = {entry["image"]: entry for entry in read_entries(dataset)}
    images = (split / f"{part}.txt").read_text(encoding="utf-8").splitlines()
    if spread and len(images) > count:
        images = [images[place * len(images) // count] for place in range(count)]
    return files.sources([index[image] for image in images[:count]])


def compare(onnx_file: Path, weights: Weights, pictures: Sequence[bytes]) -> dict[str, float]:
    """Return the largest differences between ONNX and the weights that it is of, with the server's preprocessing.

    The keys are box (fraction of the input's longer side), confidence (0-1), and pictures. The model's output is
    (N, 4 + classes, anchors), cxcywh in input pixels and confidences, or (N, 300, 6). Pictures are encoded; those of
    the same shape are one batch.
    """
    detector = Detector(onnx_file)
    batches: dict[tuple[int, ...], list[Batch]] = {}
    for picture in pictures:
        inputs, _ = detector.prepare(picture)
        batches.setdefault(inputs.shape, []).append(inputs)
    session = InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    network = weights.network(end2end=detector.end2end)
    box, confidence = 0.0, 0.0
    for batch in map(np.concatenate, batches.values()):
        found = session.run(None, {session.get_inputs()[0].name: batch})[0]
        reference = network(batch)
        if found.shape != reference.shape:
            raise StageError(f"model.onnx answers with shape {found.shape}, the weights with {reference.shape}")
        if detector.end2end:
            found, reference = _in_one_order(found, reference)
        boxes, rest = np.split(np.abs(found - reference), [4], axis=2 if detector.end2end else 1)
        box, confidence = max(box, boxes.max() / max(detector.input_hw)), max(confidence, rest.max())
    # Two digits; the rest is rounding noise.
    return {"box": float(f"{box:.1e}"), "confidence": float(f"{confidence:.1e}"), "pictures": len(pictures)}


def _in_one_order(found: Batch, reference: Batch) -> tuple[Batch, Batch]:
    """Return end-to-end lists, (N, K, 6), with the rows of both in one order, as nearly equal confidences may swap.

    Each row of the reference gets the found row that is nearest in box, confidence and class. Rows that are hardly more
    confident than the last of their list are left out (zero): which of those are in it is chance.
    """
    same = np.zeros_like(reference)
    kept = np.zeros_like(reference)
    for ours, rows, out, known in zip(found, reference, same, kept, strict=True):
        sure = rows[:, 4] > max(rows[-1, 4], ours[-1, 4]) + 1e-3
        apart = np.abs(rows[sure, None, :] - ours[None, :, :])
        apart[:, :, 4] *= 1e3  # a confidence of 0.001 as much as a pixel
        apart[:, :, 5] *= 1e6
        out[sure], known[sure] = ours[apart.sum(axis=2).argmin(axis=1)], rows[sure]
    return same, kept
