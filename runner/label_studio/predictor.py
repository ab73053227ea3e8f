"""Predictions of the deployed model on unlabelled pictures."""

from __future__ import annotations

import os
from pathlib import Path

from runner.errors import LabelStudioError
from runner.label_studio.regions import Box, Scored
from runner.release.pin import read_pin
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import LoadingError, Model, load_model
from serving.vision.detector import Options

ENVIRONMENT = "dev"  # environment of the deployed model


class Predictor:
    """Predicts boxes as the model server would."""

    def __init__(self, model: Model) -> None:
        """Wrap a loaded model."""
        self._model = model
        self.name = f"{model.name.name} {model.name.version or model.name.sha256[:12]}"

    def boxes(self, data: bytes) -> list[Scored]:
        """Return the boxes on a picture as a person sees it, with their confidences, highest first."""
        found = self._model.detector.detect(data, Options(confidence=self._model.thresholds))
        size = (found.width, found.height)
        return [
            (_box(self._model.detector.classes[number], corners, size), round(confidence, 4))
            for corners, confidence, number in zip(
                found.boxes_xyxy_px.tolist(), found.confidences.tolist(), found.class_ids.tolist(), strict=True
            )
        ]


def deployed(project: Path) -> Predictor:
    """Return the model of MODEL_URI, else of dev's pin; LabelStudioError when there is none, or it cannot be loaded."""
    uri, sha256 = os.environ.get("MODEL_URI"), os.environ.get("MODEL_SHA256")
    if not uri:
        pin = read_pin(project, ENVIRONMENT)
        if pin is None:
            raise LabelStudioError(
                f"--predict: {ENVIRONMENT} has no model yet; leave --predict away until one passed the gate, or set "
                "MODEL_URI to a manifest.json or an .onnx"
            )
        uri, sha256 = pin.uri, pin.sha256
    if not uri.startswith("s3://"):
        uri = str(project / uri)
    endpoint, version = endpoint_of_environment(), os.environ.get("MODEL_VERSION") or None
    try:
        return Predictor(load_model(uri, endpoint, sha256=sha256 or None, version=version))
    except LoadingError as error:
        raise LabelStudioError(f"--predict: {error}") from error


def _box(label: str, corners: list[float], size_px: tuple[int, int]) -> Box:
    (x1, y1, x2, y2), (width, height) = corners, size_px
    return Box(label, ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height))
