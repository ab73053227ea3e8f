"""Detections in the frames of a video, which a process decodes. Needs the extra `video` (PyAV)."""

import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import count
from math import ceil
from time import monotonic
from typing import Any, NamedTuple, Self

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image
from pydantic import Field

from serving.answering import Parameters, Query, counts_of, predict_frame
from serving.decoding.pool import Decoding
from serving.decoding.process import DecoderProcess, Ended
from serving.drawing import annotate
from serving.errors import Refused
from serving.jobs import Content, Progress
from serving.responses import Frame, StoppedBy, VideoAnswer, VideoResult
from serving.settings import Settings
from serving.state import State
from serving.storage.detections import Tracked
from serving.tracking import LOWEST, Tracker

_EXPECTED = "expected an mp4, mov or m4v video"
_WAIT_SECONDS = 10.0  # for memory
_INTRA_CODECS = ("mjpeg", "png", "prores", "dnxhd", "rawvideo", "jpeg2000")
_KEPT_FRAMES = 17  # that H.264 and HEVC may refer to, and the next one
_FRAME_BYTES, _DRAWN_BYTES = 20, 56  # a pixel: of the frame as RGB; of its copy with boxes, and of the encoder
_OPENING_BYTES = 128_000_000  # that a file may take until its frames are known, some of them decoded for that
_SLACK_BYTES = 48_000_000  # of address space, for what does not grow with the frames
# zerolatency: the encoder looks at no later frames, of which it would keep dozens.
_ENCODER = {"preset": "veryfast", "crf": "23", "tune": "zerolatency"}


class VideoParameters(Parameters):
    """Parameters of a request for detections in a video."""

    every: int = Field(default=10, ge=1, le=1000, description="Analyse one frame out of this many.")
    tracks: bool = Field(
        default=False,
        description="Follow things from frame to frame, and number them. What moves far between two analysed frames "
        "gets a new number: choose a small `every`.",
    )

    @property
    def unsure(self) -> float:
        """Confidence of the detections that are looked for, if not shown: see `answering.resolve`."""
        return LOWEST if self.tracks else 1.0


class Video(NamedTuple):
    """A video, and what is asked of it."""

    request_id: str
    data: bytes
    parameters: VideoParameters
    drawn: bool  # whether the answer is the video with boxes
    may_keep: bool  # whether its frames may become captures


class VideoLimits(NamedTuple):
    """How much of a video is analysed."""

    seconds: float  # length of its beginning
    frames: int
    work_seconds: float
    detections: int
    drawn_bytes: int
    pixels: int  # of a frame

    @classmethod
    def of_request(cls, settings: Settings) -> Self:
        """Return the limits where the sender waits for the answer."""
        return cls(
            seconds=settings.max_video_seconds,
            frames=settings.max_video_frames,
            work_seconds=settings.video_work_seconds,
            detections=settings.max_video_detections,
            drawn_bytes=settings.max_drawn_bytes,
            pixels=settings.max_picture_pixels,
        )

    @classmethod
    def of_job(cls, settings: Settings) -> Self:
        """Return the limits where nobody waits."""
        return cls.of_request(settings)._replace(
            seconds=settings.max_job_seconds, frames=settings.max_job_frames, work_seconds=settings.job_work_seconds
        )


def find_in(state: State, video: Video, query: Query, limits: VideoLimits, progress: Progress) -> tuple[Content, bool]:
    """Detect objects in a video; return the answer, and whether it is of the whole video; Refused as `analyse`."""
    parameters = video.parameters
    tracker = Tracker() if parameters.tracks else None
    frame_ids = (f"{video.request_id}-{number}" for number in count())

    def predict(image: Image.Image) -> list[Tracked]:
        return predict_frame(state, next(frame_ids) if video.may_keep else None, image, query, tracker)

    result, drawn = analyse(video.data, predict, parameters.every, limits, video.drawn, progress, state.decoding)
    complete = result.stopped_by is None
    if video.drawn:
        return Content(drawn, "video/mp4"), complete
    most: Counter[str] = Counter()
    for frame in result.frames:
        most |= Counter(frame.counts)
    things = {(each.track, each.label) for frame in result.frames for each in frame.detections}
    answer = VideoAnswer(
        request_id=video.request_id,
        model=query.model.name,
        complete=complete,
        most=most,
        tracks=Counter(label for _, label in sorted(things)) if tracker else None,
        **dict(result),
    )
    return Content(answer.model_dump_json().encode(), "application/json"), complete


