from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serving.vision.letterbox import SHAPES, fill, letterbox, scaled, to_picture
from serving.vision.picture import Picture

SIDES = st.integers(1, 5000)
INPUTS = st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda cells: (cells[0] * 32, cells[1] * 32))


def picture_of(image: Image.Image) -> Picture:
    return Picture(image, image.width, image.height, "PNG", 1, True)


# Width, height, input, shape → input width and height, inner width and height, left, top; the values of
# ultralytics.data.augment.LetterBox 8.4 (hug: `auto=True`) and of YOLODataset's `rect_shape` (margin) for a batch of
# this picture alone, but at least half of the input.
@pytest.mark.parametrize(
    ("size", "input_hw", "shape", "expected"),
    [
        ((640, 512), (320, 320), "square", (320, 320, 320, 256, 0, 32)),
        ((490, 412), (320, 320), "square", (320, 320, 320, 269, 0, 25)),  # 51 rows of padding: 25 above, 26 below
        ((810, 1080), (640, 640), "square", (640, 640, 480, 640, 80, 0)),
        ((20_000, 16), (320, 320), "square", (320, 320, 320, 1, 0, 159)),
        ((1, 1), (320, 320), "square", (320, 320, 320, 320, 0, 0)),
        ((1920, 1080), (384, 640), "square", (640, 384, 640, 360, 0, 12)),
        ((810, 1080), (640, 640), "hug", (480, 640, 480, 640, 0, 0)),
        ((1920, 1080), (640, 640), "hug", (640, 384, 640, 360, 0, 12)),
        ((640, 640), (640, 640), "hug", (640, 640, 640, 640, 0, 0)),
        ((20_000, 16), (640, 640), "hug", (640, 320, 640, 1, 0, 159)),
        ((810, 1080), (640, 640), "margin", (512, 672, 480, 640, 16, 16)),
        ((1920, 1080), (640, 640), "margin", (672, 384, 640, 360, 16, 12)),  # 360 + 16 fit into 384
        ((1920, 1120), (640, 640), "margin", (672, 416, 640, 373, 16, 21)),  # 373 + 16 do not
        ((640, 640), (640, 640), "margin", (672, 672, 640, 640, 16, 16)),
        ((20_000, 16), (640, 640), "margin", (672, 352, 640, 1, 16, 175)),
    ],
)
def test_geometry_of_ultralytics(
    size: tuple[int, int], input_hw: tuple[int, int], shape: str, expected: tuple[int, ...]
) -> None:
    assert astuple(letterbox(*size, input_hw, shape=shape)) == (*size, *expected)


@given(SIDES, SIDES, INPUTS, st.sampled_from(SHAPES))
def test_inside_and_centred_when_of_any_size(width: int, height: int, input_hw: tuple[int, int], shape: str) -> None:
    place = letterbox(width, height, input_hw, shape=shape)
    assert (place.input_height % 32, place.input_width % 32) == (0, 0)
    beyond = 32 if shape == "margin" else 0
    assert place.input_height <= input_hw[0] + beyond and place.input_width <= input_hw[1] + beyond
    right = place.input_width - place.left - place.inner_width
    below = place.input_height - place.top - place.inner_height
    assert min(place.inner_width, place.inner_height) >= 1
    assert min(place.left, place.top, right, below) >= 0
    assert abs(right - place.left) <= 1 and abs(below - place.top) <= 1
    assert place.inner_width == input_hw[1] or place.inner_height == input_hw[0]


@given(SIDES, SIDES, INPUTS, st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_boxes_return_when_mapped_there_and_back(
    width: int, height: int, input_hw: tuple[int, int], corners: list[float]
) -> None:
    place = letterbox(width, height, input_hw)
    boxes = np.array([corners], np.float32) * np.array([width, height, width, height], np.float32)
    scale = np.array([place.inner_width / width, place.inner_height / height] * 2)
    there = (boxes * scale + np.array([place.left, place.top] * 2)).astype(np.float32)
    coarseness = max(width / place.inner_width, height / place.inner_height)
    assert np.allclose(to_picture(there, place), boxes, atol=1e-3 * max(1, coarseness))


@given(SIDES, SIDES, INPUTS, st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4))
def test_inside_the_picture_when_clipped(width: int, height: int, input_hw: tuple[int, int], box: list[float]) -> None:
    found = to_picture(np.array([box], np.float32), letterbox(width, height, input_hw))
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert (found <= [width, height, width, height]).all()


@pytest.mark.parametrize("size", [(32, 16), (64, 32), (200, 100), (16, 8), (1, 1)])
def test_padded_with_grey_when_filled(size: tuple[int, int]) -> None:
    place = letterbox(*size, (32, 32))
    out = np.empty((3, 32, 32), np.float32)
    fill(picture_of(Image.new("RGB", size, (255, 0, 51))), place, out)
    inner = out[:, place.top : place.top + place.inner_height, place.left : place.left + place.inner_width]
    assert np.allclose(inner, np.array([1, 0, 0.2])[:, None, None])
    assert np.isclose(out, 114 / 255).sum() == out.size - inner.size


def test_pixels_are_interpolated_and_not_averaged_when_shrunk() -> None:
    stripes = np.zeros((8, 128, 3), np.uint8)
    stripes[:, ::4] = 255  # of every four columns only the first, which lies beyond the two that OpenCV would read
    place = letterbox(128, 8, (32, 32))
    out = np.empty((3, 32, 32), np.float32)
    fill(picture_of(Image.fromarray(stripes)), place, out)
    assert out[:, place.top : place.top + place.inner_height].max() == 0


@pytest.mark.parametrize("already", [1, 2, 4])  # halved by the decoder
def test_pixels_are_averaged_when_asked_for(already: int) -> None:
    stripes = np.zeros((8, 128, 3), np.uint8)
    stripes[:, ::4] = 200
    image = Image.fromarray(stripes).reduce(already)
    place = letterbox(128, 8, (32, 32))
    assert {value for _, value in scaled(image, place, "averaged").getcolors()} == {(50, 50, 50)}  # type: ignore[union-attr]
    smaller = letterbox(40, 8, (32, 32))  # fewer than two pixels for one of the input: interpolated alone
    picture = Image.fromarray(stripes[:, :40])
    assert scaled(picture, smaller, "averaged") == scaled(picture, smaller, "full")
