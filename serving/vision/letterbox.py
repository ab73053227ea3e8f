"""Letterbox: scale and pad a picture into a model's input, and map boxes back, as Ultralytics' LetterBox does."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.vision.picture import Picture

PADDING = 114
SHAPES = ("hug", "margin", "square")
DECODINGS = ("averaged", "full", "reduced")
_MARGIN = 0.5  # strides, as `pad` of Ultralytics' val


@dataclass(frozen=True)
class InputForm:
    """Way from a picture to the model's input; part of the model, so that it is served as it was measured."""

    # hug: the next multiples of the stride that hold the scaled picture; margin: those that hold half a stride more on
    # either axis, as in Ultralytics' val; square: the whole input. A model of fixed height or width is always square.
    shape: str
    # averaged: large pictures of every format are halved by the mean of 2x2 pixels until fewer than two pixels remain
    # for one of the input; a JPEG is partly halved while it is decoded, which is nearly the same and cheaper.
    # full: each pixel of the input is interpolated between four pixels, and the others are skipped, as Ultralytics
    # trains and validates. reduced: a JPEG alone is halved, so that its confidences are off by 0.01 to 0.04 from those
    # of a PNG; as models were measured before manifests named a form.
    decoding: str

    def decode_options(self, input_hw: tuple[int, int]) -> dict[str, Any]:
        """Return `fit` and `spare` of `serving.vision.picture.decode`, for a model's height and width in pixels."""
        if self.decoding == "reduced":
            return {"fit": max(input_hw), "spare": 2.0}
        return {"fit": 2 * max(input_hw)} if self.decoding == "averaged" else {}


DEFAULT_FORM = InputForm("margin", "averaged")  # of a model that names none: another program's export
FORMER_FORM = InputForm("hug", "reduced")  # of models that were published before manifests named a form


@dataclass(frozen=True)
class Letterbox:
    """Position of a picture in the model's input, in pixels: scaled evenly, centred, the rest padded."""

    width: int  # of the full picture
    height: int
    input_width: int
    input_height: int
    inner_width: int  # of the input, covered by the picture; at least 1
    inner_height: int
    left: int  # of the input, beside and above the picture
    top: int


def letterbox(
    width: int, height: int, input_hw: tuple[int, int], *, stride: int = 32, shape: str = "square"
) -> Letterbox:
    """Return the position of a picture in a model's input; all lengths are in pixels.

    Small pictures are enlarged, as in Ultralytics' predict and val. The scale is the same for every shape: that of
    `input_hw`, beyond which a `margin` goes by a stride. No side shrinks to less than half of `input_hw`, which limits
    the number of shapes.
    """
    input_height, input_width = input_hw
    scale = min(input_height / height, input_width / width)
    inner_width, inner_height = max(round(width * scale), 1), max(round(height * scale), 1)
    if shape != "square":
        margin = _MARGIN if shape == "margin" else 0.0
        input_width = math.ceil(max(inner_width, input_width / 2) / stride + margin) * stride
        input_height = math.ceil(max(inner_height, input_height / 2) / stride + margin) * stride
    left, top = round((input_width - inner_width) / 2 - 0.1), round((input_height - inner_height) / 2 - 0.1)
    return Letterbox(width, height, input_width, input_height, inner_width, inner_height, left, top)


def fill(picture: Picture, place: Letterbox, out: NDArray[np.float32], *, averaged: bool = False) -> None:
    """Write a picture into a model's input.

    Args:
        picture: of any size with the proportions of `place`, which is that of the full picture.
        out: (3, input_height, input_width) float32, is filled with values 0 to 1, RGB.
        averaged: as in `scaled`.
    """
    image = scaled(picture.image, place, averaged=averaged)
    out.fill(np.float32(PADDING) / np.float32(255))
    rows = slice(place.top, place.top + place.inner_height)
    columns = slice(place.left, place.left + place.inner_width)
    for channel, band in enumerate(image.split()):
        np.divide(np.asarray(band), np.float32(255), out=out[channel, rows, columns])


def scaled(image: Image.Image, place: Letterbox, *, averaged: bool) -> Image.Image:
    """Return a picture in the size that it has in the input; one of this size stays as it is.

    Each pixel is interpolated between its four neighbours, like OpenCV's INTER_LINEAR, with which Ultralytics trains
    and validates. `averaged`: the picture is halved before, until fewer than two pixels remain for one of the input.
    """
    size = (place.inner_width, place.inner_height)
    if averaged:
        pixels = min(place.width / size[0], place.height / size[1])  # of the full picture, for one of the input
        halved = max(1, round(max(place.width, place.height) / max(image.size)))  # by the decoder
        if (factor := 2 ** math.floor(math.log2(max(pixels, 1))) // halved) > 1:
            image = image.reduce(factor)
    if image.width <= size[0] and image.height <= size[1]:
        return image.resize(size, Image.Resampling.BILINEAR)
    shrink = (image.width / size[0], 0.0, 0.0, 0.0, image.height / size[1], 0.0)
    return image.transform(size, Image.Transform.AFFINE, shrink, Image.Resampling.BILINEAR)


def to_picture(boxes_xyxy_px: NDArray[np.float32], place: Letterbox, *, clip: bool = True) -> NDArray[np.float32]:
    """Map boxes from the model's input back to the full picture, and clip them to it.

    Both are (N, 4) float32, x1 y1 x2 y2 in pixels; N may be 0. Degenerate boxes are kept, so row i stays row i.
    """
    offset = np.array([place.left, place.top] * 2, np.float32)
    scale = np.array([place.inner_width / place.width, place.inner_height / place.height] * 2, np.float32)
    limit = np.array([place.width, place.height] * 2, np.float32)
    boxes: NDArray[np.float32] = (boxes_xyxy_px - offset) / scale
    return np.clip(boxes, 0, limit) if clip else boxes
