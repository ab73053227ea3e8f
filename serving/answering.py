"""Answer to one picture: the request's parameters, the detector's arrays, the prediction, and its capture."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import le
from time import perf_counter
from typing import Annotated, Any, NamedTuple, TypeVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from serving.decoding.pool import Elsewhere
from serving.decoding.program import Reply, fitting, read_picture
from serving.drawing import encode
from serving.errors import Refused
from serving.inference.batching import Batcher
from serving.inference.prediction import Prediction
from serving.responses import Result, Timings
from serving.state import State
from serving.storage.detections import Detection, Tracked, named
from serving.storage.model import Model
from serving.strategies import margin, reasons
from serving.tracking import Tracker
from serving.vision.detector import Detections, Options
from serving.vision.picture import Picture, PictureError, TooLargeError, UnreadableError, UnsupportedError

K = TypeVar("K")
T = TypeVar("T")
_FRAME_QUALITY = 95  # of the JPEG of a captured frame
_STATUS = {UnreadableError: 400, TooLargeError: 413, UnsupportedError: 415}


class Parameters(BaseModel):
    """Parameters of a request for detections."""

    model_config = ConfigDict(extra="forbid")

    confidence: Annotated[float, Field(ge=0, le=1)] | SkipJsonSchema[None] = Field(  # a query has no null
        default=None,
        description="Show only detections with a higher confidence, 0 to 1. Lower values show more objects and more "
        "mistakes, down to /model's `lowest_confidence`. Empty: the thresholds that were chosen when the model was "
        "measured (see /model).",
    )
    iou: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="Of two boxes of one class that overlap by more than this, 0 to 1, show only the more confident.",
    )
    max_detections: int = Field(default=300, ge=1, le=1000, description="Show at most this many, the most confident.")
    classes: list[str] = Field(
        default_factory=list, max_length=1000, description="Show only these classes. Empty: all."
    )


class Query(NamedTuple):
    """Parameters of a request, resolved for the loaded model."""

    model: Model
    batcher: Batcher
    options: Options
    thresholds: Sequence[float]  # confidence per class; a detection must be above it to be shown
    complete: bool  # all classes, down to the model's own thresholds or lower: the answer tells how well the model does
    margin: float  # confidence below the model's own thresholds that captures look at


def resolve(state: State, parameters: Parameters, unsure: float = 1.0) -> Query:
    """Resolve the parameters for the loaded model; raise Refused for an unknown class, or if no model is loaded.

    Detections down to a confidence of `unsure` are looked for, if not shown.
    """
    model, batcher = state.model()
    known = model.detector.classes
    if unknown := [name for name in parameters.classes if name not in known]:
        raise Refused(422, f"classes: the model has no class {unknown[0][:100]!r}; expected {known}")
    own, confidence = model.thresholds, parameters.confidence
    thresholds = list(own) if confidence is None else [confidence] * len(known)
    complete = not parameters.classes and all(map(le, thresholds, own))
    below = margin(state.settings.capture_strategies) if complete and state.captures.on else 0.0
    lowest = [max(0.0, min(asked, kept - below)) for asked, kept in zip(thresholds, own, strict=True)]
    options = Options(
        confidence=[min(each, unsure) for each in (lowest if complete else thresholds)],
        iou=parameters.iou,
        max_detections=parameters.max_detections,
        classes=[known.index(name) for name in parameters.classes] or None,
        max_pixels=state.settings.max_picture_pixels,
    )
    return Query(model, batcher, options, thresholds, complete, below)


async def predict(state: State, request_id: str, data: bytes, query: Query, since: float) -> Prediction:
    """Detect objects in one picture on a worker, and count it; raise Refused if it is no picture, or when too busy.

    `since` is perf_counter() when the request was complete.
    """

    def detect(picture: bytes | Reply) -> Detections:
        found = read_picture(picture) if isinstance(picture, Reply) else picture
        return query.batcher.detect(found, query.options)

    (detections, waited_ms), decode_ms = await decoded(state, data, detect, "fitted", fitting(query.model.detector))
    shown, almost = _split(detections, query)
    phases = {"waiting": waited_ms, **detections.timings._asdict()}
    phases["decode"] += decode_ms
    state.metrics.answered(_by_own_thresholds(shown, almost, query)[0], phases)
    if state.traces:
        state.traces.picture(phases)
    rounded = {phase: round(milliseconds, 2) for phase, milliseconds in phases.items()}
    result = Result(
        width=detections.width,
        height=detections.height,
        detections=shown,
        counts=counts_of(shown),
        timings_ms=Timings(**rounded, total=round((perf_counter() - since) * 1e3, 2)),
    )
    thresholds = dict(zip(query.model.detector.classes, query.thresholds, strict=True))
    return Prediction(request_id, data, query.model.name, result, almost, thresholds)


async def each_in_turn(state: State, items: Iterable[K], work: Callable[[int, K], Awaitable[T]]) -> list[T | Refused]:
    """Do work for each item and its number, as many at a time as there are workers: others have room in the queue.

    Refusals are counted, and returned; one is raised where all are of a server that is too busy.
    """
    turns = asyncio.Semaphore(state.workers.count)

    async def one(number: int, item: K) -> T | Refused:
        async with turns:
            try:
                return await work(number, item)
            except Refused as error:
                state.metrics.rejects.labels(error.reason).inc()
                return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number, item)) for number, item in enumerate(items)]
    results = [task.result() for task in tasks]
    busy = [each for each in results if isinstance(each, Refused) and each.status_code == 503]
    if busy and len(busy) == len(results):
        raise busy[0]
    return results


async def decoded(
    state: State,
    data: bytes,
    work: Callable[[bytes | Reply], T],
    task: str,
    arguments: Mapping[str, Any],
) -> tuple[tuple[T, float], float]:
    """Do work on a picture on a worker thread, which decodes it, or gets it decoded by a decoder process.

    Args:
        work: of the bytes of the file, or of the decoder's reply.
        task: for the decoder, with its arguments, see `serving.decoding.program`.
    Returns:
        What `Workers.run` returns, and the milliseconds that a decoder process took.
    Raises:
        Refused: no picture, too large, or too busy.
    """

    def here() -> T:
        with state.decoding.admitted(data, task):
            return work(data)

    try:
        try:
            return await state.workers.run(here), 0.0
        except Elsewhere as elsewhere:
            start = perf_counter()
            reply = await state.decoding.ask(elsewhere.header, task, data, **arguments)
            took_ms = (perf_counter() - start) * 1e3
        return await state.workers.run(lambda: work(reply)), took_ms
    except PictureError as error:
        raise Refused(_STATUS[type(error)], str(error)) from error


def predict_frame(
    state: State, request_id: str | None, image: Image.Image, query: Query, tracker: Tracker | None = None
) -> list[Tracked]:
    """Detect objects in one upright frame on the calling thread, count it, and offer it for capture as a picture.

    `request_id`: of the capture; None: it must not be captured. A tracker numbers the detections.
    """
    detections = query.batcher.detect(Picture(image, image.width, image.height, "VIDEO", 1, False), query.options)
    shown, unsure = _split(detections, query)
    almost = [each for each in unsure if query.thresholds[each.class_id] - each.confidence < query.margin]
    usual, near = _by_own_thresholds(shown, almost, query)
    state.metrics.answered(usual, detections.timings._asdict())
    selected = _selected(state, usual, near, query) if request_id else []
    if request_id and selected and state.captures.wants(image):
        timings = Timings(waiting=0, total=0, **detections.timings._asdict())
        size = {"width": detections.width, "height": detections.height}
        result = Result(**size, detections=usual, counts=counts_of(usual), timings_ms=timings)
        thresholds = dict(zip(query.model.detector.classes, query.model.thresholds, strict=True))
        jpeg = encode(image, "image/jpeg", _FRAME_QUALITY)
        state.captures.offer(Prediction(request_id, jpeg, query.model.name, result, near, thresholds), selected)
    return tracker.update(shown, unsure) if tracker else [Tracked(**dict(each)) for each in shown]


def _split(found: Detections, query: Query) -> tuple[list[Detection], list[Detection]]:
    """Return the detections above their class's threshold, and the rest."""
    shown: list[Detection] = []
    almost: list[Detection] = []
    detections = named(found, query.model.detector.classes)
    for detection, confidence in zip(detections, found.confidences.tolist(), strict=True):
        (shown if confidence > query.thresholds[detection.class_id] else almost).append(detection)
    return shown, almost


