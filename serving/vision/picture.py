"""Decoding of pictures for prepare, evaluate and the server alike.

The content decides, not the name. Every picture becomes 8-bit RGB, upright, its first frame only:

- Alpha is dropped and the colours under transparent pixels are kept, as in OpenCV, which Ultralytics uses.
- 16-bit values are divided by 256 (12-bit ones by 16), never clipped. Where a grey TIFF names a smaller white
  than 65535, as MaxSampleValue (tag 281), that one's bits count. Deeper values have no agreed white and are refused.
- Colour profiles are ignored, as in training.
"""

import importlib
import io
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin

from serving.vision.headers import (
    MAX_PIXELS,
    Header,
    Limits,
    PictureError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
    inspect,
)

__all__ = ["MAX_PIXELS", "Picture", "PictureError", "TooLargeError", "UnreadableError", "UnsupportedError", "decode"]
_KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF")
EXPECTED = "expected JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000 or AVIF"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_MAX_SAMPLE_TAG = 281
# EXIF orientation → transposition that turns the stored picture upright (EXIF 2.32, 4.6.4 A).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Blocks of at most 16 MB that Pillow keeps for the next picture: allocating anew costs up to a fifth of the time.
# https://pillow.readthedocs.io/en/stable/reference/block_allocator.html
Image.core.set_blocks_max(8)  # type: ignore[attr-defined]
warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd metadata; errors are what counts here
with suppress(ImportError):  # the extra `heic`
    importlib.import_module("pillow_heif").register_heif_opener()  # opens as "HEIF", upright
for _plugin in ("Avif", "Bmp", "Gif", "Jpeg2K", "Jpeg", "Png", "Tiff", "WebP"):
    importlib.import_module(f"PIL.{_plugin}ImagePlugin")  # registers itself in Image.OPEN


@dataclass(frozen=True)
class Picture:
    """A decoded picture."""

    image: Image.Image  # 8-bit RGB, upright; smaller than width x height where `fit` allowed a reduced decode
    width: int  # pixels of the full upright picture
    height: int
    format: str  # of the bytes: JPEG, MPO, PNG, WEBP, GIF, BMP, TIFF, JPEG2000 or AVIF
    turn: int  # the EXIF orientation that was undone, 1 (none) to 8
    plain: bool  # an intact JPEG or PNG with one upright frame of 8-bit RGB, in which any reader sees the same pixels


def decode(
    data: bytes,
    *,
    fit: int | None = None,
    fit_width: int | None = None,
    spare: float = 1.0,
    max_pixels: int = MAX_PIXELS,
    checked: bool = False,
) -> Picture:
    """Decode a picture to upright 8-bit RGB, or raise PictureError; thread-safe.

    Args:
        data: the whole file.
        fit: pixels. A JPEG may be decoded at 1/2, 1/4 or 1/8 with a long side of at least `fit`.
        fit_width: pixels. The same for the width of the upright picture.
        spare: 1 or more: a result larger than the fit has at least `spare` times its pixels.
        max_pixels: refuse larger pictures from their header, before allocating memory.
        checked: `header_of` found nothing wrong with it, so its structure is not checked again.
    """
    kind, factory = _kind_of(data)
    if not checked:
        inspect(kind, data, Limits(pixels=max_pixels))
    try:
        image = factory(io.BytesIO(data), "")
        if image.width * image.height > max_pixels:
            raise TooLargeError(f"{image.width}x{image.height} pixels; expected at most {max_pixels:,} in all")
        return _upright_rgb(image, data, fit, fit_width, spare)
    except PictureError:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise TooLargeError(f"{kind} picture needs more memory than there is; expected a smaller one") from error
    except Exception as error:  # errors of Pillow's decoders on damaged bytes have no common base
        said = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise UnreadableError(
            f"damaged or truncated {kind} picture ({said}); expected one that opens in a picture viewer"
        ) from error


