"""Redaction of captures: what must not be stored is taken out of a picture before anything is written."""

import importlib
import io
from collections.abc import Callable

from PIL import Image, ImageStat

Redaction = Callable[[Image.Image], Image.Image]
_JPEG_QUALITY = 95


class RedactionError(Exception):
    """A picture could not be redacted, so it must not be stored."""


def parse_redaction(text: str | Redaction | None) -> Redaction | None:
    """Return what CAPTURE_REDACT says: `x1 y1 x2 y2, …` in parts of the upright picture, or `module:function`.

    ValueError: neither, or the function cannot be imported.
    """
    if text is None or callable(text):
        return text
    if not text.strip():
        return None
    if ":" in text:
        module, _, name = text.strip().partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{text}: cannot be imported: {error}") from error
        if not callable(found):
            raise ValueError(f"{text}: is no function")
        return found  # type: ignore[no-any-return]
    boxes = [_box(part) for part in text.split(",")]
    return lambda image: cover(image, boxes)


def cover(image: Image.Image, boxes: list[tuple[float, ...]]) -> Image.Image:
    """Return a picture with each box filled with its mean colour; boxes are x1 y1 x2 y2 in parts of the picture."""
    covered = image.copy()
    for x1, y1, x2, y2 in boxes:
        area = (
            *(int(x1 * image.width), int(y1 * image.height)),
            *(-int(-x2 * image.width // 1), -int(-y2 * image.height // 1)),
        )
        mean = ImageStat.Stat(image.crop(area)).mean
        covered.paste(tuple(round(value) for value in mean), area)
    return covered


def redacted(jpeg: bytes, redact: Redaction) -> bytes:
    """Return an upright JPEG that this server encoded, redacted; RedactionError: the function failed.

    Args:
        redact: of an RGB picture, to an RGB picture of the same size.
    """
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    try:
        done = redact(image)
        if done.size != image.size:
            raise ValueError(f"the picture has {done.size[0]}x{done.size[1]} pixels, expected those of the original")
        out = io.BytesIO()
        done.convert("RGB").save(out, "JPEG", quality=_JPEG_QUALITY)
    except (Exception, SystemExit) as error:  # somebody else's code
        raise RedactionError(f"{type(error).__name__}: {error}") from error
    return out.getvalue()


def _box(text: str) -> tuple[float, ...]:
    try:
        x1, y1, x2, y2 = (float(number) for number in text.split())
    except ValueError:
        x1 = y1 = x2 = y2 = -1.0
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise ValueError(f"{text.strip()!r}: expected x1 y1 x2 y2 from 0 to 1, such as 0 0 1 0.08, or module:function")
    return x1, y1, x2, y2