def analyse(
    data: bytes,
    predict: Callable[[Image.Image], list[Tracked]],
    every: int,
    limits: VideoLimits,
    drawn: bool,
    progress: Progress,
    decoding: Decoding,
) -> tuple[VideoResult, bytes]:
    """Detect objects in every n-th frame until the end of the video, a limit, or until told to stop.

    A process of its own decodes the video, and is ended with it. Return the detections, and a video file with the boxes
    (empty without `drawn`); meanwhile `progress` says how far it is. Refused: not a video, damaged, frames that are too
    large, or too many other pictures at once.
    """
    result, out = VideoResult(width=0, height=0, every=every, frames=[]), io.BytesIO()

    def told() -> bool:
        return progress.stop.is_set() or decoding.stopped()

    asked = {"seconds": ceil(limits.work_seconds), "every": every, "drawn": drawn}
    opening = min(_OPENING_BYTES + len(data), decoding.budget.limit)
    try:
        with _taken(decoding, opening), _decoder() as process:
            process.tell(asked | {"memory": opening + _SLACK_BYTES}, data)
            facts = _checked(process.hear(monotonic() + limits.work_seconds, told), data)[0]
            memory = len(data) + _memory(facts, drawn, limits.pixels, decoding.budget.limit - len(data))
            length = min(facts["length"] or limits.seconds, limits.seconds)

            def stopped(frames: int, seconds: float) -> StoppedBy:
                progress.frames, progress.share = frames, min(max(frames / limits.frames, seconds / length, 0.0), 1.0)
                if out.tell() > limits.drawn_bytes:
                    return "bytes"
                return "time" if told() else None

            with _taken(decoding, max(0, memory - opening)):
                process.tell(asked | {"memory": memory + _SLACK_BYTES})
                end = monotonic() + limits.work_seconds
                decoded = _decoded(lambda: _checked(process.hear(end, told), data), result)
                frames = _analysed(decoded, predict, limits, end, result, stopped)
                if drawn:
                    _record(frames, out, Fraction(facts["rate"]))
                else:
                    for _ in frames:
                        pass
    except Ended as ended:
        decoding.count_ended(ended)
        if not _is_time(ended):
            raise Refused(400, f"the video cannot be decoded ({ended.reason}); {_EXPECTED}") from ended
        result.stopped_by = "time"
    return result, out.getvalue()


@contextmanager
def _taken(decoding: Decoding, memory: int) -> Iterator[None]:
    if not decoding.budget.take(memory, monotonic() + _WAIT_SECONDS):
        raise Refused(503, "too many large pictures at once; try again later")
    with decoding.budget.holding(memory):
        yield


@contextmanager
def _decoder() -> Iterator[DecoderProcess]:
    try:
        process = DecoderProcess("film")
    except OSError as error:
        raise Refused(503, "no decoder process could be started; try again later") from error
    try:
        yield process
    finally:
        process.kill()


