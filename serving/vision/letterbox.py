"""Letterbox: scale and pad a picture into a model's input, and map boxes back, as Ultralytics' LetterBox does.

Models of other families have their picture in a corner, or stretched, with other values of the pixels.
"""

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
OTHER_SHAPES, OTHER_DECODINGS = ("corner", "stretch"), ("antialiased",)  # of other families of models
_MARGIN = 0.5  # strides, as `pad` of Ultralytics' val


@dataclass(frozen=True)
class InputForm:
    """Way from a picture to the model's input; part of the model, so that it is served as it was measured."""

    # hug: the next multiples of the stride that hold the scaled picture; margin: those that hold half a stride more on
    # either axis, as in Ultralytics' val; square: the whole input. A model of fixed height or width is always square.
    # corner: the whole input, with the picture at its left upper corner, as YOLOX; stretch: the picture fills the whole
    # input, whatever its proportions, as RF-DETR and D-FINE.
    shape: str
    # averaged: large pictures of every format are halved by the mean of 2x2 pixels until fewer than two pixels remain
    # for one of the input; a JPEG is partly halved while it is decoded, which is nearly the same and cheaper.
    # full: each pixel of the input is interpolated between four pixels, and the others are skipped, as Ultralytics
    # trains and validates. reduced: a JPEG alone is halved, so that its confidences are off by 0.01 to 0.04 from those
    # of a PNG; as models were measured before manifests named a form. antialiased: each pixel of the input is a
    # weighted mean of all that it covers, as Pillow's `resize` with BILINEAR.
    decoding: str
    # A value is (pixel * scale - mean) / std, of a pixel 0 to 255; the padding is a pixel of 114.
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of the channels in the order of `channels`
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: str = "RGB"  # or BGR

    @property
    def whole(self) -> bool:
        """Whether the input is always the whole one, of whatever proportions the picture is."""
        return self.shape in ("square", *OTHER_SHAPES)

    def decode_options(self, input_hw: tuple[int, int]) -> dict[str, Any]:
        """Return `fit` and `spare` of `serving.vision.picture.decode`, for a model's height and width in pixels."""
        if self.decoding == "reduced":
            return {"fit": max(input_hw), "spare": 2.0}
        return {"fit": 2 * max(input_hw)} if self.decoding == "averaged" else {}


DEFAULT_FORM = InputForm("margin", "averaged")  # of a model that names none: another program's export
FORMER_FORM = InputForm("hug", "reduced")  # of models that were published before manifests named a form
_PLAIN = InputForm("square", "full")


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
    if shape == "stretch":
        return Letterbox(width, height, input_width, input_height, input_width, input_height, 0, 0)
    scale = min(input_height / height, input_width / width)
    if shape == "corner":  # rounded down, as YOLOX does
        inner_width, inner_height = max(int(width * scale), 1), max(int(height * scale), 1)
        return Letterbox(width, height, input_width, input_height, inner_width, inner_height, 0, 0)
    inner_width, inner_height = max(round(width * scale), 1), max(round(height * scale), 1)
    if shape != "square":
        margin = _MARGIN if shape == "margin" else 0.0
        input_width = math.ceil(max(inner_width, input_width / 2) / stride + margin) * stride
        input_height = math.ceil(max(inner_height, input_height / 2) / stride + margin) * stride
    left, top = round((input_width - inner_width) / 2 - 0.1), round((input_height - inner_height) / 2 - 0.1)
    return Letterbox(width, height, input_width, input_height, inner_width, inner_height, left, top)


def fill(picture: Picture, place: Letterbox, out: NDArray[np.float32], form: InputForm = _PLAIN) -> None:
    """Write a picture into a model's input.

    Args:
        picture: of any size with the proportions of `place`, which is that of the full picture.
        out: (3, input_height, input_width) float32, is filled with the values of `form`: 0 to 1, RGB, by default.
        form: its decoding, values and channels; `place` was made with its shape.
    """
    image = scaled(picture.image, place, form.decoding)
    rows = slice(place.top, place.top + place.inner_height)
    columns = slice(place.left, place.left + place.inner_width)
    bands = image.split() if form.channels == "RGB" else image.split()[::-1]
    # Pillow's interpolation cuts fractions off, so it is dark by half a step. Our own models were measured with it.
    shrunk = place.width > place.inner_width or place.height > place.inner_height
    half = 0.5 if shrunk and form.decoding == "full" and form.shape in OTHER_SHAPES else 0.0
    for values, band, mean, std in zip(out, bands, form.mean, form.std, strict=True):
        divisor = np.float32(std / form.scale)
        values.fill(np.float32(PADDING) / divisor)
        np.divide(np.asarray(band), divisor, out=values[rows, columns])
        if half:
            values[rows, columns] += np.float32(half) / divisor
        if mean:
            values -= np.float32(mean / std)


def scaled(image: Image.Image, place: Letterbox, decoding: str) -> Image.Image:
    """Return a picture in the size that it has in the input; one of this size stays as it is.

    Each pixel is interpolated between its four neighbours, like OpenCV's INTER_LINEAR, with which Ultralytics trains
    and validates. averaged: the picture is halved before, until fewer than two pixels remain for one of the input.
    antialiased: each pixel is a weighted mean.
    """
    size = (place.inner_width, place.inner_height)
    if decoding == "averaged":
        pixels = min(place.width / size[0], place.height / size[1])  # of the full picture, for one of the input
        halved = max(1, round(max(place.width, place.height) / max(image.size)))  # by the decoder
        if (factor := 2 ** math.floor(math.log2(max(pixels, 1))) // halved) > 1:
            image = image.reduce(factor)
    enlarged = image.width <= size[0] and image.height <= size[1]
    if enlarged or decoding == "antialiased":
        return image.resize(size, Image.Resampling.BILINEAR)
    shrink = (image.width / size[0], 0.0, 0.0, 0.0, image.height / size[1], 0.0)
    return image.transform(size, Image.Transform.AFFINE, shrink, Image.Resampling.BILINEAR)


def to_picture(
    boxes_xyxy_px: NDArray[np.float32], place: Letterbox, *, clip: bool = True, shape: str = "square"
) -> NDArray[np.float32]:
    """Map boxes from the model's input back to the full picture, and clip them to it.

    Both are (N, 4) float32, x1 y1 x2 y2 in pixels; N may be 0. Degenerate boxes are kept, so row i stays row i.
    `shape` is that of the input form: in a `corner`, models know one scale for both axes, before it was rounded.
    """
    offset = np.array([place.left, place.top] * 2, np.float32)
    scale = np.array([place.inner_width / place.width, place.inner_height / place.height] * 2, np.float32)
    if shape == "corner":
        scale.fill(min(place.input_width / place.width, place.input_height / place.height))
    limit = np.array([place.width, place.height] * 2, np.float32)
    boxes: NDArray[np.float32] = (boxes_xyxy_px - offset) / scale
    return np.clip(boxes, 0, limit) if clip else boxes
