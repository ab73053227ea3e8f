"""Forms of a model's output: recognised for YOLO detectors, declared for other families; both are checked."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.vision.metadata import ModelError, OutputForm

Floats = NDArray[np.float32]
_STRIDES = (8, 16, 32)  # of YOLOX
_SHARES = 1.5  # a detector's boxes in pixels reach beyond it; shares of the picture do not
_ENOUGH = 16  # boxes that cannot all be tiny ones in the corner
_TOLERANCE = 1e-3
_FARTHEST = 1e9  # pixels
_LARGEST = 20  # logarithm of a box's side in cells


def read_output(form: OutputForm, outputs: Sequence[Floats], classes: int, input_hw: tuple[int, int]) -> Floats:
    """Return a model's output as `serving.vision.suppression` reads it: a list, (N, K, 6), or a grid, (N, 4 + C, A).

    Args:
        form: that of the outputs.
        outputs: of the names that `form` gives.
        classes: C.
        input_hw: height and width of the input in pixels.
    Raises:
        ModelError: the shapes are others than those of the form.
    """
    shapes = [each.shape for each in outputs]
    first = outputs[0]
    match form.form:
        case "grid":
            fits = first.ndim == 3 and first.shape[1] == 4 + classes
            expected = f"(N, {4 + classes}, boxes)"
        case "list":
            fits, expected = first.ndim == 3 and first.shape[2] == 6, "(N, boxes, 6)"
        case "queries":
            last = max(_columns(form, classes))
            fits = first.ndim == outputs[1].ndim == 3 and first.shape[:2] == outputs[1].shape[:2]
            fits = fits and first.shape[2] >= 4 and outputs[1].shape[2] > last
            expected = f"(N, queries, 4) and (N, queries, {last + 1} or more)"
        case _:
            fits, expected = first.ndim == 3 and first.shape[2] == 5 + classes, f"(N, boxes, {5 + classes})"
    if not fits:
        raise ModelError(f"output is {', '.join(map(str, shapes))}; expected {expected} of the form {form.form}")
    if form.form in ("grid", "list"):
        return first
    if form.form == "queries":
        boxes = first[..., :4].clip(-_FARTHEST, _FARTHEST) * np.array([*input_hw[::-1]] * 2, np.float32)
        scores = _activated(outputs[1], form.activation)[..., _columns(form, classes)]
    else:
        boxes = first[..., :4] if form.form == "objectness" else _from_offsets(first[..., :4], input_hw)
        boxes = boxes.clip(-_FARTHEST, _FARTHEST)  # sides are powers, which may be infinite
        scores = first[..., 5:] * first[..., 4:5]
    grid: Floats = np.concatenate([boxes, scores], axis=2).transpose(0, 2, 1)
    return grid


def check_output(form: OutputForm, outputs: Sequence[Floats], classes: int) -> None:
    """Raise ModelError where what is in a model's declared outputs contradicts the declaration.

    `outputs` are those of an empty picture and of noise together. Grids and lists have checks of their own.
    """
    first = outputs[0]
    scores = outputs[1][..., _columns(form, classes)] if form.form == "queries" else first[..., 4:]
    if not np.isfinite(scores).all():
        raise ModelError(f"scores are no numbers; expected another form than {form.form}")
    if form.form == "queries":
        boxes = first[..., :4]
        if boxes.min() < 1 - _SHARES or boxes.max() > _SHARES or boxes[..., 2:].min() < -_TOLERANCE:
            raise ModelError(
                f"boxes are {boxes.min():.3g} to {boxes.max():.3g}; expected cx cy w h as shares of the input, 0 to 1, "
                f"in the output {form.boxes!r} of the form queries"
            )
        within = scores.min() >= -_TOLERANCE and scores.max() <= 1 + _TOLERANCE
        if within != (form.activation == "none"):
            expected = "0 to 1 with the activation none" if form.activation == "none" else "logits"
            raise ModelError(f"scores are {scores.min():.3g} to {scores.max():.3g}; expected {expected}")
    elif form.form in ("objectness", "offsets"):
        if scores.min() < -_TOLERANCE or scores.max() > 1 + _TOLERANCE:
            raise ModelError(f"objectness and scores are {scores.min():.3g} to {scores.max():.3g}; expected 0 to 1")
        if form.form == "offsets" and first[..., 2:4].max() > _LARGEST:
            raise ModelError("boxes are in pixels already; expected offsets in cells; the form may be objectness")
        if form.form == "objectness":
            _check_pixels(first[..., :4])
            if first[..., 2:4].min() < 0:
                raise ModelError("widths are below 0; expected cx cy w h in pixels; the form may be offsets")


def _columns(form: OutputForm, classes: int) -> list[int]:
    columns = list(range(classes)) if form.columns is None else list(form.columns)
    if len(columns) != classes or min(columns) < 0:
        raise ModelError(f"columns are {columns}; expected a column, 0 or more, for each of the {classes} classes")
    return columns


def _activated(scores: Floats, activation: str) -> Floats:
    if activation == "none":
        return scores
    if activation == "softmax":
        powers = np.exp(scores - scores.max(axis=2, keepdims=True))
        return np.asarray(powers / powers.sum(axis=2, keepdims=True), np.float32)
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -80, 80))), np.float32)


def _from_offsets(offsets: Floats, input_hw: tuple[int, int]) -> Floats:
    """Return (N, A, 4) cx cy w h in pixels, from offsets in the cells of YOLOX's three grids, the finest first."""
    height, width = input_hw
    cells, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], 1))
        strides.append(np.full((len(cells[-1]), 1), stride))
    grid, stride_px = np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
    if len(grid) != offsets.shape[1]:
        raise ModelError(f"output has {offsets.shape[1]} boxes; expected {len(grid)} of the form offsets")
    sizes = np.exp(np.minimum(offsets[..., 2:], _LARGEST)) * stride_px
    return np.concatenate([(offsets[..., :2] + grid) * stride_px, sizes], axis=2)