def _checked(message: tuple[dict[str, Any], bytes], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return a message of the decoder, unless it is an error: then raise Refused."""
    match message[0].get("error"):
        case None:
            return message
        case "no pictures":
            raise Refused(415, f"the file has no pictures; {_EXPECTED}")
        case "memory":
            raise Refused(413, f"the video needs more memory than its frames should; {_EXPECTED} that is usual")
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"):
        raise Refused(400, f"damaged or truncated video; {_EXPECTED}")
    raise Refused(415, f"not a video of a known kind; {_EXPECTED}")


def _is_time(ended: Ended) -> bool:
    return ended.reason in ("time", "given_up")


def _memory(facts: dict[str, Any], drawn: bool, max_pixels: int, limit: int) -> int:
    """Return the bytes that the frames take, measured with H.264 of 4K; or raise Refused: larger than a limit."""
    width, height = facts["width"], facts["height"]
    if width * height > max_pixels:
        raise Refused(413, f"frames of {width}x{height} pixels; expected at most {max_pixels:,} in all")
    planes = (facts["bits"] or 48) / 8  # bytes a pixel
    frames = 1 if facts["codec"] in _INTRA_CODECS else _KEPT_FRAMES
    per_pixel = frames * planes + _FRAME_BYTES + (_DRAWN_BYTES if drawn else 0)
    memory = int(width * height * per_pixel)
    if memory > limit:
        raise Refused(
            413,
            f"frames of {width}x{height} pixels need {memory / 1e6:,.0f} MB{' to be drawn' if drawn else ''}; "
            f"expected at most {limit / 1e6:,.0f} MB, so send a smaller video",
        )
    return memory


def _decoded(
    hear: Callable[[], tuple[dict[str, Any], bytes]], result: VideoResult
) -> Iterator[tuple[Image.Image | None, float]]:
    """Yield upright frames, None where one is not asked for, and their times in seconds, until the end or a limit."""
    for number in count():
        try:
            facts, pixels = hear()
        except Ended as ended:
            if not _is_time(ended):
                raise
            result.stopped_by = "time"
            return
        if facts.get("ended"):
            if not number:
                raise Refused(400, f"the video has no frames; {_EXPECTED}")
            return
        yield Image.frombytes("RGB", tuple(facts["size"]), pixels) if pixels else None, facts["seconds"]


def _analysed(
    frames: Iterator[tuple[Image.Image | None, float]],
    predict: Callable[[Image.Image], list[Tracked]],
    limits: VideoLimits,
    end: float,
    result: VideoResult,
    stopped: Callable[[int, float], StoppedBy],
) -> Iterator[tuple[Image.Image | None, list[Tracked]]]:
    """Fill the result; yield each frame with the latest detections.

    `stopped` is told the number of analysed frames and the time in the video, and may name a limit.
    """
    detections: list[Tracked] = []
    total = 0
    for index, (image, seconds) in enumerate(frames):
        due = index % result.every == 0
        if seconds > limits.seconds:
            result.stopped_by = "seconds"
        elif due and len(result.frames) >= limits.frames:
            result.stopped_by = "frames"
        elif due and total >= limits.detections:
            result.stopped_by = "detections"
        elif monotonic() > end:
            result.stopped_by = "time"
        else:
            result.stopped_by = stopped(len(result.frames), seconds)
        if result.stopped_by:
            return
        if due and image:
            result.width, result.height = image.size
            detections = predict(image)
            total += len(detections)
            counts = counts_of(detections)
            result.frames.append(
                Frame(index=index, time_seconds=round(seconds, 3), detections=detections, counts=counts)
            )
        yield image, detections


def _record(frames: Iterator[tuple[Image.Image | None, list[Tracked]]], out: io.BytesIO, rate: Fraction) -> None:
    """Write the frames with their boxes as an mp4 that browsers play."""
    with av.open(out, "w", format="mp4") as target:
        stream: VideoStream | None = None
        for frame, detections in frames:
            assert frame is not None  # all are asked for
            image = annotate(frame, detections)
            if stream is None:
                stream = target.add_stream("libx264", rate=rate, options=_ENCODER)
                stream.pix_fmt = "yuv420p"
                stream.width, stream.height = image.width // 2 * 2, image.height // 2 * 2
                stream.codec_context.thread_count = 1
            fitted = image.crop((0, 0, stream.width, stream.height))
            target.mux(stream.encode(VideoFrame.from_image(fitted)))  # type: ignore[no-untyped-call]
        if stream is not None:
            target.mux(stream.encode(None))
