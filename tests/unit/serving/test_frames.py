import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from serving.decoding.pool import Decoding
from serving.errors import Refused
from serving.frames import VideoLimits, analyse
from serving.jobs import Progress
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.storage.detections import Box, Tracked
from tests.support.hostile import jpeg_of_scans, mov_of
from tests.support.pictures import encoded
from tests.support.shades import film

FILM = film(range(0, 250, 10), (64, 48))  # each frame brighter than the one before


def predict(image: Image.Image) -> list[Tracked]:
    """A detection whose confidence is the frame's brightness."""
    value = image.convert("L").getpixel((0, 0))
    assert isinstance(value, int)
    return [Tracked(label="a", class_id=0, confidence=value / 255, box=Box(x1=1, y1=1, x2=9, y2=9))]


def analysed(
    data: bytes, every: int = 10, drawn: bool = False, decoding: Decoding | None = None, **limits: Any
) -> tuple[Any, bytes]:
    settings = Settings(**limits)
    decoding = decoding or Decoding(settings, Metrics())
    return analyse(data, predict, every, VideoLimits.of_request(settings), drawn, Progress(), decoding)


@pytest.mark.parametrize("kind", ["mp4", "mov"])
def test_every_tenth_frame_when_asked(kind: str) -> None:
    result, video = analysed(film(range(0, 250, 10), (64, 48), kind))
    assert [frame.index for frame in result.frames] == [0, 10, 20]
    assert [frame.time_seconds for frame in result.frames] == [0, 1, 2]
    assert [frame.detections[0].confidence for frame in result.frames] == pytest.approx([0, 0.4, 0.8], abs=0.05)
    assert (result.width, result.height, result.stopped_by, video) == (64, 48, None, b"")


@pytest.mark.parametrize(
    ("limits", "by", "frames"),
    [
        ({"max_video_seconds": 1}, "seconds", 11),
        ({"max_video_frames": 3}, "frames", 3),
        ({"video_work_seconds": 1e-9}, "time", 0),
        ({"max_video_detections": 4}, "detections", 4),
    ],
)
def test_stopped_and_said_when_at_a_limit(limits: dict[str, Any], by: str, frames: int) -> None:
    result, _ = analysed(FILM, every=1, **limits)
    assert (result.stopped_by, len(result.frames)) == (by, frames)


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (lambda: mov_of([b"x"], samples=60_000_000), {400, 413}),  # 700 bytes, of which an index of 2 GB is made
        (lambda: mov_of([encoded(Image.new("RGB", (9_000, 9_000)), "PNG")]), {413}),  # decoded while it is opened
    ],
)
def test_refused_without_its_memory_in_this_process_when_it_asks_for_much(
    data: Callable[[], bytes], statuses: set[int]
) -> None:
    sent, decoding = data(), Decoding(Settings(), Metrics())
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    resting = memory_mb("VmHWM")
    with pytest.raises(Refused) as caught:
        analysed(sent, decoding=decoding)
    assert caught.value.status_code in statuses
    assert memory_mb("VmHWM") < resting + 100
    assert decoding.budget.held == 0


def test_ended_in_time_when_one_frame_takes_too_long() -> None:
    frame = jpeg_of_scans(20_000, 4_000)  # minutes of work
    result, _ = analysed(mov_of([frame], codec=b"jpeg"), video_work_seconds=0.5)
    assert (result.stopped_by, result.frames) == ("time", [])


def memory_mb(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def test_memory_is_given_back_and_more_is_taken_when_drawn() -> None:
    decoding = Decoding(Settings(decode_memory_bytes=200_000), Metrics())
    result, _ = analysed(FILM, decoding=decoding)
    assert (len(result.frames), decoding.budget.held) == (3, 0)
    with pytest.raises(Refused, match="to be drawn"):
        analysed(FILM, drawn=True, decoding=decoding)


def test_ends_at_the_next_frame_when_the_server_has_stopped() -> None:
    decoding = Decoding(Settings(), Metrics())
    decoding.stop()
    result, _ = analysed(FILM, decoding=decoding)
    assert (result.stopped_by, result.frames) == ("time", [])


@pytest.mark.parametrize(
    ("limits", "shares"),
    [({}, [0, 0.4, 0.8]), ({"max_job_seconds": 2}, [0, 0.5, 1]), ({"max_job_frames": 2}, [0, 0.5])],
)
def test_progress_told_while_it_works(limits: dict[str, Any], shares: list[float]) -> None:
    progress, seen, settings = Progress(), [], Settings(**limits)

    def noting(image: Image.Image) -> list[Tracked]:
        seen.append((progress.frames, progress.share))
        return predict(image)

    analyse(FILM, noting, 10, VideoLimits.of_job(settings), False, progress, Decoding(settings, Metrics()))
    assert [frames for frames, _ in seen] == list(range(len(shares)))
    assert [share for _, share in seen] == pytest.approx(shares)


def test_ended_and_playable_when_the_drawn_video_becomes_too_large() -> None:
    result, video = analysed(film(range(0, 250, 2), (640, 480)), drawn=True, max_drawn_bytes=1_000)
    assert result.stopped_by == "bytes" and len(video) < 20_000
    with av.open(io.BytesIO(video), "r") as source:
        assert 0 < len(list(source.decode(video=0))) < 125


def test_played_with_boxes_when_drawn() -> None:
    _, video = analysed(film(range(0, 250, 10), (640, 480)), drawn=True)
    with av.open(io.BytesIO(video), "r") as source:
        images = [frame.to_image() for frame in source.decode(video=0)]  # type: ignore[no-untyped-call]
    assert len(images) == 25
    assert images[0].size == (640, 480)
    assert len(images[20].getcolors(1_000_000)) > 3


@pytest.mark.parametrize(
    ("data", "limits", "status"),
    [
        (FILM, {"max_picture_pixels": 1_000}, 413),
        (FILM, {"decode_memory_bytes": 100_000}, 413),  # 64 x 48 pixels, of 45 bytes each
        (b"", {}, 415),
        (b"no video", {}, 415),
        (b"#EXTM3U\n#EXT-X-VERSION:3\nfile:///etc/passwd\n", {}, 415),
        (FILM[:400], {}, 400),
        (FILM[:-300], {}, 400),
    ],
)
def test_refused_when_no_whole_video_or_too_large(data: bytes, limits: dict[str, Any], status: int) -> None:
    with pytest.raises(Refused) as caught:
        analysed(data, **limits)
    assert caught.value.status_code == status
