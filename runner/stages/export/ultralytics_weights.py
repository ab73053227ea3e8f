"""Weights of Ultralytics (AGPL-3.0): their ONNX, and what the network itself answers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from ultralytics import YOLO

from runner.config.schema import ExportConfig
from runner.errors import StageError


class UltralyticsWeights:
    """A .pt file."""

    def __init__(self, file: Path, work: Path) -> None:
        """Load a copy in the scratch folder, because Ultralytics writes beside it."""
        folder = work / "export"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._file, self._yolo = file, self._open(shutil.copyfile(file, folder / "model.pt"))
        self.classes = list(self._yolo.names.values())
        self.task = str(getattr(self._yolo.model, "task", None) or self._yolo.task)
        self.imgsz = int(self._yolo.overrides.get("imgsz", 640))  # pixels

    def to_onnx(self, imgsz: int, settings: ExportConfig) -> onnx.ModelProto:
        """Return the ONNX of one head, without the date."""
        single = settings.head == "one_to_one"
        if single and getattr(self._yolo.model.model[-1], "one2one_cv2", None) is None:
            raise StageError("export.head is one_to_one, which the model does not have (YOLO26 does); set one_to_many")
        options = {"imgsz": imgsz, "opset": settings.opset, "dynamic": True, "simplify": False, "device": "cpu"}
        # Without `nms` the head would be Ultralytics' default, which changed from 8.4.141 to 8.4.142.
        model = onnx.load(self._yolo.export(format="onnx", nms=False if single else None, **options))
        dated = [entry for entry in model.metadata_props if entry.key == "date"]
        for entry in dated:
            model.metadata_props.remove(entry)
        return model

    def network(self, *, end2end: bool) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Return the network of one head, from inputs to outputs; `to_onnx` may have changed the loaded one."""
        network = self._open(self._file).model.float().eval()
        network.end2end = end2end

        def answer(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                output = network(torch.from_numpy(inputs))
            return np.asarray((output[0] if isinstance(output, (tuple, list)) else output).numpy())

        return answer

    @staticmethod
    def _open(file: Path) -> Any:
        return YOLO(file, task="detect")
