"""Outputs of models that are no YOLO detector but have the shape of one, told by what is in them."""

import numpy as np
from numpy.typing import NDArray

from serving.vision.metadata import ModelError

_SHARES = 1.5  # a detector's boxes in pixels reach beyond it; shares of the picture do not
_ENOUGH = 16  # boxes that cannot all be tiny ones in the corner
_TOLERANCE = 1e-3


def check_grid(output: NDArray[np.float32]) -> None:
    """Raise ModelError unless an output can be a grid.

    Args:
        output: (4 + classes, A) float32, of an empty picture: cx cy w h in pixels, then a score per class, 0 to 1.
    """
    boxes, scores = output[:4], output[4:]
    _check_pixels(boxes)
    if scores.size and (scores.min() < -_TOLERANCE or scores.max() > 1 + _TOLERANCE):
        raise ModelError(f"scores are {scores.min():.3g} to {scores.max():.3g}; expected 0 to 1, as after a sigmoid")


def check_list(output: NDArray[np.float32]) -> None:
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
            "expected the export of a YOLO detector without objectness (YOLOv5u or later)"
        )
    if output.size and (confidences.min() < -_TOLERANCE or confidences.max() > 1 + _TOLERANCE):
        raise ModelError(f"confidences are {confidences.min():.3g} to {confidences.max():.3g}; expected 0 to 1")
    boxes = output[confidences > 0, :4]
    _check_pixels(boxes)
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if inverted.mean() > 0.5 if len(boxes) else False:
        raise ModelError("most boxes end before they begin; expected the corners x1 y1 x2 y2, not centre and size")


def _check_pixels(boxes: NDArray[np.float32]) -> None:
    if boxes.size >= 4 * _ENOUGH and 0 < boxes.max() <= _SHARES:
        raise ModelError(f"boxes lie within {boxes.max():.3g}; expected pixels of the input, not shares of it")
