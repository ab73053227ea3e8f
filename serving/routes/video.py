"""Route /detect/video: detections in the frames of a video. Needs the extra `video` (PyAV)."""

import asyncio
import io
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from fractions import Fraction
from itertools import count
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
from serving.decoding.pool import Decoding
from serving.drawing import annotate
from serving.errors import Refused
from serving.intake.upload import form, only_file
from serving.openapi import FILE, REFUSALS, VIDEO, form_body
from serving.responses import Frame, VideoAnswer, VideoResult
from serving.routes.detect import MayKeep
from serving.settings import Settings
from serving.state import Shared
from serving.storage.detections import Tracked
from serving.tracking import LOWEST, Tracker

T = TypeVar("T")
# A fixed demuxer, so that a file cannot select one that opens other files or addresses.
_DEMUXER = "mov"
_EXPECTED = "expected an mp4, mov or m4v video"
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
_WAIT_SECONDS = 10.0  # for memory
_INTRA_CODECS = ("mjpeg", "png", "prores", "dnxhd", "rawvideo", "jpeg2000")
_KEPT_FRAMES = 17  # that H.264 and HEVC may refer to, and the next one
_FRAME_BYTES, _DRAWN_BYTES = 16, 56  # a pixel: of the frame as RGB; of its copy with boxes, and of the encoder
# zerolatency: the encoder looks at no later frames, of which it would keep dozens.
_ENCODER = {"preset": "veryfast", "crf": "23", "tune": "zerolatency"}
router = APIRouter(tags=["Detect"], responses=REFUSALS)
# One at a time: a video takes as long as hundreds of pictures, which must not wait for it.
_turn = asyncio.Semaphore(1)


class VideoParameters(Parameters):
    """Parameters of a request for detections in a video."""

    every: int = Field(default=10, ge=1, le=1000, description="Analyse one frame out of this many.")
    tracks: bool = Field(
        default=False,
        description="Follow things from frame to frame, and number them. What moves far between two analysed frames "
        "gets a new number: choose a small `every`.",
    )


@router.post(
    "/detect/video",
    openapi_extra=form_body({"file": {**FILE["file"], "description": "the video: mp4, mov or m4v"}}),
    response_model=VideoAnswer,
    responses={200: VIDEO},
    summary="Find objects in a video",
)
async def detect_video(
    request: Request, state: Shared, parameters: Annotated[VideoParameters, fastapi.Query()], may_keep: MayKeep
) -> Response:
    """Send a video; get the detections in every n-th frame, or the video with boxes drawn (`Accept: video/mp4`).

    A long video is analysed from its beginning until a limit is reached, and the answer names the limit. In the drawn
    video a box stays until the next analysed frame; it has no sound. On this page, choose `video/mp4` as
    *Media type* under *Responses*.
    """
    settings = state.settings
    query = resolve(state, parameters, LOWEST if parameters.tracks else 1.0)
    tracker = Tracker() if parameters.tracks else None
    request.state.model = query.model.name
    _check_turn()
    drawn = request.headers.get("accept", "").split(",")[0].strip().startswith("video/")
    async with form(request, settings.max_video_bytes, state.uploads, settings) as parts:
        data = only_file(parts)
        _check_turn()  # the turn is taken by work, never by waiting for a body
        async with _turn:
            stop = threading.Event()
            frame_ids = (f"{request.state.request_id}-{number}" for number in count())
            work = asyncio.to_thread(
                analyse,
                data,
                lambda image: predict_frame(state, next(frame_ids) if may_keep else None, image, query, tracker),
                parameters.every,
                settings,
                drawn,
                stop,
                state.decoding,
            )
            result, video = await _unless_gone(request, work, stop)
    complete = result.stopped_by is None
    if drawn:
        return Response(video, media_type="video/mp4", headers={"X-Complete": str(complete).lower()})
    most: Counter[str] = Counter()
    for frame in result.frames:
        most |= Counter(frame.counts)
    things = {(each.track, each.label) for frame in result.frames for each in frame.detections}
    answer = VideoAnswer(
        request_id=request.state.request_id,
        model=query.model.name,
        complete=complete,
        most=most,
        tracks=Counter(label for _, label in sorted(things)) if tracker else None,
        **dict(result),
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
    predict: Callable[[Image.Image], list[Tracked]],
    every: int,
    settings: Settings,
    drawn: bool,
    stop: threading.Event,
    decoding: Decoding,
) -> tuple[VideoResult, bytes]:
    """Detect objects in every n-th frame until the end of the video, a limit, or until `stop` is set.

    Return the detections, and a video file with the boxes (empty without `drawn`). Refused: not a video, damaged,
    frames that are too large, or too many other pictures at once.
    """
    result, out = VideoResult(width=0, height=0, every=every, frames=[]), io.BytesIO()
    try:
        with av.open(io.BytesIO(data), "r", format=_DEMUXER) as source:
            stream = next(iter(source.streams.video), None)
            if stream is None:
                raise Refused(415, f"the file has no pictures; {_EXPECTED}")
            memory = _memory(stream, drawn, settings.max_picture_pixels, decoding.budget.limit)

            def stopped() -> bool:
                return stop.is_set() or decoding.stopped()

            if not decoding.budget.take(memory, monotonic() + _WAIT_SECONDS):
                raise Refused(503, "too many large pictures at once; try again later")
            with decoding.budget.holding(memory):
                frames = _analysed(_decoded(source, stream), predict, settings, result, stopped)
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


