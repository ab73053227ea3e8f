import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from serving.vision.picture import Picture, PictureError, TooLargeError, UnreadableError, UnsupportedError, decode
from tests.support.pictures import encoded, gradient, turned

# File of one and the same picture → its format, EXIF orientation, and whether any reader sees the same pixels.
SAME = {
    **{f"exif{turn}.jpg": ("JPEG", turn, False) for turn in range(2, 9)},
    **dict.fromkeys(("base.jpg", "jpeg_named.png", "progressive.jpg"), ("JPEG", 1, True)),
    **dict.fromkeys(("cmyk.jpg", "gray.jpg", "trailing_garbage.jpg"), ("JPEG", 1, False)),
    **dict.fromkeys(("animated.png", "gray16.png", "la.png", "palette_alpha.png"), ("PNG", 1, False)),
    **dict.fromkeys(("rgb16.png", "rgba_hole.png"), ("PNG", 1, False)),
    **dict.fromkeys(("animated.webp", "lossless.webp"), ("WEBP", 1, False)),
    "animated.gif": ("GIF", 1, False),
    "pic.avif": ("AVIF", 1, False),
    "pic.bmp": ("BMP", 1, False),
    "pic.jp2": ("JPEG2000", 1, False),
    "pic.tiff": ("TIFF", 1, False),
    "rgb8.png": ("PNG", 1, True),
    "two.mpo.jpg": ("MPO", 1, False),
}


def pixels_of(picture: Picture) -> NDArray[np.int64]:
    return np.asarray(picture.image).astype(np.int64)


