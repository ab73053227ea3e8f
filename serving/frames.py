"""Detections in the frames of a video, on the calling thread. Needs the extra `video` (PyAV)."""

import io
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count
from time import monotonic
from typing import NamedTuple, Self

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image
from pydantic import Field

from serving.answering import Parameters, Query, counts_of, predict_frame
from serving.decoding.pool import Decoding
from serving.drawing import annotate
from serving.errors import Refused
from serving.jobs import Content, Progress
from serving.responses import Frame, StoppedBy, VideoAnswer, VideoResult
from serving.settings import Settings
from serving.state import State
from serving.storage.detections import Tracked
from serving.tracking import LOWEST, Tracker

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

    Return the detections, and a video file with the boxes (empty without `drawn`); meanwhile `progress` says how far
    it is. Refused: not a video, damaged, frames that are too large, or too many other pictures at once.
    """
    result, out = VideoResult(width=0, height=0, every=every, frames=[]), io.BytesIO()
    try:
        with av.open(io.BytesIO(data), "r", format=_DEMUXER) as source:
            stream = next(iter(source.streams.video), None)
            if stream is None:
                raise Refused(415, f"the file has no pictures; {_EXPECTED}")
            memory = _memory(stream, drawn, limits.pixels, decoding.budget.limit)

            length = min(_seconds_of(stream) or limits.seconds, limits.seconds)

            def stopped(frames: int, seconds: float) -> StoppedBy:
                progress.frames, progress.share = frames, min(max(frames / limits.frames, seconds / length, 0.0), 1.0)
                if out.tell() > limits.drawn_bytes:
                    return "bytes"
                return "time" if progress.stop.is_set() or decoding.stopped() else None

            if not decoding.budget.take(memory, monotonic() + _WAIT_SECONDS):
                raise Refused(503, "too many large pictures at once; try again later")
            with decoding.budget.holding(memory):
                frames = _analysed(_decoded(source, stream), predict, limits, result, stopped)
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


def _seconds_of(stream: VideoStream) -> float:
    """Return the length that a file claims for its video; 0: none."""
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0


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
    limits: VideoLimits,
    result: VideoResult,
    stopped: Callable[[int, float], StoppedBy],
) -> Iterator[tuple[VideoFrame, list[Tracked]]]:
    """Fill the result; yield each frame with the latest detections.

    `stopped` is told the number of analysed frames and the time in the video, and may name a limit.
    """
    end = monotonic() + limits.work_seconds
    detections: list[Tracked] = []
    total = 0
    for index, (frame, seconds) in enumerate(frames):
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
        if due:
            image = _upright(frame)
            result.width, result.height = image.size
            detections = predict(image)
            total += len(detections)
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
