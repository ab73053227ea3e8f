"""Distance of a large JPEG from a PNG of its pixels in confidence, and CPU time of decoding it, for each decoding.

`python -m benchmarks.decoding MODEL.onnx PICTURES.zip` enlarges pictures of a dataset, adds noise, and writes JPEGs.
"""

import argparse
import time
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.rounds import markdown
from serving.vision.detector import Detector
from serving.vision.letterbox import DECODINGS, InputForm
from serving.vision.picture import decode
from tests.support.pictures import encoded

SURE = 0.1  # confidences that count: those of the PNG above this


def large_jpeg(data: bytes, scale: int, noise: float, random: np.random.Generator) -> bytes:
    """Return a picture enlarged, with Gaussian noise of this deviation (levels of 256), as JPEG."""
    image = decode(data).image
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.float32)
    pixels = pixels + random.normal(0, noise, pixels.shape).astype(np.float32)
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), quality=92)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--count", type=int, default=14, help="pictures, in even steps through the zip")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 4, 6])
    options = parser.parse_args(arguments)
    detector = Detector(options.model)
    with zipfile.ZipFile(options.pictures) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        chosen = [file.read(name) for name in names[:: max(1, len(names) // options.count)][: options.count]]
    random = np.random.default_rng(0)
    rows = []
    for scale in options.scales:
        for noise in (0, 2, 6):
            off: dict[str, list[NDArray[np.float32]]] = {name: [] for name in DECODINGS}
            seconds = dict.fromkeys(DECODINGS, 0.0)
            for data in chosen:
                jpeg = large_jpeg(data, scale, noise, random)
                png = decode(jpeg)  # its pixels
                for name in DECODINGS:
                    detector.form = InputForm(detector.form.shape, name)
                    start = time.process_time()
                    picture = detector.decode(jpeg)
                    seconds[name] += time.process_time() - start
                    expected = detector.infer([png])[0].output[4:]
                    found = detector.infer([picture])[0].output[4:]
                    off[name].append(np.abs(found - expected)[expected > SURE])
            for name, each in off.items():
                all_off, ms = np.concatenate(each), seconds[name] / len(chosen) * 1e3
                figures = [f"{all_off.mean():.4f}", f"{np.quantile(all_off, 0.95):.4f}", f"{all_off.max():.3f}"]
                rows.append([f"{scale}x, {noise}", name, *figures, f"{ms:.1f}"])
    head = ["enlarged, noise", "decoding", "confidence off: mean", "95 %", "most", "decoding, CPU-ms"]
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