def turned_by(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_header(width: int, height: int, rest: bytes = b"") -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + rest


def tiff_of(bits: int, sample_format: int, pixels: bytes, width: int, height: int) -> bytes:
    """A grey little-endian TIFF written by hand, for depths that Pillow does not write."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(pixels)), (339, sample_format)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + b"\0\0\0\0"


@pytest.mark.parametrize("data", [b"", b"x", b"hello" * 9, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7"])
def test_unsupported_when_not_a_picture(data: bytes) -> None:
    with pytest.raises(UnsupportedError, match="expected JPEG"):
        decode(data)


def test_refused_when_truncated(shared_data: Path) -> None:
    with pytest.raises(UnreadableError, match="JPEG"):
        decode((shared_data / "same-picture" / "truncated_half.jpg").read_bytes())


def test_heic_is_read_where_its_package_is_installed(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (shared_data / "same-picture" / "pic.heic").read_bytes()
    if "HEIF" in Image.OPEN:
        base = decode((shared_data / "same-picture" / "base.jpg").read_bytes())
        picture = decode(data)
        assert (picture.width, picture.height, picture.format, picture.plain) == (490, 412, "HEIF", False)
        assert np.abs(pixels_of(picture) - pixels_of(base)).mean() < 5
        with pytest.raises(TooLargeError):
            decode(data, max_pixels=1000)
        with pytest.raises(UnreadableError):
            decode(data[: len(data) // 2])
        monkeypatch.delitem(Image.OPEN, "HEIF")
    with pytest.raises(UnsupportedError, match=r"HEIC .* pillow-heif"):
        decode(data)


@pytest.mark.parametrize("name", SAME)
def test_same_pixels_when_encoded_otherwise(name: str, shared_data: Path) -> None:
    base = decode((shared_data / "same-picture" / "base.jpg").read_bytes())
    picture = decode((shared_data / "same-picture" / name).read_bytes())
    assert (picture.width, picture.height) == picture.image.size == (490, 412)
    assert picture.image.mode == "RGB"
    mode = "L" if name in ("gray.jpg", "gray16.png", "la.png") else "RGB"
    assert np.abs(pixels_of(picture) - np.asarray(base.image.convert(mode).convert("RGB"))).mean() < 1
    assert (picture.format, picture.turn, picture.plain) == SAME[name]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF"])
def test_whole_or_refused_when_cut_anywhere(kind: str) -> None:
    whole = encoded(gradient(), kind)
    expected = pixels_of(decode(whole))
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        try:
            assert np.array_equal(pixels_of(decode(whole[:length])), expected)
        except PictureError:
            continue


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_upright_when_turned_by_exif(turn: int, kind: str) -> None:
    picture = decode(turned(turn, kind))
    assert (picture.width, picture.height, picture.turn) == (*gradient().size, turn)
    assert np.abs(pixels_of(picture) - np.asarray(gradient())).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [
        *(b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        *(turned_by(turn) for turn in (0, 9, 65535)),
    ],
)
def test_upright_as_stored_when_exif_is_damaged_or_out_of_range(exif: bytes | Image.Exif) -> None:
    assert decode(encoded(gradient(), "JPEG", exif=exif)).turn == 1


def test_scaled_and_not_clipped_when_sixteen_or_twelve_bit() -> None:
    deep = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    for data in (encoded(deep, "PNG"), encoded(deep, "TIFF")):
        assert pixels_of(decode(data))[..., 0].ravel().tolist() == list(range(256))
    pixels = bytes([0x00, 0x08, 0x00, 0xFF, 0xFF, 0xFF])  # two pixels in three bytes: 0x000, 0x800, 0xFFF, 0xFFF
    assert pixels_of(decode(tiff_of(12, 1, pixels, 4, 1)))[0, :, 0].tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize(
    ("white", "expected"),
    [(4095, [0, 128, 255, 255]), (16383, [0, 32, 63, 255]), (255, [0, 255, 255, 255]), (65535, [0, 8, 15, 255])],
)
def test_scaled_by_the_files_own_white_when_it_names_one(white: int, expected: list[int]) -> None:
    deep = Image.fromarray(np.array([[0, 0x800, 0xFFF, 0xFFFF]], dtype=np.uint16))
    assert pixels_of(decode(encoded(deep, "TIFF", tiffinfo={281: white})))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("bits", "sample_format"), [(32, 3), (32, 2), (16, 2)])
def test_refused_as_unsupported_when_white_is_undefined(bits: int, sample_format: int) -> None:
    with pytest.raises(UnsupportedError, match="8- or 16-bit"):
        decode(tiff_of(bits, sample_format, bytes(bits // 8 * 16), 4, 4))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_white_stays_white_when_of_another_mode(mode: str) -> None:
    white = Image.new("RGB", (9, 7), (255, 255, 255)).convert(mode)
    assert pixels_of(decode(encoded(white, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"))).min() == 255


def test_colour_beneath_stays_when_transparent() -> None:
    data = encoded(Image.new("RGBA", (5, 5), (10, 20, 30, 0)), "PNG")
    assert decode(data).image.getpixel((2, 2)) == (10, 20, 30)


def test_readable_when_tiny_or_twenty_thousand_pixels_wide() -> None:
    assert decode(encoded(Image.new("RGB", (1, 1)), "PNG")).image.size == (1, 1)
    picture = decode(encoded(Image.new("RGB", (20_000, 16)), "JPEG"), fit=640)
    assert (picture.width, picture.height) == (20_000, 16)
    assert picture.image.size == (2_500, 2)


@pytest.mark.parametrize(
    "data",
    [
        png_header(60_000, 60_000, bytes(4) + b"IDAT"),
        b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
)
def test_refused_from_the_header_when_a_bomb(data: bytes) -> None:
    with pytest.raises(TooLargeError, match=r"60000x60000 .* 100,000,000 "):
        decode(data)


def test_limit_is_the_callers_when_set() -> None:
    data = encoded(gradient())
    assert decode(data, max_pixels=40 * 30).width == 40
    with pytest.raises(TooLargeError, match=r"40x30 .* 1,199 "):
        decode(data, max_pixels=40 * 30 - 1)
    # Past Pillow's own process-wide limit: neither warned of nor refused.
    with pytest.raises(UnreadableError, match="PNG"):
        decode(png_header(200_000, 2_000, bytes(4) + b"IDAT"), max_pixels=10**9)


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 800), st.sampled_from([1, 6]))
def test_never_smaller_than_needed_when_fitted(width: int, height: int, fit: int, turn: int) -> None:
    picture = decode(encoded(Image.new("RGB", (width, height)), "JPEG", exif=turned_by(turn)), fit=fit)
    assert (picture.width, picture.height) == ((height, width) if turn == 6 else (width, height))
    assert max(picture.image.size) >= min(fit, max(width, height))
    if min(width, height) >= 8 * fit:
        assert max(picture.image.size) == -(-max(width, height) // 8)


@pytest.mark.parametrize(("turn", "size"), [(1, (400, 200)), (6, (400, 800))])
def test_width_as_seen_is_enough_when_fitted_by_width(turn: int, size: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", (1600, 800)), "JPEG", exif=turned_by(turn))
    assert decode(data, fit_width=size[0] - 5).image.size == size


@pytest.mark.parametrize(
    ("width", "decoded"), [(320, 320), (640, 320), (641, 641), (1279, 320), (1300, 650), (5120, 640)]
)
def test_exact_or_spared_when_fitted_with_spare(width: int, decoded: int) -> None:
    assert decode(encoded(Image.new("RGB", (width, 64)), "JPEG"), fit=320, spare=2).image.width == decoded


MUTABLE = [encoded(gradient(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF")]


@given(st.sampled_from(MUTABLE), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=12))
def test_a_picture_or_a_picture_error_when_mutated(whole: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(whole)
    for place, value in changes:
        data[place % len(data)] = value
    try:
        assert decode(bytes(data), fit=16).image.mode == "RGB"
    except PictureError as error:
        assert "expected" in str(error)
