"""Route /detect/video: objects in the frames of a video. Needs the extra `video` (PyAV)."""

import asyncio
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from time import monotonic
from typing import Annotated, Literal

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from fastapi import APIRouter, Query, Request, Response
from PIL import Image
from pydantic import Field

from serving.answering import Options, counts_of, look, see_frame
from serving.drawing import annotate
from serving.errors import Refused
from serving.openapi import FILE, REFUSALS, form_body
from serving.responses import Frame, VideoAnswer
from serving.settings import Settings
from serving.state import Shared
from serving.storage.detections import Detection
from serving.upload import form
from serving.vision.picture import Picture

# A fixed demuxer, so that a file cannot select one that opens other files or addresses.
_DEMUXER = "mov"
_EXPECTED = "expected an mp4, mov or m4v video"
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
router = APIRouter(tags=["Detect"], responses=REFUSALS)
# One at a time: a video takes as long as hundreds of pictures, which must not wait for it.
_thread = ThreadPoolExecutor(1, thread_name_prefix="video")
_turn = asyncio.Semaphore(1)


class VideoOptions(Options):
    """What can be asked for."""

    every: int = Field(default=10, ge=1, le=1000, description="Look at one frame out of so many.")


@dataclass
class Result:
    """Detections so far."""

    frames: list[Frame] = field(default_factory=list)
    width: int = 0
    height: int = 0
    stopped_by: Literal["seconds", "frames", "time"] | None = None


