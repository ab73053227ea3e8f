"""Weights of LibreYOLO's YOLOX (MIT): their ONNX in the form of our other models, and what the network itself answers.

YOLOX takes pixels of 0 to 255, blue first, and answers (N, A, 5 + classes) with an objectness. In this form all that
follows takes it as it takes the others: pixels of 0 to 1, red first; (N, 4 + classes, A), cx cy w h in pixels, and for
each class the objectness times its score.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from libreyolo.models.yolox.nn import LibreYOLOXModel
from numpy.typing import NDArray

from runner.config.schema import ExportConfig
from runner.errors import StageError

STRIDE = 32  # pixels


class _Network(torch.nn.Module):
    """YOLOX in that form."""

    def __init__(self, yolox: torch.nn.Module) -> None:
        super().__init__()
        self.yolox = yolox

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        found = self.yolox(pictures.flip(1) * 255)
        return torch.cat([found[..., :4], found[..., 4:5] * found[..., 5:]], 2).transpose(1, 2)


class LibreYoloWeights:
    """A .pt file, as the stage `train` writes it."""

    def __init__(self, file: Path, work: Path) -> None:
        """Load it; nothing but tensors and plain values is unpickled."""
        saved = torch.load(file, map_location="cpu", weights_only=True)
        self.classes = list(saved["names"].values())
        self._size, self._work = saved["size"], work
        yolox = LibreYOLOXModel(config=saved["size"], nb_classes=saved["nc"])
        yolox.load_state_dict(saved["model"])
        yolox.head.export = True
        self._network = _Network(yolox).eval()

    def to_onnx(self, imgsz: int, settings: ExportConfig) -> onnx.ModelProto:
        """Return the ONNX, with the metadata that the server reads."""
        if settings.head == "one_to_one":
            raise StageError("export.head is one_to_one, which YOLOX does not have; set one_to_many")
        file = self._work / "export" / "model.onnx"
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(
            self._network,
            (torch.zeros(1, 3, imgsz, imgsz),),
            file,
            input_names=["images"],
            output_names=["output0"],
            opset_version=settings.opset,
            dynamic_axes={"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 2: "anchors"}},
            dynamo=False,
        )
        model = onnx.load(file)
        metadata = {
            "description": f"YOLOX-{self._size}, trained with LibreYOLO",
            "task": "detect",
            "names": str(dict(enumerate(self.classes))),
            "imgsz": str([imgsz, imgsz]),
            "stride": str(STRIDE),
        }
        onnx.helper.set_model_props(model, metadata)
        return model

    def network(self, *, end2end: bool) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Return the network, from inputs to outputs; YOLOX has no head that is `end2end`."""

        def answer(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                return np.asarray(self._network(torch.from_numpy(inputs)).numpy())

        return answer
