"""Pictures and films of one brightness, 0 to 255, for models that tell them apart (`tiny_model`)."""

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from PIL import Image

from tests.support.pictures import encoded


def shade(value: int, width: int = 64, height: int = 64) -> bytes:
    """The PNG of a picture of one brightness."""
    return encoded(Image.new("RGB", (width, height), (value,) * 3), "PNG")


def film(values: Iterable[int], size: tuple[int, int] = (64, 64), kind: str = "mp4", codec: str = "libx264") -> bytes:
    """A video with a frame of each brightness, 10 a second."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format=kind) as target:
        stream: Any = target.add_stream(codec, rate=Fraction(10))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for value in values:
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (value,) * 3))  # type: ignore[no-untyped-call]
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return out.getvalue()
