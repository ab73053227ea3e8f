"""Videos over HTTP."""

import io
from collections.abc import Callable
from fractions import Fraction

import pytest
from PIL import Image

from tests.support.servers import Server

av = pytest.importorskip("av")


def film() -> bytes:
    """25 frames, of which those from 10 on are bright."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for place in range(25):
            value = 250 if place >= 10 else 0
            target.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 64), (value,) * 3))))
        target.mux(stream.encode(None))
    return out.getvalue()


def test_detections_or_film_with_boxes_when_asked(server: Server, shade: Callable[..., bytes]) -> None:
    answer = server.post("/detect/video", film(), filename="film.mp4")
    content = answer.json()
    both = {"airplane": 1, "helicopter": 1}
    assert answer.status == 200
    assert [frame["counts"] for frame in content["frames"]] == [{"helicopter": 1}, both, both]
    assert (content["most"], content["complete"], content["stopped_by"]) == (both, True, None)
    assert (content["width"], content["height"], content["every"], content["model"]["name"]) == (64, 64, 10, "bright")
    drawn = server.post("/detect/video?every=5", film(), Accept="video/mp4")
    assert (drawn.status, drawn.headers["content-type"], drawn.headers["x-complete"]) == (200, "video/mp4", "true")
    with av.open(io.BytesIO(drawn.body)) as source:
        assert len(list(source.decode(video=0))) == 25
    assert server.post("/detect/video", shade(1)).status == 415
    assert server.post("/detect/video?every=0", b"").status == 422
