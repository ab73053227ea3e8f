"""Prepared pictures: each decoded once, brought to one form, and kept in `.work/`.

A prepared picture follows from the bytes of its source, a few settings and the code that makes it, so it is kept under
the digest of these: after a kill, or when pictures were added, only what is new is decoded again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import PIL
from PIL import Image
from tqdm import tqdm

import serving.vision.picture
from runner.config.schema import Prepare
from runner.stages.parallel import parallel
from runner.workspace import writing
from serving.vision.picture import PictureError, decode

LOSSLESS = ("PNG", "GIF", "BMP", "TIFF")  # written anew as PNG; the others as JPEG
SMALLEST_PX = 10  # Ultralytics leaves out what is smaller on a side: ultralytics/data/utils.py, verify_image
KEPT_DAYS = 14  # pictures of settings that nobody came back to


class Prepared(NamedTuple):
    """What is known of a picture that can be used.

    Attributes:
        width: pixels of the source as a person sees it (turned upright).
        height: the same, downwards.
        turn: the source's EXIF orientation, 1 to 8.
        suffix: .jpg or .png, as the prepared picture is encoded.
        stored: the prepared picture, relative to the folder of such; None when the source serves as it is.
        size: bytes of the prepared picture.
    """

    width: int
    height: int
    turn: int
    suffix: str
    stored: str | None
    size: int


def prepare_pictures(digests: Mapping[Path, str], settings: Prepare, folder: Path) -> dict[Path, Prepared | str]:
    """Return what is known of each picture, or why it cannot be used; decode only those never seen with these settings.

    Args:
        digests: the sha256 of each picture's bytes.
        settings: size, quality and limit.
        folder: where prepared pictures outlive a kill.
    """
    recipe = _recipe(settings)
    (folder / recipe).mkdir(parents=True, exist_ok=True)
    _forget_old(folder, keep=folder / recipe)
    journal = folder / recipe / "known.jsonl"
    known: dict[str, Prepared | str] = {
        sha256: prepared
        for sha256, prepared in _read(journal)
        if prepared.stored is None or _is_whole(folder / prepared.stored, prepared.size)
    }
    new = sorted({sha256: path for path, sha256 in digests.items() if sha256 not in known}.items())
    task = partial(prepare_picture, settings=settings, folder=folder, recipe=recipe)
    done = tqdm(parallel(task, new), total=len(new), desc="preparing", disable=None)
    with journal.open("a", encoding="utf-8") as file:
        for (sha256, _), prepared in zip(new, done, strict=True):
            known[sha256] = prepared
            if isinstance(prepared, Prepared):
                file.write(f"\n{json.dumps([sha256, *prepared])}")  # first the line end: the line before may be torn
                file.flush()
    return {path: known[sha256] for path, sha256 in digests.items()}


def prepare_picture(source: tuple[str, Path], *, settings: Prepare, folder: Path, recipe: str) -> Prepared | str:
    """Decode one picture and write it anew below `folder`, unless it serves as it is; or say why it cannot be used.

    Args:
        source: the sha256 of its bytes, and its file.
        settings: size, quality and limit.
        folder: where prepared pictures outlive a kill.
        recipe: the folder below, which names all else that decides the result.
    """
    sha256, path = source
    data = path.read_bytes()
    try:
        picture = decode(data, fit_width=settings.max_width, max_pixels=settings.max_pixels)
    except PictureError as error:
        return str(error)
    size = (picture.width, picture.height)
    if settings.max_width is not None and picture.width > settings.max_width:
        size = (settings.max_width, max(1, round(picture.height * settings.max_width / picture.width)))
    if min(size) < SMALLEST_PX:
        shrunk = f", {size[0]}x{size[1]} after shrinking" if size[0] < picture.width else ""
        return (
            f"{picture.width}x{picture.height} pixels{shrunk}; expected at least {SMALLEST_PX} each way, "
            "or training leaves it out"
        )
    if picture.plain and size[0] == picture.width:
        suffix = ".jpg" if picture.format == "JPEG" else ".png"
        return Prepared(picture.width, picture.height, picture.turn, suffix, None, len(data))
    image = picture.image if picture.image.size == size else picture.image.resize(size, Image.Resampling.BOX)
    suffix = ".png" if picture.format in LOSSLESS else ".jpg"
    stored = f"{recipe}/{sha256}{suffix}"
    with writing(folder / stored, durable=False) as temporary:  # its size is noted, which a power cut would not keep
        if suffix == ".png":
            image.save(temporary, "PNG", compress_level=1)
        else:
            image.save(temporary, "JPEG", quality=settings.jpeg_quality)
        written = temporary.stat().st_size
    return Prepared(picture.width, picture.height, picture.turn, suffix, stored, written)


def _recipe(settings: Prepare) -> str:
    """Return what names all that decides a prepared picture but its source: settings, Pillow, and the code itself."""
    deciding = settings.model_dump(include={"max_width", "jpeg_quality", "max_pixels"})
    code = [Path(file).read_text(encoding="utf-8") for file in (__file__, serving.vision.picture.__file__)]
    return hashlib.sha256(json.dumps([deciding, PIL.__version__, code]).encode()).hexdigest()[:16]


def _read(journal: Path) -> Iterator[tuple[str, Prepared]]:
    """Yield what was prepared before; a line that a kill tore is passed over."""
    if not journal.exists():
        return
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            sha256, *values = json.loads(line)
            yield sha256, Prepared(*values)
        except (ValueError, TypeError):
            continue


def _is_whole(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _forget_old(folder: Path, keep: Path) -> None:
    os.utime(keep)
    for other in folder.iterdir():
        if other != keep and other.is_dir() and time.time() - other.stat().st_mtime > KEPT_DAYS * 86400:
            shutil.rmtree(other, ignore_errors=True)
