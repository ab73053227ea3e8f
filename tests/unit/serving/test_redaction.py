"""What an operator's function does to a picture, or fails to do: then nothing is kept."""

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from serving.redaction import RedactionError, redacted
from tests.support.pictures import encoded, gradient


def ends(_: Image.Image) -> Image.Image:
    sys.exit("as a program that is used as a function")


def halves(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height))


def fails(_: Image.Image) -> Image.Image:
    raise RuntimeError("no model of faces here")


@pytest.mark.parametrize("function", [lambda _: None, lambda _: b"nonsense", ends, fails, halves])
def test_nothing_is_kept_when_the_function_fails_or_returns_nonsense(function: Callable[..., Any]) -> None:
    with pytest.raises(RedactionError):
        redacted(encoded(gradient(40, 30)), function)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_the_picture_is_a_jpeg_of_its_size_whatever_mode_comes_back(mode: str) -> None:
    done = Image.open(io.BytesIO(redacted(encoded(gradient(40, 30)), lambda image: image.convert(mode))))
    assert (done.format, done.mode, done.size) == ("JPEG", "RGB", (40, 30))
