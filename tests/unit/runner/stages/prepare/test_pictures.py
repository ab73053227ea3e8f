"""Prepared pictures: every encoding, size and turn comes out as upright RGB, or is refused with the reason."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runner.stages.prepare.pictures import Prepared
from tests.support.pictures import Shelf, encoded, gradient, settings, turned


def test_nothing_is_known_when_there_are_no_pictures(shelf: Shelf) -> None:
    assert shelf.prepare() == {}


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png")])
def test_the_source_serves_when_it_is_plain(shelf: Shelf, kind: str, suffix: str) -> None:
    data = encoded(gradient(), kind)
    assert shelf.one(data, "wrong.bmp") == Prepared(40, 30, 1, suffix, None, len(data))
    assert shelf.one(turned(1)).stored is None


BOTH = {"save_all": True, "append_images": [gradient().rotate(90)]}


@pytest.mark.parametrize(
    ("name", "data", "suffix"),
    [
        *((mode, encoded(gradient().convert(mode)), ".jpg") for mode in ("CMYK", "L")),
        *((mode, encoded(gradient().convert(mode), "PNG"), ".png") for mode in ("1", "RGBA", "LA")),
        ("palette", encoded(gradient().quantize(200), "PNG"), ".png"),
        ("palette with alpha", encoded(gradient().quantize(200), "PNG", transparency=3), ".png"),
        (
            "16 bit",
            encoded(Image.fromarray(np.asarray(gradient().convert("L")).astype(np.uint16) * 257), "PNG"),
            ".png",
        ),
        *((kind, encoded(gradient(), kind), ".png") for kind in ("GIF", "BMP", "TIFF")),
        *((kind, encoded(gradient(), kind), ".jpg") for kind in ("WEBP", "AVIF", "JPEG2000")),
        *((f"animated {kind}", encoded(gradient(), kind, **BOTH), ".png") for kind in ("GIF", "PNG")),
        ("animated WebP", encoded(gradient(), "WEBP", **BOTH), ".jpg"),
        ("more behind its end", encoded(gradient()) + b"garbage", ".jpg"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rgb_is_written_when_the_source_is_something_else(shelf: Shelf, name: str, data: bytes, suffix: str) -> None:
    prepared = shelf.one(data)
    assert prepared[:4] == (40, 30, 1, suffix), name
    with shelf.image(prepared) as image:
        assert (image.mode, image.size, getattr(image, "n_frames", 1)) == ("RGB", (40, 30), 1)
        reached = np.asarray(image).astype(int)
    grey = name in ("L", "LA", "16 bit")
    expected = np.asarray((gradient().convert("L") if grey else gradient()).convert("RGB")).astype(int)
    if name not in ("1", "CMYK"):
        assert np.abs(reached - expected).mean() < 14
    assert prepared.size == (shelf.kept / str(prepared.stored)).stat().st_size


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_picture_is_upright_when_a_camera_was_not(shelf: Shelf, orientation: int) -> None:
    prepared = shelf.one(turned(orientation))
    assert prepared[:4] == (40, 30, orientation, ".jpg")
    with shelf.image(prepared) as image:
        assert (image.size, image.getexif().get(0x0112)) == ((40, 30), None)
        difference = np.abs(np.asarray(image).astype(int) - np.asarray(gradient()).astype(int))
    assert difference.mean() < 4


def test_same_pixels_come_out_when_one_picture_has_many_encodings(shelf: Shelf, shared_data: Path) -> None:
    folder = shared_data / "same-picture"
    with Image.open(folder / "base.jpg") as image:
        base = np.asarray(image).astype(int)
    readable = 0
    for path in sorted(folder.iterdir()):
        (shelf.source / path.name).write_bytes(path.read_bytes())
    reasons = {}
    for name, prepared in shelf.prepare(settings(max_pixels=100_000_000)).items():
        if isinstance(prepared, str):
            reasons[name] = prepared
            continue
        file = folder / name if prepared.stored is None else shelf.kept / prepared.stored
        with Image.open(file) as image:
            assert image.mode == "RGB", name
            if (prepared.width, prepared.height) == (490, 412) and "gray" not in name and name != "la.png":
                assert np.abs(np.asarray(image).astype(int) - base).mean() < 8, name
                readable += 1
    assert set(reasons) == {"pic.heic", "thin_490x3.jpg", "truncated_half.jpg"}
    assert "HEIC" in reasons["pic.heic"]
    assert reasons["thin_490x3.jpg"].startswith("490x3 pixels; expected at least 10")
    assert "damaged or truncated JPEG" in reasons["truncated_half.jpg"]
    assert readable >= 20


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not a picture at all", "not a picture of a known kind"),
        (encoded(gradient(200, 150))[:-900], "damaged or truncated JPEG"),
        (encoded(gradient(200, 150), "PNG")[:-200], "damaged or truncated PNG"),
        (encoded(gradient(1, 1)), "1x1 pixels; expected at least 10"),
        (encoded(gradient(9, 200)), "9x200 pixels; expected at least 10"),
        (encoded(gradient(200, 9), "PNG"), "200x9 pixels; expected at least 10"),
        (encoded(Image.new("L", (3000, 1000)), "PNG"), "3000x1000 pixels; expected at most 2,000,000"),
    ],
    ids=["empty", "text", "truncated JPEG", "truncated PNG", "1x1", "narrow", "low", "large"],
)
def test_refused_with_the_reason_when_a_picture_is_useless(shelf: Shelf, data: bytes, reason: str) -> None:
    assert re.match(reason, shelf.refused(data))
    assert [path.name for path in shelf.kept.rglob("*") if path.is_file()] == ["known.jsonl"]


def test_refused_from_the_header_when_a_picture_is_a_bomb(shelf: Shelf) -> None:
    bomb = bytearray(encoded(gradient(), "PNG"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    assert shelf.refused(bytes(bomb)).startswith("60000x60000 pixels; expected at most 2,000,000")


def test_text_is_refused_when_a_small_png_inflates(shelf: Shelf) -> None:
    info = PngInfo()
    info.add_text("comment", "x" * 80_000_000, zip=True)
    assert shelf.refused(encoded(gradient(), "PNG", pnginfo=info)).startswith("damaged or truncated PNG picture")


@pytest.mark.parametrize("size", [(10, 10), (10, 200), (200, 10)])
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
    assert shelf.one(encoded(gradient()), rules=settings(max_width=width)).stored is None
    with shelf.image(shelf.one(turned(6), rules=settings(max_width=width))) as image:  # must be written anew
        assert image.size == (40, 30)


def test_the_width_is_that_a_person_sees_when_exif_turns(shelf: Shelf) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    prepared = shelf.one(encoded(gradient(400, 200), exif=exif), rules=settings(max_width=100))
    assert prepared[:3] == (200, 400, 6)
    with shelf.image(prepared) as image:
        assert image.size == (100, 200)


def test_very_wide_pictures_are_shrunk_or_refused_when_little_is_left(shelf: Shelf) -> None:
    rules = settings(max_width=640, max_pixels=100_000_000)
    with shelf.image(shelf.one(encoded(gradient(20_000, 400)), rules=rules)) as image:
        assert image.size == (640, 13)
    assert shelf.refused(encoded(gradient(20_000, 200)), rules).startswith("20000x200 pixels, 640x6 after shrinking")
