"""Models of other families, exported by LibreYOLO with random weights: `python libreyolo_models.py FOLDER`.

`make libreyolo` runs it in LibreYOLO's own environment, with sockets closed. For each family it writes

    FOLDER/<family>/model.onnx        with three classes, so that shapes collide
    FOLDER/<family>/<picture>.png     wide and tall pictures, larger and smaller than the input
    FOLDER/<family>/<picture>.npz     `inputs` as LibreYOLO prepares them, the network's outputs in the file's order
                                      (`output_0`, …), and the `boxes` (xyxy in pixels), `scores` and `classes` that
                                      LibreYOLO finds above `confidence`
"""

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np

IOU, MOST = 0.6, 300
SIZES = {"wide": (900, 500), "tall": (150, 230), "odd": (701, 333)}


def _closed(*_: Any, **__: Any) -> Any:
    raise OSError("no network: weights are random")


def main(folder: Path) -> None:
    """Write the models."""
    socket.socket.connect = socket.create_connection = socket.getaddrinfo = _closed  # type: ignore[method-assign]
    import torch

    torch.set_num_threads(1)
    for family in ("yolox", "dfine", "rfdetr"):
        torch.manual_seed(7)
        _write(family, folder / family)


def _write(family: str, folder: Path) -> None:
    import torch
    from libreyolo.models.dfine.model import LibreDFINE
    from libreyolo.models.rfdetr.model import LibreRFDETR
    from libreyolo.models.yolox.model import LibreYOLOX
    from PIL import Image

    kinds: dict[str, Any] = {
        "yolox": (LibreYOLOX, None),
        "dfine": (LibreDFINE, None),
        "rfdetr": (LibreRFDETR, {}),
    }  # {}: no download
    kind, weights = kinds[family]
    model: Any = kind(weights, size="n", nb_classes=3, device="cpu")
    network = model.model.eval()
    prepare = kind._get_preprocess_numpy()
    pictures = {name: _picture(*size, number) for number, (name, size) in enumerate(SIZES.items())}
    prepared = {name: prepare(pixels, model.input_size) for name, pixels in pictures.items()}
    _vary(network, torch.from_numpy(np.stack([inputs for inputs, _ in prepared.values()]).astype(np.float32)))
    folder.mkdir(parents=True, exist_ok=True)
    model.export("onnx", output_path=str(folder / "model.onnx"), simplify=False)
    for name, (inputs, ratio) in prepared.items():
        width, height = SIZES[name]
        Image.fromarray(pictures[name]).save(folder / f"{name}.png")
        batch = torch.from_numpy(np.ascontiguousarray(inputs[None], np.float32))
        with torch.inference_mode():
            raw = network(batch)
            outputs = [output.numpy() for output in _outputs(family, raw)]
            confidence = _confidence(family, outputs)
            found = model._postprocess(raw, confidence, IOU, (width, height), MOST, ratio=ratio)
        arrays: dict[str, Any] = {"inputs": batch.numpy(), "confidence": np.float32(confidence)}
        arrays |= {f"output_{place}": output for place, output in enumerate(outputs)}
        arrays |= {key: np.asarray(found[key], np.float32) for key in ("boxes", "scores", "classes")}
        with (folder / f"{name}.npz").open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        print(family, name, [output.shape for output in outputs], len(found["boxes"]), "boxes above", confidence)


def _vary(network: Any, pictures: Any) -> None:
    """Give a fresh network weights that tell places and classes apart; as it comes, all its scores are nearly equal."""
    import torch

    of_boxes = ("bbox", "reg_pred", "lqe", "sampling_offsets", "attention_weights", "pos")
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1 and not any(part in name for part in of_boxes):
                weight.copy_(torch.randn_like(weight) * weight[0].numel() ** -0.5)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        network(pictures)
    network.eval()


def _outputs(family: str, raw: Any) -> list[Any]:
    """Return the network's outputs in the order of the exported file's."""
    if family == "yolox":
        from libreyolo.postprocess.yolox import decode_outputs

        return [decode_outputs([each.clone() for each in raw])]
    order = ("pred_boxes", "pred_logits") if family == "rfdetr" else ("pred_logits", "pred_boxes")
    return [raw[key] for key in order]


def _confidence(family: str, outputs: list[Any]) -> float:
    """Return a threshold in the widest gap between the confidences of the 100th to the 200th candidate."""
    if family == "yolox":
        scores = (outputs[0][0, :, 4:5] * outputs[0][0, :, 5:]).max(axis=1)
    else:
        scores = 1 / (1 + np.exp(-outputs[1 if family == "rfdetr" else 0].ravel()))
    best = np.sort(scores)[::-1][100:200]
    place = int(np.argmax(best[:-1] - best[1:]))
    return float(best[place] + best[place + 1]) / 2


def _picture(width: int, height: int, seed: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Return (height, width, 3) RGB: soft noise, each channel of another level, so that a wrong order shows."""
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 256, (height // 3, width // 3, 3), np.uint8)
    soft = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return (soft * (1.0, 0.8, 0.5) + (0, 30, 10)).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
