"""Detections drawn onto a picture, readable at any size."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from serving.vision.marks import Mark, draw_marks, short

if TYPE_CHECKING:  # a decoder process draws too, and has no use for pydantic
    from serving.storage.detections import Detection


_JPEG_QUALITY = 90
# Okabe and Ito's palette for any colour vision, without black.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def annotate(image: Image.Image, detections: "Sequence[Detection]") -> Image.Image:
    """Return a copy of a picture with each detection's box, class and confidence, as `draw_marks` gives it."""
    return draw_marks(image, marks_of(detections))


def marks_of(detections: "Sequence[Detection]") -> list[Mark]:
    """Return what is to be drawn for each detection."""
    return [
        Mark(
            (each.box.x1, each.box.y1, each.box.x2, each.box.y2),
            f"{short(each.label)}{_number_of(each)} {each.confidence:.2f}",
            _COLOURS[each.class_id % len(_COLOURS)],
        )
        for each in detections
    ]


def _number_of(detection: "Detection") -> str:
    track = getattr(detection, "track", None)  # in a video
    return "" if track is None else f" #{track}"


def encode(image: Image.Image, kind: str, quality: int = _JPEG_QUALITY) -> bytes:
    """Encode a picture; `kind` is "image/jpeg" or "image/png", `quality` 1 to 95, of a JPEG."""
    out = io.BytesIO()
    options = {"compress_level": 3} if kind == "image/png" else {"quality": quality}
    image.save(out, kind.removeprefix("image/"), **options)
    return out.getvalue()