def _by_own_thresholds(
    shown: list[Detection], almost: Sequence[Detection], query: Query
) -> tuple[list[Detection], Sequence[Detection]]:
    """Return what the model's own thresholds show, and what is just below, where a complete request asked for lower."""
    own = query.model.thresholds
    if not query.complete or list(query.thresholds) == list(own):
        return shown, almost
    every = [*shown, *almost]
    usual = [each for each in every if each.confidence > own[each.class_id]]
    return usual, [each for each in every if 0 <= own[each.class_id] - each.confidence < query.margin]


def counts_of(detections: Sequence[Detection]) -> dict[str, int]:
    """Return the number of detections of each class, the most frequent first."""
    return dict(Counter(detection.label for detection in detections).most_common())


def remember(state: State, prediction: Prediction, query: Query) -> None:
    """Keep a prediction for feedback, and offer it for capture if a strategy selects it; never blocks, never raises."""
    shown, almost = _by_own_thresholds(prediction.result.detections, prediction.almost, query)
    if shown is not prediction.result.detections:
        result = prediction.result.model_copy(update={"detections": shown, "counts": counts_of(shown)})
        own = dict(zip(query.model.detector.classes, query.model.thresholds, strict=True))
        prediction = replace(prediction, result=result, almost=almost, thresholds=own)
    if state.captures.on:
        state.recent.add(prediction)
    selected = _selected(state, prediction.result.detections, prediction.almost, query)
    if query.complete and state.shadow.offer(prediction, query.options, selected):
        return  # it is captured when the challenger has seen it
    if selected:
        state.captures.offer(prediction, selected)


def _selected(state: State, shown: Sequence[Detection], almost: Sequence[Detection], query: Query) -> list[str]:
    """Return the capture strategies that select a prediction; none, where nothing is captured."""
    if not (state.captures.on and query.complete):
        return []
    detections = [*shown, *almost]
    confidences = [detection.confidence for detection in detections]
    thresholds = [query.model.thresholds[detection.class_id] for detection in detections]
    return reasons(state.settings.capture_strategies, confidences, thresholds)
