"""Videos over HTTP."""

from tests.support.servers import Server
from tests.support.shades import film, shade


def test_detections_or_film_with_boxes_when_asked(server: Server) -> None:
    video = film([0] * 10 + [250] * 15)
    answer = server.post("/detect/video", video, filename="film.mp4")
    content = answer.json()
    both = {"airplane": 1, "helicopter": 1}
    assert answer.status == 200
    assert [frame["counts"] for frame in content["frames"]] == [{"helicopter": 1}, both, both]
    assert (content["most"], content["complete"], content["stopped_by"]) == (both, True, None)
    assert (content["width"], content["height"], content["every"], content["model"]["name"]) == (64, 64, 10, "bright")
    drawn = server.post("/detect/video?every=5", video, Accept="video/mp4")
    assert (drawn.status, drawn.headers["content-type"], drawn.headers["x-complete"]) == (200, "video/mp4", "true")
    assert drawn.body[4:8] == b"ftyp"
    assert server.post("/detect/video", shade(1)).status == 415
    assert server.post("/detect/video?every=0", b"").status == 422