def check_grid(output: Floats) -> None:
    """Raise ModelError unless an output can be a grid.

    Args:
        output: (4 + classes, A) float32, of an empty picture: cx cy w h in pixels, then a score per class, 0 to 1.
    """
    boxes, scores = output[:4], output[4:]
    _check_pixels(boxes)
    if scores.size and (scores.min() < -_TOLERANCE or scores.max() > 1 + _TOLERANCE):
        raise ModelError(f"scores are {scores.min():.3g} to {scores.max():.3g}; expected 0 to 1, as after a sigmoid")


def check_list(output: Floats) -> None:
    """Raise ModelError unless an output can be an end-to-end list.

    RT-DETR with two classes has cx cy w h and two scores in the same shape; YOLOv5 with one class has cx cy w h, an
    objectness and a score.

    Args:
        output: (K, 6) float32, of any pictures: x1 y1 x2 y2 in pixels, confidence 0 to 1, class id.
    """
    ids, confidences = output[:, 5], output[:, 4]
    if (np.abs(ids - np.round(ids)) > _TOLERANCE).any():
        raise ModelError(
            "the sixth value of each box is no class id but a score, as RT-DETR and YOLOv5 with one class write; "
            "expected the export of a YOLO detector without objectness (YOLOv5u or later), or a manifest that declares "
            "the `output`"
        )
    if output.size and (confidences.min() < -_TOLERANCE or confidences.max() > 1 + _TOLERANCE):
        raise ModelError(f"confidences are {confidences.min():.3g} to {confidences.max():.3g}; expected 0 to 1")
    boxes = output[confidences > 0, :4]
    _check_pixels(boxes)
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if inverted.mean() > 0.5 if len(boxes) else False:
        raise ModelError("most boxes end before they begin; expected the corners x1 y1 x2 y2, not centre and size")


def _check_pixels(boxes: Floats) -> None:
    if boxes.size >= 4 * _ENOUGH and 0 < boxes.max() <= _SHARES:
        raise ModelError(f"boxes lie within {boxes.max():.3g}; expected pixels of the input, not shares of it")
