"""Prepared pictures: every encoding, size and turn comes out as upright RGB, or is refused with the reason.

`decode` has its own tests, in tests/unit/serving/vision.
"""

import os
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runner.stages.prepare.pictures import Prepared
from runner.workspace import sha256_of
from serving.vision.similarity import look_of
from tests.support.pictures import Shelf, encoded, gradient, settings, turned

BOTH = {"save_all": True, "append_images": [gradient().rotate(90)]}


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png")])
def test_the_source_serves_when_it_is_plain(shelf: Shelf, kind: str, suffix: str) -> None:
    data = encoded(gradient(), kind)
    look = look_of(Image.open(BytesIO(data)))
    assert shelf.one(data, "wrong.bmp") == Prepared(40, 30, suffix, None, look)


@pytest.mark.parametrize(
    ("mode", "kind", "options", "suffix"),
    [
        *(("L", "JPEG", {}, ".jpg"), ("RGBA", "PNG", {}, ".png"), ("RGB", "PNG", BOTH, ".png")),
        *(("RGB", kind, {}, ".png") for kind in ("GIF", "BMP", "TIFF")),
        *(("RGB", kind, {}, ".jpg") for kind in ("WEBP", "AVIF", "JPEG2000")),
    ],
)
def test_rgb_is_written_when_the_source_is_something_else(
    shelf: Shelf, mode: str, kind: str, options: dict[str, Any], suffix: str
) -> None:
    prepared = shelf.one(encoded(gradient().convert(mode), kind, **options))
    assert prepared[:3] == (40, 30, suffix)
    with shelf.image(prepared) as image:
        assert (image.mode, image.size, getattr(image, "n_frames", 1)) == ("RGB", (40, 30), 1)
        reached = np.asarray(image).astype(int)
    assert np.abs(reached - np.asarray(gradient().convert(mode).convert("RGB"))).mean() < 14
    assert prepared.encoded == [sha256_of(shelf.file(prepared)), shelf.file(prepared).stat().st_size]


@pytest.mark.parametrize(("factor", "kind", "is_dark"), [(16, "PNG", True), (64, "TIFF", True), (256, "PNG", False)])
def test_a_doubt_is_noted_when_few_bits_of_sixteen_are_used(
    shelf: Shelf, factor: int, kind: str, is_dark: bool
) -> None:
    deep = Image.fromarray(np.asarray(gradient().convert("L")).astype(np.uint16) * factor)
    assert ("nearly black" in shelf.one(encoded(deep, kind)).note) == is_dark


def test_the_terminal_stays_clean_when_libtiff_and_pillow_complain(
    shelf: Shelf, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8))
    damaged = bytearray(encoded(noise, "TIFF", compression="tiff_deflate"))
    damaged[10_000:14_000] = b"\xff" * 4000
    assert "damaged or truncated TIFF" in shelf.refused(bytes(damaged))
    assert capfd.readouterr().err == ""
    os.write(2, b"still open")
    assert capfd.readouterr().err == "still open"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (encoded(gradient(9, 200)), "9x200 pixels; expected at least 10"),
        (encoded(gradient(200, 9), "PNG"), "200x9 pixels; expected at least 10"),
        (encoded(Image.new("L", (3000, 1000)), "PNG"), "3000x1000 pixels; expected at most 2,000,000"),
    ],
    ids=["empty", "narrow", "low", "large"],
)
def test_refused_with_the_reason_when_a_picture_is_useless(shelf: Shelf, data: bytes, reason: str) -> None:
    assert shelf.refused(data).startswith(reason)
    assert [path.name for path in shelf.kept.rglob("*") if path.is_file()] == ["known.jsonl"]


@pytest.mark.parametrize("size", [(10, 200), (200, 10)])
def test_kept_when_a_picture_is_just_large_enough(shelf: Shelf, size: tuple[int, int]) -> None:
    assert shelf.one(encoded(gradient(*size)))[:2] == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_wider_pictures_are_shrunk_when_there_is_a_width(shelf: Shelf, kind: str) -> None:
    prepared = shelf.one(encoded(gradient(400, 301), kind, quality=95), rules=settings(max_width=100))
    assert prepared[:2] == (400, 301)
    with shelf.image(prepared) as image:
        assert image.size == (100, 75)
        expected = np.asarray(gradient(400, 301).resize((100, 75), Image.Resampling.BOX)).astype(int)
        assert np.abs(np.asarray(image).astype(int) - expected)[..., :2].mean() < 3


@pytest.mark.parametrize("width", [40, 41, 4000])
def test_no_picture_is_enlarged_when_it_is_narrower(shelf: Shelf, width: int) -> None:
    assert shelf.one(encoded(gradient()), rules=settings(max_width=width)).encoded is None
    with shelf.image(shelf.one(turned(6), rules=settings(max_width=width))) as image:  # must be written anew
        assert image.size == (40, 30)


def test_the_width_is_that_a_person_sees_when_exif_turns(shelf: Shelf) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    prepared = shelf.one(encoded(gradient(400, 200), exif=exif), rules=settings(max_width=100))
    assert prepared[:2] == (200, 400)
    with shelf.image(prepared) as image:
        assert (image.size, image.getexif().get(0x0112)) == ((100, 200), None)


def test_very_wide_pictures_are_shrunk_or_refused_when_little_is_left(shelf: Shelf) -> None:
    rules = settings(max_width=640, max_pixels=100_000_000)
    with shelf.image(shelf.one(encoded(gradient(20_000, 400)), rules=rules)) as image:
        assert image.size == (640, 13)
    assert shelf.refused(encoded(gradient(20_000, 200)), rules).startswith("20000x200 pixels, 640x6 after shrinking")