@router.post(
    "/detect/video",
    openapi_extra=form_body({"file": {**FILE["file"], "description": "the video: mp4, mov or m4v"}}),
    response_model=VideoAnswer,
    responses={200: {"content": {"video/mp4": {}}}},
    summary="Find objects in a video",
)
async def detect_video(request: Request, state: Shared, options: Annotated[VideoOptions, Query()]) -> Response:
    """Send a video; get what is in every n-th of its frames, or the video with it drawn (`Accept: video/mp4`).

    Long videos are looked at from their beginning until a limit is reached, and the answer says so. In the drawn video
    boxes stay until the next frame that was looked at; it has no sound.
    """
    settings = state.settings
    model, batcher = state.model()
    how = look(state, model, options)
    if _turn.locked():
        raise Refused(503, "busy", "another video is being looked at; try again later")
    drawn = request.headers.get("accept", "").split(",")[0].strip().startswith("video/")
    async with _turn, form(request, settings.max_video_bytes, state.budget, settings.upload_seconds) as parts:
        files = [part for part in parts if part.name == "file" and part.filename is not None]
        if len(files) != 1:
            raise Refused(422, "invalid", f"the form has {len(files)} files in `file`; expected one video")
        see = partial(_see, lambda picture: see_frame(state, batcher, model, picture, how))
        work = partial(watch, files[0].data, see, options.every, settings, drawn)
        result, video = await asyncio.get_running_loop().run_in_executor(_thread, work)
    if drawn:
        headers = {"X-Complete": str(result.stopped_by is None).lower()}
        return Response(video, media_type="video/mp4", headers=headers)
    most: dict[str, int] = {}
    for frame in result.frames:
        for label, count in frame.counts.items():
            most[label] = max(count, most.get(label, 0))
    answer = VideoAnswer(
        request_id=request.state.request_id,
        model=model.name,
        width=result.width,
        height=result.height,
        every=options.every,
        complete=result.stopped_by is None,
        stopped_by=result.stopped_by,
        most=most,
        frames=result.frames,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def watch(
    data: bytes, see: Callable[[Image.Image], list[Detection]], every: int, settings: Settings, drawn: bool
) -> tuple[Result, bytes]:
    """Detect objects in every n-th frame until the end of the video or a limit.

    Args:
        data: the file.
        see: detector of one frame.
        every: n.
        drawn: whether to make a video with the boxes.
    Returns:
        The detections, and the new video file (empty without `drawn`).
    Raises:
        Refused: not a video, damaged, or frames that are too large.
    """
    result, out = Result(), io.BytesIO()
    try:
        with av.open(io.BytesIO(data), "r", format=_DEMUXER) as source:
            stream = next(iter(source.streams.video), None)
            if stream is None:
                raise Refused(415, "unsupported", f"the file has no pictures; {_EXPECTED}")
            upright = _frames(source, stream, settings.max_picture_pixels)
            shown = _look(upright, stream, see, every, settings, result)
            if drawn:
                _record(shown, out, stream.average_rate or Fraction(25))
            else:
                for _ in shown:
                    pass
    except (av.error.FFmpegError, ValueError) as error:
        if _is_video(data):
            raise Refused(400, "unreadable", f"damaged or truncated video; {_EXPECTED}") from error
        raise Refused(415, "unsupported", f"not a video of a known kind; {_EXPECTED}") from error
    return result, out.getvalue()


def _see(see: Callable[[Picture], list[Detection]], image: Image.Image) -> list[Detection]:
    return see(Picture(image, image.width, image.height, "VIDEO", 1, False))


def _is_video(data: bytes) -> bool:
    return data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


def _frames(source: InputContainer, stream: VideoStream, max_pixels: int) -> Iterator[tuple[VideoFrame, float]]:
    """Yield decoded frames and their times in seconds."""
    context = stream.codec_context
    if context.width * context.height > max_pixels:
        raise Refused(
            413,
            "too_large",
            f"frames of {context.width}x{context.height} pixels; expected at most {max_pixels:,} in all",
        )
    context.options = {"max_pixels": str(max_pixels)}  # the frame size may change inside a video
    context.thread_count = 1
    rate = float(stream.average_rate or 25)
    for index, frame in enumerate(source.decode(stream)):
        yield frame, index / rate if frame.time is None else frame.time


def _look(
    frames: Iterator[tuple[VideoFrame, float]],
    stream: VideoStream,
    see: Callable[[Image.Image], list[Detection]],
    every: int,
    settings: Settings,
    result: Result,
) -> Iterator[tuple[VideoFrame, list[Detection]]]:
    """Fill the result; yield each frame with the latest detections."""
    end = monotonic() + settings.video_work_seconds
    detections: list[Detection] = []
    for index, (frame, seconds) in enumerate(frames):
        if seconds > settings.max_video_seconds:
            result.stopped_by = "seconds"
        elif index % every == 0 and len(result.frames) >= settings.max_video_frames:
            result.stopped_by = "frames"
        elif monotonic() > end:
            result.stopped_by = "time"
        if result.stopped_by:
            return
        if index % every == 0:
            image = _upright(frame)
            result.width, result.height = image.size
            detections = see(image)
            result.frames.append(
                Frame(index=index, time_seconds=round(seconds, 3), detections=detections, counts=counts_of(detections))
            )
        yield frame, detections


def _upright(frame: VideoFrame) -> Image.Image:
    """Return a frame as players show it: phones store videos sideways, with a rotation in the metadata."""
    image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    turn = _TURNS.get(frame.rotation % 360)
    return image if turn is None else image.transpose(turn)


def _record(shown: Iterator[tuple[VideoFrame, list[Detection]]], out: io.BytesIO, rate: Fraction) -> None:
    """Write the frames with their boxes as an mp4 that browsers play."""
    with av.open(out, "w", format="mp4") as target:
        stream: VideoStream | None = None
        for frame, detections in shown:
            image = annotate(_upright(frame), detections)
            if stream is None:
                stream = target.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23"})
                stream.pix_fmt = "yuv420p"
                stream.width, stream.height = image.width // 2 * 2, image.height // 2 * 2
                stream.codec_context.thread_count = 1
            fitted = image.crop((0, 0, stream.width, stream.height))
            target.mux(stream.encode(VideoFrame.from_image(fitted)))  # type: ignore[no-untyped-call]
        if stream is not None:
            target.mux(stream.encode(None))
