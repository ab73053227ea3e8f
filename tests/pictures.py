"""Pictures for tests, and a shelf of prepared ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runner.config import Prepare
from runner.files import sha256_of
from runner.pictures import Prepared, prepare_pictures

SETTINGS = Prepare(
    max_width=None,
    jpeg_quality=95,
    max_pixels=2_000_000,
    exif_boxes="stored",
    max_rejected=0.05,
    min_pictures=1,
    min_per_class=0,
)


def settings(**changes: Any) -> Prepare:
    return Prepare.model_validate(SETTINGS.model_dump() | changes)


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([columns * 255 // width, rows * 255 // height, (columns + rows) % 256], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned(orientation: int) -> bytes:
    """A picture 40 wide and 30 high as a person sees it, stored as a camera held otherwise stores it."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = gradient() if orientation == 1 else gradient().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, quality=95, subsampling=0, exif=exif)


class Shelf:
    """A folder of pictures, and what is kept of them."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "ein Ordner für Bilder"
        self.kept = folder / "work" / "prepare"
        self.source.mkdir()

    def put(self, name: str, data: bytes) -> Path:
        (self.source / name).write_bytes(data)
        return self.source / name

    def prepare(self, rules: Prepare = SETTINGS) -> dict[str, Prepared | str]:
        digests = {path: sha256_of(path) for path in sorted(self.source.iterdir())}
        return {path.name: prepared for path, prepared in prepare_pictures(digests, rules, self.kept).items()}

    def one(self, data: bytes, name: str = "a.jpg", rules: Prepare = SETTINGS) -> Prepared:
        self.put(name, data)
        prepared = self.prepare(rules)[name]
        assert isinstance(prepared, Prepared), prepared
        return prepared

    def refused(self, data: bytes, rules: Prepare = SETTINGS) -> str:
        self.put("a.jpg", data)
        reason = self.prepare(rules)["a.jpg"]
        assert isinstance(reason, str)
        return reason

    def image(self, prepared: Prepared) -> Image.Image:
        assert prepared.stored is not None
        return Image.open(self.kept / prepared.stored)
