"""Route /detect/video: detections in the frames of a video. Needs the extra `video` (PyAV)."""

import asyncio
import io
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from fractions import Fraction
from time import monotonic
from typing import Annotated, Any, TypeVar

import av
import fastapi
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from fastapi import APIRouter, Request, Response
from PIL import Image
from pydantic import Field
from starlette.requests import ClientDisconnect

from serving.answering import Parameters, counts_of, predict_frame, resolve
from serving.drawing import annotate
from serving.errors import Refused
from serving.openapi import FILE, REFUSALS, VIDEO, form_body
from serving.responses import Frame, VideoAnswer, VideoResult
from serving.settings import Settings
from serving.state import Shared
from serving.storage.detections import Detection
from serving.upload import form, only_file

T = TypeVar("T")
# A fixed demuxer, so that a file cannot select one that opens other files or addresses.
_DEMUXER = "mov"
_EXPECTED = "expected an mp4, mov or m4v video"
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
router = APIRouter(tags=["Detect"], responses=REFUSALS)
# One at a time: a video takes as long as hundreds of pictures, which must not wait for it.
_turn = asyncio.Semaphore(1)


class VideoParameters(Parameters):
    """Parameters of a request for detections in a video."""

    every: int = Field(default=10, ge=1, le=1000, description="Analyse one frame out of this many.")


@router.post(
    "/detect/video",
    openapi_extra=form_body({"file": {**FILE["file"], "description": "the video: mp4, mov or m4v"}}),
    response_model=VideoAnswer,
    responses={200: VIDEO},
    summary="Find objects in a video",
)
async def detect_video(
    request: Request, state: Shared, parameters: Annotated[VideoParameters, fastapi.Query()]
) -> Response:
    """Send a video; get the detections in every n-th frame, or the video with boxes drawn (`Accept: video/mp4`).

    A long video is analysed from its beginning until a limit is reached, and the answer names the limit. In the drawn
    video a box stays until the next analysed frame; it has no sound. On this page, choose `video/mp4` as
    *Media type* under *Responses*.
    """
    settings = state.settings
    query = resolve(state, parameters)
    _check_turn()
    drawn = request.headers.get("accept", "").split(",")[0].strip().startswith("video/")
    async with form(request, settings.max_video_bytes, state.uploads, settings) as parts:
        data = only_file(parts)
        _check_turn()  # the turn is taken by work, never by waiting for a body
        async with _turn:
            stop = threading.Event()
            work = asyncio.to_thread(
                analyse,
                data,
                lambda image: predict_frame(state, image, query),
                parameters.every,
                settings,
                drawn,
                stop,
            )
            result, video = await _unless_gone(request, work, stop)
    complete = result.stopped_by is None
    if drawn:
        return Response(video, media_type="video/mp4", headers={"X-Complete": str(complete).lower()})
    most: Counter[str] = Counter()
    for frame in result.frames:
        most |= Counter(frame.counts)
    answer = VideoAnswer(
        request_id=request.state.request_id, model=query.model.name, complete=complete, most=most, **dict(result)
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def _check_turn() -> None:
    if _turn.locked():
        raise Refused(503, "another video is being analysed; try again later")


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T], stop: threading.Event) -> T:
    """Return what the work returns; if the sender hangs up, stop it, and raise ClientDisconnect once it has ended."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, waiting = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            stop.set()
            await asyncio.wait((task,))
            raise ClientDisconnect
        return task.result()
    finally:
        stop.set()
        waiting.cancel()


def analyse(
    data: bytes,
    predict: Callable[[Image.Image], list[Detection]],
    every: int,
    settings: Settings,
    drawn: bool,
    stop: threading.Event,
) -> tuple[VideoResult, bytes]:
    """Detect objects in every n-th frame until the end of the video, a limit, or until `stop` is set.

    Return the detections, and a video file with the boxes (empty without `drawn`). Refused: not a video, damaged, or
    frames that are too large.
    """
    result, out = VideoResult(width=0, height=0, every=every, frames=[]), io.BytesIO()
    try:
        with av.open(io.BytesIO(data), "r", format=_DEMUXER) as source:
            stream = next(iter(source.streams.video), None)
            if stream is None:
                raise Refused(415, f"the file has no pictures; {_EXPECTED}")
            frames = _analysed(_decoded(source, stream, settings.max_picture_pixels), predict, settings, result, stop)
            if drawn:
                _record(frames, out, stream.average_rate or Fraction(25))
            else:
                for _ in frames:
                    pass
    except (av.error.FFmpegError, ValueError) as error:
        if data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"):
            raise Refused(400, f"damaged or truncated video; {_EXPECTED}") from error
        raise Refused(415, f"not a video of a known kind; {_EXPECTED}") from error
    return result, out.getvalue()


def _decoded(source: InputContainer, stream: VideoStream, max_pixels: int) -> Iterator[tuple[VideoFrame, float]]:
    """Yield decoded frames and their times in seconds."""
    context = stream.codec_context
    width, height = context.width, context.height
    if width * height > max_pixels:
        raise Refused(413, f"frames of {width}x{height} pixels; expected at most {max_pixels:,} in all")
    context.options = {"max_pixels": str(max_pixels)}  # the frame size may change inside a video
    context.thread_count = 1
    rate = float(stream.average_rate or 25)
    for index, frame in enumerate(source.decode(stream)):
        yield frame, index / rate if frame.time is None else frame.time


def _analysed(
    frames: Iterator[tuple[VideoFrame, float]],
    predict: Callable[[Image.Image], list[Detection]],
    settings: Settings,
    result: VideoResult,
    stop: threading.Event,
) -> Iterator[tuple[VideoFrame, list[Detection]]]:
    """Fill the result; yield each frame with the latest detections."""
    end = monotonic() + settings.video_work_seconds
    detections: list[Detection] = []
    for index, (frame, seconds) in enumerate(frames):
        due = index % result.every == 0
        if seconds > settings.max_video_seconds:
            result.stopped_by = "seconds"
        elif due and len(result.frames) >= settings.max_video_frames:
            result.stopped_by = "frames"
        elif monotonic() > end or stop.is_set():
            result.stopped_by = "time"
        if result.stopped_by:
            return
        if due:
            image = _upright(frame)
            result.width, result.height = image.size
            detections = predict(image)
            counts = counts_of(detections)
            result.frames.append(
                Frame(index=index, time_seconds=round(seconds, 3), detections=detections, counts=counts)
            )
        yield frame, detections


def _upright(frame: VideoFrame) -> Image.Image:
    """Return a frame as players show it: phones store videos sideways, with a rotation in the metadata."""
    image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    turn = _TURNS.get(frame.rotation % 360)
    return image if turn is None else image.transpose(turn)


def _record(frames: Iterator[tuple[VideoFrame, list[Detection]]], out: io.BytesIO, rate: Fraction) -> None:
    """Write the frames with their boxes as an mp4 that browsers play."""
    with av.open(out, "w", format="mp4") as target:
        stream: VideoStream | None = None
        for frame, detections in frames:
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