def header_of(data: bytes, limits: Limits) -> Header:
    """Return what the headers of a picture say, or raise PictureError: no picture, damaged, or beyond the limits."""
    return inspect(_kind_of(data)[0], data, limits)


def _kind_of(data: bytes) -> tuple[str, Callable[[IO[bytes], str], ImageFile.ImageFile]]:
    """Return name and opener of the format of the first bytes.

    The openers are called directly, because `Image.open` warns or refuses at a process-wide pixel limit.
    """
    if data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in _HEIC_BRANDS):
        if "HEIF" not in Image.OPEN:
            raise UnsupportedError(f"HEIC pictures need the package pillow-heif, which is not installed; {EXPECTED}")
        return "HEIC", Image.OPEN["HEIF"][0]
    for kind in _KINDS:
        factory, accept = Image.OPEN[kind]
        if accept is not None and accept(data[:16]) is True:
            return kind, factory
    raise UnsupportedError(f"{'not a picture of a known kind' if data else 'empty file'}; {EXPECTED}")


def _upright_rgb(
    image: ImageFile.ImageFile, data: bytes, fit: int | None, fit_width: int | None, spare: float
) -> Picture:
    width, height = image.size
    kind = image.format or ""
    raw_mode = _raw_mode(image)
    if isinstance(image, JpegImagePlugin.JpegImageFile) and (enough := fit_width or fit):
        seen_width = height if orientation_of(image) >= 5 else width
        side = seen_width if fit_width else max(width, height)
        reduced = {scale: -(-side // scale) for scale in (1, 2, 4, 8)}
        scale = max((s for s, pixels in reduced.items() if pixels == enough or pixels >= spare * enough), default=1)
        image.draft(None, (max(1, width // scale), max(1, height // scale)))
    # Pillow turns a TIFF while loading; its size is of the turned picture.
    stored = orientation_of(image) if kind == "TIFF" else 1
    image.load()
    left = orientation_of(image)
    turn = max(stored, left)
    plain = turn == 1 and raw_mode == "RGB" and "transparency" not in image.info and _single(image, data)
    rgb = _to_rgb(image, raw_mode)
    if rgb is image:
        rgb = Image.Image()._new(image.im)  # the same pixels without the decoder, which may hold more memory than they
    if left in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[left])
    if left >= 5:
        width, height = height, width
    return Picture(rgb, width, height, kind, turn, plain)


def _to_rgb(image: Image.Image, raw_mode: str) -> Image.Image:
    image.info.pop("transparency", None)  # otherwise Pillow warns about it, or recolours
    if image.mode.startswith("I;16"):
        bits = 12 if raw_mode == "I;12" else _bits_of_white(image)
        image = Image.fromarray((np.asarray(image) >> (bits - 8)).clip(max=255).astype(np.uint8))
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    if image.mode in ("I", "F", "LAB"):
        raise UnsupportedError(
            f"pixels of kind {raw_mode or image.mode} (32-bit, signed or Lab); expected 8- or 16-bit grey or colour"
        )
    return image if image.mode == "RGB" else image.convert("RGB")


def _bits_of_white(image: Image.Image) -> int:
    """Return how many bits of 16 the values of a picture use, 8 to 16; those that it does not name are 16."""
    white = getattr(image, "tag_v2", {}).get(_MAX_SAMPLE_TAG, 0)
    white = white[0] if isinstance(white, tuple) else white
    return max(8, white.bit_length()) if isinstance(white, int) and 0 < white < 1 << 16 else 16


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where EXIF is missing or damaged, as viewers do."""
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - Pillow's errors on damaged EXIF have no common base
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Return the pixel format of the file in Pillow's terms: "RGB", "RGB;16B", "I;12", "P;4"; "" where unknown."""
    arguments = image.tile[0].args if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _single(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether the file is one frame of JPEG or PNG; Ultralytics rewrites a JPEG with data after its end."""
    if image.format == "JPEG":
        return data.endswith(b"\xff\xd9")
    return image.format == "PNG" and getattr(image, "n_frames", 1) == 1
