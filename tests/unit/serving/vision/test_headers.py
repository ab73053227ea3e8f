import struct
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serving.vision.headers import Limits, PictureError, TooLargeError, UnreadableError
from serving.vision.picture import decode, header_of
from tests.support import hostile
from tests.support.pictures import encoded, gradient

LIMITS = Limits(pixels=1_000_000, parts=5_000, scans=20)
MANY = LIMITS.parts + 1

# Files of a few bytes to a megabyte → what the refusal names.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: hostile.jpeg_of_scans(21, 64), "20 scans"),
    "scans, sequential": (lambda: hostile.jpeg_of_scans(21, 64, components=3, frame=0xC1), "20 scans"),
    "scans, arithmetic": (lambda: hostile.jpeg_of_scans(21, 64, frame=0xCA), "20 scans"),
    "segments": (lambda: hostile.jpeg_with(b"\xff\xfe\0\2" * MANY), "5,000 segments"),
    "restarts": (lambda: hostile.jpeg_with(b"\xff\xd0" * MANY), "5,000 segments"),
    "bytes between segments": (
        lambda: hostile.jpeg_with(hostile.segment(0xFE, b"") + b"\0" * MANY),
        "between the segments",
    ),
    "padding": (lambda: hostile.jpeg_with(b"\xff" * MANY), "between the segments"),
    "tables": (lambda: hostile.jpeg_with(hostile.segment(0xDB, bytes(65 * 100)) * 20), "tables"),
    "exif": (lambda: hostile.jpeg_with(hostile.segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 80), "EXIF"),
    "chunks": (lambda: hostile.png_of([(b"teSt", b"")] * MANY), "5,000 chunks"),
    "empty data chunks": (lambda: hostile.png_of([(b"IDAT", b"")] * MANY), "5,000 chunks"),
    "comment blocks": (lambda: hostile.gif_of_comments(MANY), "5,000 blocks"),
    "frame": (lambda: hostile.gif_with_a_large_frame(1_001), "1001x1001"),
    "tile": (lambda: hostile.tiff_of_a_tile(26_000), "tiles of 26000x26000"),
    "tile, zstd": (lambda: hostile.tiff_of_a_tile(26_000, compression=50_000), "tiles of 26000x26000"),
    "tile, big": (lambda: hostile.tiff_of_a_tile(26_000, big=True), "tiles of 26000x26000"),
    "tile, other order": (lambda: hostile.tiff_of_a_tile(26_000, order=">"), "tiles of 26000x26000"),
    "tiles": (lambda: hostile.tiff_of([(256, 4, 1_000), (257, 4, 1_000), (322, 4, 1), (323, 4, 1)]), "5,000 tiles"),
    "strips": (lambda: hostile.tiff_of([(256, 4, 1), (257, 4, 6_000), (278, 4, 1)]), "5,000 tiles or strips"),
    "tiles, JPEG 2000": (lambda: hostile.jpeg2000_of(1_000, 1_000, (1, 1)), "5,000 tiles"),
    "pixels, JPEG 2000": (lambda: hostile.jpeg2000_of(1_001, 1_000, (64, 64)), "1001x1000"),
    "pixels, WebP": (lambda: hostile.webp_of(16_384, 16_384), "16384x16384"),
    "pixels, AVIF": (lambda: hostile.avif_of([(64, 64), (30_000, 30_000)]), "30000x30000"),
    "pixels, PNG": (lambda: encoded(Image.new("1", (1_001, 1_000)), "PNG"), "1001x1000"),
    "pixels, BMP": (lambda: encoded(Image.new("1", (1_001, 1_000)), "BMP"), "1001x1000"),
    "pixels, GIF": (lambda: encoded(Image.new("P", (1_001, 1_000)), "GIF"), "1001x1000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_from_its_headers_when_they_ask_for_much(name: str) -> None:
    make, said = REFUSED[name]
    data = make()
    start = time.process_time()
    with pytest.raises(TooLargeError, match=f"{said}.*expected"):
        header_of(data, LIMITS)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("name", ["tile", "tiles", "pixels, WebP", "pixels, AVIF"])
def test_refused_also_when_a_dataset_holds_it(name: str) -> None:
    data, limit = REFUSED[name][0](), LIMITS.pixels if name != "tiles" else 100_000_000
    with pytest.raises(PictureError):
        decode(data, max_pixels=limit)


@pytest.mark.parametrize(
    "data",
    [
        hostile.jpeg_with(hostile.segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 1) + b"\1\x11\0")),  # two frames
        # A frame inside of what this program skips, and Pillow does not.
        *(
            hostile.jpeg_with(
                hostile.segment(marker, hostile.segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 1) + b"\1\x11\0"))
            )
            for marker in (0xC8, 0xF0, 0xFD)
        ),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff",
        b"\xff\xd8" + hostile.segment(0xDA, b"\1\1\0\0\x3f\0"),
        hostile.jpeg2000_of(10, 10, (0, 1)),
        b"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a" + bytes(100),
        hostile.tiff_of([(256, 4, 10)]),
        hostile.tiff_of([(256, 4, 10), (257, 4, 10), (322, 4, 0)]),
        b"II*\0\xff\xff\xff\x7f",
        b"\x89PNG\r\n\x1a\n",
        hostile.png_of([(b"IHDR", struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0))]),  # the size that Pillow takes
        hostile.png_behind(b"teSt", struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0)),
    ],
)
def test_unreadable_when_headers_are_damaged(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="expected"):
        header_of(data, LIMITS)


def test_a_byte_more_charged_for_each_sample_when_a_jpeg_2000_is_deep() -> None:
    shallow = hostile.jpeg2000_of(100, 100, (100, 100), 3)
    deep = shallow.replace(b"\x07\x01\x01", b"\x0f\x01\x01")  # 16 bits
    assert header_of(deep, LIMITS).memory - header_of(shallow, LIMITS).memory == 3 * 100 * 100


@pytest.mark.parametrize(
    ("data", "bounded"),
    [
        (encoded(gradient(), "JPEG"), True),
        (encoded(gradient(), "JPEG", progressive=True), True),  # of few pixels and scans
        (hostile.jpeg_of_scans(17, 64), False),
        (encoded(Image.new("L", (2_001, 2_000)), "JPEG", progressive=True), False),
        (encoded(gradient(), "PNG"), True),
        *((encoded(gradient(), kind), False) for kind in ("WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF")),
    ],
)
def test_bounded_when_pixels_bound_the_work(data: bytes, bounded: bool) -> None:
    assert header_of(data, Limits()).bounded is bounded


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF"])
@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_size_is_the_pictures(kind: str, width: int, height: int) -> None:
    header = header_of(encoded(Image.new("RGB", (width, height)), kind), Limits())
    assert (header.width, header.height) == (width, height)
    assert header.memory >= 3 * width * height


@given(
    st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.integers(0, 2_000),
)
def test_a_header_or_a_picture_error_when_mutated(kind: str, changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(encoded(gradient(), kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        header_of(bytes(data[:length]), Limits())
    except PictureError as error:
        assert "expected" in str(error)
