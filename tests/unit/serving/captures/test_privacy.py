import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serving.captures.privacy import without_metadata

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
SECRETS = (b"Jane Doe", b"52.5200", b"a comment", b"http://ns.adobe.com/xap", b"Photoshop", b"preview", b"MPF")


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def jpeg(image: Image.Image = NOISE, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def tagged(**options: Any) -> bytes:
    """A JPEG with all that may be in one."""
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"
    exif.get_ifd(0x8825)[2] = (52.52, 0.0, 0.0)
    plain = jpeg(exif=exif, comment=b"a comment", **options)
    more = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>Jane Doe</x>") + segment(0xED, b"Photoshop 3.0\0Jane Doe")
    more += segment(0xE0, b"JFXX\0\x10preview") + segment(0xE2, b"MPF\0 52.5200") + segment(0xEB, b"HDR Jane Doe")
    more += b"\xff\xff\xff" + segment(0xFE, b"Jane Doe")
    return plain[:2] + more + plain[2:] + b"Jane Doe" + jpeg(exif=exif)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"quality": 100, "subsampling": 0},
        {"optimize": True, "restart_marker_blocks": 1},
        {"icc_profile": b"colours" * 20_000},
    ],
)
def test_same_pixels_and_no_word_more_when_a_camera_wrote_all_it_knows(options: dict[str, Any]) -> None:
    data = tagged(**options)
    assert all(secret in data for secret in SECRETS if secret != b"52.5200")
    clean = without_metadata(data)
    assert not [secret for secret in SECRETS if secret in clean]
    image = Image.open(io.BytesIO(clean))
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(jpeg(**options)))))
    assert dict(image.getexif()) == {}
    assert image.info.get("icc_profile") == options.get("icc_profile")
    assert clean.endswith(b"\xff\xd9") and without_metadata(clean) == clean


@pytest.mark.parametrize("image", [NOISE.convert("L"), NOISE.convert("CMYK")])
def test_same_pixels_when_not_rgb(image: Image.Image) -> None:
    data = jpeg(image)
    assert without_metadata(data) == data


@given(st.binary(max_size=40), st.integers(0, 400))
def test_value_error_or_less_when_damaged(junk: bytes, place: int) -> None:
    data = jpeg()
    damaged = data[:place] + junk + data[place + len(junk) :]
    with contextlib.suppress(ValueError):
        assert len(without_metadata(damaged)) <= len(damaged)


@pytest.mark.parametrize("length", [0, 1, 2, 20, 300, 700])
def test_value_error_when_cut(length: int) -> None:
    with pytest.raises(ValueError, match="JPEG"):
        without_metadata(jpeg()[:length])