def _memory(stream: VideoStream, drawn: bool, max_pixels: int, limit: int) -> int:
    """Return the bytes that the analysis takes, measured with H.264 of 4K; or raise Refused: larger than a limit."""
    context = stream.codec_context
    width, height = context.width, context.height
    if width * height > max_pixels:
        raise Refused(413, f"frames of {width}x{height} pixels; expected at most {max_pixels:,} in all")
    planes = context.format.padded_bits_per_pixel / 8 if context.format else 6.0  # bytes a pixel
    frames = 1 if context.name in _INTRA_CODECS else _KEPT_FRAMES
    per_pixel = frames * planes + _FRAME_BYTES + (_DRAWN_BYTES if drawn else 0)
    memory = int(width * height * per_pixel)
    if memory > limit:
        raise Refused(
            413,
            f"frames of {width}x{height} pixels need {memory / 1e6:,.0f} MB{' to be drawn' if drawn else ''}; "
            f"expected at most {limit / 1e6:,.0f} MB, so send a smaller video",
        )
    return memory


def _decoded(source: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame, float]]:
    """Yield decoded frames and their times in seconds."""
    context = stream.codec_context
    # The frame size may change inside a video, but only to a smaller one; coded sizes are rounded up.
    context.options = {"max_pixels": str((context.width + 64) * (context.height + 64))}
    context.thread_count = 1
    rate = float(stream.average_rate or 25)
    for index, frame in enumerate(source.decode(stream)):
        yield frame, index / rate if frame.time is None else frame.time


def _analysed(
    frames: Iterator[tuple[VideoFrame, float]],
    predict: Callable[[Image.Image], list[Tracked]],
    settings: Settings,
    result: VideoResult,
    stopped: Callable[[], bool],
) -> Iterator[tuple[VideoFrame, list[Tracked]]]:
    """Fill the result; yield each frame with the latest detections."""
    end = monotonic() + settings.video_work_seconds
    detections: list[Tracked] = []
    for index, (frame, seconds) in enumerate(frames):
        due = index % result.every == 0
        if seconds > settings.max_video_seconds:
            result.stopped_by = "seconds"
        elif due and len(result.frames) >= settings.max_video_frames:
            result.stopped_by = "frames"
        elif monotonic() > end or stopped():
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


def _record(frames: Iterator[tuple[VideoFrame, list[Tracked]]], out: io.BytesIO, rate: Fraction) -> None:
    """Write the frames with their boxes as an mp4 that browsers play."""
    with av.open(out, "w", format="mp4") as target:
        stream: VideoStream | None = None
        for frame, detections in frames:
            image = annotate(_upright(frame), detections)
            if stream is None:
                stream = target.add_stream("libx264", rate=rate, options=_ENCODER)
                stream.pix_fmt = "yuv420p"
                stream.width, stream.height = image.width // 2 * 2, image.height // 2 * 2
                stream.codec_context.thread_count = 1
            fitted = image.crop((0, 0, stream.width, stream.height))
            target.mux(stream.encode(VideoFrame.from_image(fitted)))  # type: ignore[no-untyped-call]
        if stream is not None:
            target.mux(stream.encode(None))
