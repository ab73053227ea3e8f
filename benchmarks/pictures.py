"""Generated pictures with the detail of photos; the same bytes in every run."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from runner.dataset.check import check_dataset
from runner.dataset.index import Index, PictureRow, format_index
from runner.dataset.layouts import read_layout
from runner.dataset.picture_cache import cache_folder, keep_bytes
from runner.dataset.versions import index_of
from runner.stages.fetch import INDEX
from tests.support.pictures import encoded

CANVASES = 6


def photos(count: int, width: int, height: int, *, seed: int = 0) -> Iterator[bytes]:
    """Yield JPEGs that all differ: crops of a few larger pictures."""
    random = np.random.default_rng(seed)
    canvases = [_canvas(random, width * 5 // 4, height * 5 // 4) for _ in range(CANVASES)]
    for number in range(count):
        canvas = canvases[number % CANVASES]
        left, top = int(random.integers(width // 4)), int(random.integers(height // 4))
        picture = canvas.crop((left, top, left + width, top + height))
        picture.putpixel((number % width, number // width % height), (255, 0, number % 256))
        yield encoded(picture, quality=90, comment=str(number))


def dataset(folder: Path, count: int, width: int, height: int, *, start: int = 0) -> None:
    """Write or extend a dataset in the workshop's layout, with a box in each picture."""
    pictures = enumerate(photos(count, width, height, seed=start), start)
    _write(folder, ((f"{number:06d}.jpg", data) for number, data in pictures))


def tiny(folder: Path, count: int, *, start: int = 0) -> None:
    """Write or extend a dataset of small PNGs that are all different and no near-duplicates, with a box in each."""

    def drawn(number: int) -> bytes:
        blocks = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
        return encoded(Image.fromarray(blocks.repeat(2, 0).repeat(2, 1)), "PNG")

    _write(folder, ((f"{number:06d}.png", drawn(number)) for number in range(start, start + count)))


def _write(folder: Path, pictures: Iterable[tuple[str, bytes]]) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("thing\n")
    for name, data in pictures:
        (folder / "images" / name).write_bytes(data)
        (folder / "labels" / name).with_suffix(".txt").write_text("0 0.5 0.5 0.25 0.25\n")


def alike(project: Path, count: int) -> None:
    """Make what `fetch` leaves in a project, of JPEGs that differ in their comment only, with two boxes in each."""
    image, rows = Image.effect_mandelbrot((32, 24), (-3, -2.5, 2, 2.5), 100), []
    cache_folder(project / ".work").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        out = io.BytesIO()
        image.save(out, "JPEG", comment=str(number))
        digest = hashlib.sha256(out.getvalue()).hexdigest()
        (cache_folder(project / ".work") / digest).write_bytes(out.getvalue())
        x, part = 0.25 + number % 1000 / 2000, ("train", "train", "val", "test")[number % 4]
        boxes = f"0 {x:.6f} 0.500000 0.250000 0.250000\n1 {x:.6f} 0.250000 0.125000 0.250000\n"
        rows.append(PictureRow(digest, f"frame-{number:06d}.jpg", out.tell(), 32, 24, part, boxes))
    (project / "artifacts/raw").mkdir(parents=True)
    (project / "artifacts/raw" / INDEX).write_bytes(format_index(Index(["airplane", "helicopter"], {}, rows)))


def fetched(source: Path, project: Path) -> None:
    """Make what `fetch` leaves in a project of a dataset in a folder: its index, and the pictures in the cache."""
    layout = read_layout(source)
    index, files = index_of(layout, (check := check_dataset(layout, source)).rows, check.files)
    for sha256, file in files.items():
        keep_bytes(file.read_bytes(), project / ".work")
        assert (cache_folder(project / ".work") / sha256).exists()
    for name in ("raw", "config"):
        (project / "artifacts" / name).mkdir(parents=True)
    (project / "artifacts/raw" / INDEX).write_bytes(format_index(index))
    url = "store:datasets/none/000000000000.jsonl"  # nothing is lacking, so nothing is asked for there
    values = {"url": url, "sha256": "0" * 64, "sample": {"pictures": 20, "seed": 0}}
    (project / "artifacts/config/fetch.yaml").write_text(yaml.safe_dump({"dataset": values}))


def _canvas(random: np.random.Generator, width: int, height: int) -> Image.Image:
    layers = np.full((height, width, 3), 120, np.float32)
    for cells, weight in ((6, 60), (24, 30), (120, 16), (400, 7)):
        noise = random.normal(0, weight, (cells * height // width, cells, 3)).astype(np.float32)
        for channel in range(3):
            coarse = Image.fromarray(noise[..., channel])
            layers[..., channel] += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(layers, 0, 255).astype(np.uint8))
