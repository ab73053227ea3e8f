"""Route for feedback: corrections of an answer, stored for the next dataset."""

import asyncio
import re
from datetime import UTC, datetime
from time import perf_counter
from typing import Literal, cast, get_args

from fastapi import APIRouter, Request
from pydantic import TypeAdapter, ValidationError

from serving.answering import Options, Seen, look, see
from serving.capture import Capture
from serving.errors import Refused
from serving.openapi import REFUSALS, form_body
from serving.responses import FeedbackAnswer
from serving.state import Shared, State
from serving.storage.detections import RightBox
from serving.storage.model import Model
from serving.storage.objects import StorageError
from serving.upload import Part, form

Verdict = Literal["missed", "wrong", "correct"]
_BOXES = TypeAdapter(list[RightBox])
_REQUEST_ID = "[0-9a-f]{32}(-[0-9]{1,4})?"
_MAX_BOXES = 1_000
_MAX_TEXT = 2_000
_EXAMPLE = '[{"label": "helicopter", "box": {"x1": 120, "y1": 40, "x2": 380, "y2": 210}}]'
_FIELDS = {
    "request_id": {
        "type": "string",
        "pattern": f"^{_REQUEST_ID}$",
        "description": "of the answer that this is about",
    },
    "verdict": {"type": "string", "enum": list(get_args(Verdict)), "description": "what the answer was"},
    "boxes": {
        "type": "string",
        "description": f"how it should have been, all objects in the picture, as JSON: {_EXAMPLE}. May be left out",
    },
    "comment": {"type": "string", "maxLength": _MAX_TEXT, "description": "for the annotators. May be left out"},
    "file": {
        "type": "string",
        "format": "binary",
        "description": "the picture; only when an earlier answer said `picture: needed`",
    },
}
router = APIRouter(tags=["Feedback"])


@router.post(
    "/feedback",
    openapi_extra=form_body(_FIELDS, ["request_id", "verdict"]),
    responses={**REFUSALS, 409: {**REFUSALS[400], "description": "This server keeps nothing (CAPTURE_URI is not set)"}},
    summary="Say what was missed or wrong",
)
async def feedback(request: Request, state: Shared) -> FeedbackAnswer:
    """Your verdict is kept together with the picture, and annotators see it: the next model learns from it.

    If the answer says `picture: needed`, the server no longer has the picture: send the same once more, with `file`.
    """
    model, _ = state.model()
    if not state.capturer.on:
        raise Refused(409, "invalid", "this server keeps no pictures; ask whoever runs it to set CAPTURE_URI")
    settings = state.settings
    async with form(request, settings.max_picture_bytes, state.budget, settings.upload_seconds) as parts:
        fields = {part.name: part for part in parts}
        request_id = _matching(fields, "request_id", _REQUEST_ID)
        verdict = cast(Verdict, _matching(fields, "verdict", "|".join(get_args(Verdict))))
        boxes = _boxes(_text(fields, "boxes", settings.max_picture_bytes), model)
        comment = _text(fields, "comment", _MAX_TEXT)
        sent = fields.get("file")
        capture = state.capturer.recent.get(request_id)
        if capture is None and sent is not None and sent.data:
            capture = await _looked_at(state, model, request_id, sent)
    time = datetime.now(UTC)
    content = {
        "request_id": request_id,
        "time": time.isoformat(timespec="milliseconds"),
        "verdict": verdict,
        "boxes": None if boxes is None else [box.model_dump() for box in boxes],
        "comment": comment or None,
        "model": (capture.model if capture else model.name).model_dump(),
        "picture": "kept" if capture else "needed",
    }
    try:
        if capture:
            await asyncio.to_thread(state.capturer.keep, capture, ["feedback"])
        name, when = (capture.model, capture.time) if capture else (model.name, time)
        await asyncio.to_thread(state.capturer.keep_feedback, request_id, name, when, content)
    except StorageError as error:
        raise Refused(503, "busy", "the verdict could not be kept now; try again later") from error
    state.metrics.feedback.labels(verdict).inc()
    return FeedbackAnswer(request_id=request_id, verdict=verdict, picture="kept" if capture else "needed")


async def _looked_at(state: State, model: Model, request_id: str, part: Part) -> Capture:
    how = look(state, model, Options())
    seen: Seen = await see(state, part.data, how, perf_counter())
    return Capture(
        request_id=request_id,
        data=part.data,
        model=model.name,
        width=seen.found.width,
        height=seen.found.height,
        detections=[*seen.found.detections, *seen.almost],
        almost=len(seen.almost),
        thresholds=dict(zip(model.detector.classes, how.thresholds, strict=True)),
    )


def _matching(fields: dict[str, Part], name: str, pattern: str) -> str:
    text = _text(fields, name, 100)
    if not re.fullmatch(pattern, text):
        raise Refused(422, "invalid", f"{name} is {text[:100]!r}; expected {pattern}")
    return text


def _text(fields: dict[str, Part], name: str, limit: int) -> str:
    part = fields.get(name)
    if part is None:
        return ""
    if len(part.data) > limit:
        raise Refused(422, "invalid", f"{name} has {len(part.data)} bytes; expected at most {limit}")
    try:
        return part.data.decode()
    except UnicodeDecodeError as error:
        raise Refused(422, "invalid", f"{name} is no UTF-8 text") from error


def _boxes(text: str, model: Model) -> list[RightBox] | None:
    if not text.strip():
        return None
    try:
        boxes = _BOXES.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(422, "invalid", f"boxes: {where} {first['msg']}; expected JSON like {_EXAMPLE}") from error
    for box in boxes:
        corners = box.box
        if box.label not in model.detector.classes:
            known = model.detector.classes
            raise Refused(422, "invalid", f"boxes: {box.label[:100]!r} is no class of this model; expected {known}")
        if not (0 <= corners.x1 < corners.x2 <= 1e6 and 0 <= corners.y1 < corners.y2 <= 1e6):
            raise Refused(422, "invalid", f"boxes: {corners}; expected 0 <= x1 < x2 and 0 <= y1 < y2, in pixels")
    if len(boxes) > _MAX_BOXES:
        raise Refused(422, "invalid", f"{len(boxes)} boxes; expected at most {_MAX_BOXES}")
    return boxes
