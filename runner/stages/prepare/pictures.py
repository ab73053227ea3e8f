"""Pictures as training sees them: decoded once, those that are not plain encoded anew, and what is known of each kept.

What is known of a picture depends only on its bytes, a few settings and this code, and is kept in
`.work/prepare/<digest of these>/known.jsonl`: after a kill, or when pictures are added, only new ones are decoded. An
encoded picture lies in the cache of pictures under its own digest; a missing one is made of its source again.
"""

import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import PIL
from PIL import Image
from tqdm import tqdm

import serving.vision.headers
import serving.vision.picture
import serving.vision.similarity
import serving.vision.tiff
from runner.config.schema import PrepareConfig
from runner.dataset.picture_cache import keep_bytes
from runner.stages.parallel import parallel
from runner.workspace import remove_stale
from serving.vision.picture import Picture, PictureError, decode
from serving.vision.similarity import look_of

LOSSLESS = ("PNG", "GIF", "BMP", "TIFF")  # re-encoded as PNG; the others as JPEG
_DECIDING = (serving.vision.headers, serving.vision.picture, serving.vision.similarity, serving.vision.tiff)
_CODE = (__file__, *(str(module.__file__) for module in _DECIDING))
DEEP = ("PNG", "TIFF", "JPEG2000")  # may have 16-bit values
DARK = 64  # of 255; the largest value of 14 bits in 16 is 63
SMALLEST_PX = 10  # Ultralytics drops pictures with a smaller side: ultralytics/data/utils.py, verify_image
Bring = Callable[[Mapping[str, int]], Path]  # digest → bytes of pictures → the folder that has each under its digest


class Prepared(NamedTuple):
    """Properties of a usable picture."""

    width: int  # pixels of the upright source
    height: int  # pixels of the upright source
    suffix: str  # .jpg or .png, the encoding of the prepared picture
    encoded: list[str | int] | None  # its digest and bytes; None when the source is used unchanged
    look: str  # of `look_of`, by which `split` finds near-duplicates
    note: str = ""  # a doubt about it


def prepare_pictures(
    sizes: Mapping[str, int], settings: PrepareConfig, work: Path, bring: Bring
) -> dict[str, Prepared | str]:
    """Return by digest the properties of each picture, or why it cannot be used; only new ones are decoded.

    `sizes` are digest → bytes of the pictures.
    """
    folder = work / "prepare" / _recipe(settings)
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
    journal = folder / "known.jsonl"
    known: dict[str, Prepared | str] = {sha256: prepared for sha256, prepared in _read(journal) if sha256 in sizes}
    with journal.open("a", encoding="utf-8") as file:
        for sha256, prepared in encode_pictures(
            {each: sizes[each] for each in sizes if each not in known}, settings, work, bring
        ):
            known[sha256] = prepared
            if isinstance(prepared, Prepared):
                # Begins with the line end: a kill may have truncated the line before.
                file.write(f"\n{json.dumps([sha256, *prepared])}")
                file.flush()
    return known


def encode_pictures(
    sizes: Mapping[str, int], settings: PrepareConfig, work: Path, bring: Bring
) -> Iterator[tuple[str, Prepared | str]]:
    """Decode pictures, digest → bytes; yield the digest of each with its properties, or why it cannot be used.

    Those that are not plain are encoded anew into the cache.
    """
    if not sizes:
        return
    sources = bring(sizes).resolve()  # absolute: workers may have another working directory
    task = partial(prepare_picture, settings=settings, sources=sources, work=work.resolve())
    new = sorted(sizes)
    with _libtiff_silenced() as terminal:
        done = tqdm(parallel(task, new), total=len(new), desc="preparing", disable=None, file=terminal)
        yield from zip(new, done, strict=True)


def prepare_picture(sha256: str, *, settings: PrepareConfig, sources: Path, work: Path) -> Prepared | str:
    """Decode the picture `sources`/`sha256`, encode it anew if needed; or return why it cannot be used."""
    data = (sources / sha256).read_bytes()
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
    look, note = look_of(picture.image), _doubt(picture)
    if picture.plain and size[0] == picture.width:
        suffix = ".jpg" if picture.format == "JPEG" else ".png"
        return Prepared(picture.width, picture.height, suffix, None, look, note)
    image = picture.image if picture.image.size == size else picture.image.resize(size, Image.Resampling.BOX)
    suffix = ".png" if picture.format in LOSSLESS else ".jpg"
    content = io.BytesIO()
    if suffix == ".png":
        image.save(content, "PNG", compress_level=1)
    else:
        image.save(content, "JPEG", quality=settings.jpeg_quality)
    encoded = keep_bytes(content.getvalue(), work)
    return Prepared(picture.width, picture.height, suffix, [encoded, content.tell()], look, note)


def _doubt(picture: Picture) -> str:
    """Return that a picture of a format with 16-bit values is nearly black; empty: it is not."""
    brightest = int(np.asarray(picture.image).max()) if picture.format in DEEP else 255
    if brightest >= DARK:
        return ""
    return (
        f"nearly black, since no value is above {brightest} of 255; where the file has 12 or 14 bits in 16, scale them "
        "to 0-65535, or write the largest possible value as MaxSampleValue (TIFF tag 281)"
    )


@contextmanager
def _libtiff_silenced() -> Iterator[TextIO]:
    """Give standard error as a file, while its descriptor leads nowhere: libtiff writes there, past Python."""
    sys.stderr.flush()
    with os.fdopen(os.dup(2), "w") as terminal, Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield terminal
        finally:
            os.dup2(terminal.fileno(), 2)


def _recipe(settings: PrepareConfig) -> str:
    """Return a digest of all inputs of a prepared picture but its source: settings, Pillow, and this code."""
    deciding = settings.model_dump(include={"max_width", "jpeg_quality", "max_pixels"})
    code = [Path(file).read_text(encoding="utf-8") for file in _CODE]
    return hashlib.sha256(json.dumps([deciding, PIL.__version__, code]).encode()).hexdigest()[:16]


def _read(journal: Path) -> Iterator[tuple[str, Prepared]]:
    """Yield the journal's entries; a line truncated by a kill is skipped."""
    if not journal.exists():
        return
    with journal.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                sha256, *values = json.loads(line)
                yield sha256, Prepared(*values)
            except (ValueError, TypeError):
                continue
