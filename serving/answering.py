"""Answer to one picture: the request's options, the detector's arrays, and the response types."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from serving.batching import Batcher
from serving.capture import Capture
from serving.errors import Refused, refusal
from serving.responses import Found, Timings
from serving.state import State
from serving.storage.detections import Box, Detection
from serving.storage.model import Model
from serving.strategies import margin, reasons
from serving.vision.detector import Detections, Wanted
from serving.vision.picture import Picture, PictureError


class Options(BaseModel):
    """What can be asked for."""

    model_config = ConfigDict(extra="forbid")

    confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Show only what the model is surer of than this, 0 to 1. Leave it empty for the thresholds that "
        "were chosen when the model was measured (see /model). Lower finds more, and more that is wrong.",
    )
    iou: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="Of two boxes of one class that overlap by more than this (0 to 1), only the surer one is shown.",
    )
    max_detections: int = Field(default=300, ge=1, le=1000, description="At most so many, the surest first.")
    classes: list[str] = Field(
        default_factory=list, max_length=1000, description="Look for these classes only; empty for all."
    )


Asked = Annotated[Options, Query()]


@dataclass(frozen=True)
class Look:
    """Options of a request, resolved for a model.

    Attributes:
        wanted: arguments of the detector.
        thresholds: confidence per class; a detection must be above it to be shown.
        usual: the model's own thresholds and all classes, so that the answer tells how well the model does.
    """

    wanted: Wanted
    thresholds: Sequence[float]
    usual: bool


def look(state: State, model: Model, options: Options) -> Look:
    """Resolve the options for a model; raise Refused for a class that the model does not have."""
    known = model.detector.classes
    if unknown := [name for name in options.classes if name not in known]:
        raise Refused(422, "invalid", f"classes: {unknown[0][:100]!r} is no class of this model; expected {known}")
    usual = options.confidence is None and not options.classes
    thresholds = list(model.thresholds) if options.confidence is None else [options.confidence] * len(known)
    below = margin(state.settings.capture_strategies) if usual and state.capturer.on else 0.0
    wanted = Wanted(
        confidence=[max(0.0, threshold - below) for threshold in thresholds],
        iou=options.iou,
        max_detections=options.max_detections,
        max_pixels=state.settings.max_picture_pixels,
    )
    if options.classes:
        wanted["classes"] = [known.index(name) for name in options.classes]
    return Look(wanted, thresholds, usual)


@dataclass(frozen=True)
class Seen:
    """Answer to one picture, and the detections just below their threshold."""

    found: Found
    almost: list[Detection]


async def see(state: State, data: bytes, how: Look, since: float) -> Seen:
    """Detect objects in one picture on a worker, and count it.

    Args:
        data: the file.
        since: perf_counter() when the request was complete.
    Raises:
        Refused: not a picture, or too busy.
    """
    model, batcher = state.model()
    try:
        detections, waited_ms = await state.workers.run(partial(batcher.detect, data, **how.wanted))
    except PictureError as error:
        raise refusal(error) from error
    shown, almost = detections_of(detections, model, how.thresholds)
    phases = {"waiting": waited_ms, **detections.timings._asdict()}
    state.metrics.answered(shown, phases)
    rounded = {phase: round(milliseconds, 2) for phase, milliseconds in phases.items()}
    return Seen(
        Found(
            width=detections.width,
            height=detections.height,
            detections=shown,
            counts=counts_of(shown),
            timings_ms=Timings(**rounded, total=round((perf_counter() - since) * 1e3, 2)),
        ),
        almost,
    )


def see_frame(state: State, batcher: Batcher, model: Model, picture: Picture, how: Look) -> list[Detection]:
    """Detect objects in one decoded frame on the calling thread, and count it."""
    detections = batcher.detect(picture, **how.wanted)
    shown, _ = detections_of(detections, model, how.thresholds)
    state.metrics.answered(shown, detections.timings._asdict())
    return shown


def detections_of(
    found: Detections, model: Model, thresholds: Sequence[float]
) -> tuple[list[Detection], list[Detection]]:
    """Return the detections above their class's threshold, and the rest."""
    shown: list[Detection] = []
    almost: list[Detection] = []
    rows = zip(found.boxes_xyxy_px.tolist(), found.confidences.tolist(), found.class_ids.tolist(), strict=True)
    for (x1, y1, x2, y2), confidence, class_id in rows:
        detection = Detection(
            label=model.detector.classes[class_id],
            class_id=class_id,
            confidence=round(confidence, 4),
            box=Box(x1=round(x1, 2), y1=round(y1, 2), x2=round(x2, 2), y2=round(y2, 2)),
        )
        (shown if confidence > thresholds[class_id] else almost).append(detection)
    return shown, almost


def counts_of(detections: Sequence[Detection]) -> dict[str, int]:
    """Return the number of detections of each class, the most frequent first."""
    return dict(Counter(detection.label for detection in detections).most_common())


def remember(state: State, model: Model, request_id: str, data: bytes, seen: Seen, how: Look) -> None:
    """Give an answered picture to capture if that is on; never blocks, never raises."""
    if not state.capturer.on:
        return
    capture = Capture(
        request_id=request_id,
        data=data,
        model=model.name,
        width=seen.found.width,
        height=seen.found.height,
        detections=[*seen.found.detections, *seen.almost],
        almost=len(seen.almost),
        thresholds=dict(zip(model.detector.classes, how.thresholds, strict=True)),
    )
    state.capturer.recent.add(capture)
    if how.usual:
        confidences = [detection.confidence for detection in capture.detections]
        thresholds = [how.thresholds[detection.class_id] for detection in capture.detections]
        if asked := reasons(state.settings.capture_strategies, confidences, thresholds):
            state.capturer.offer(capture, asked)
