"""Route for feedback: corrections of an answer, stored for the next dataset."""

import asyncio
from datetime import UTC, datetime
from time import perf_counter
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, Json, ValidationError, WithJsonSchema, field_validator

from serving.answering import Parameters, predict, resolve
from serving.errors import Refused
from serving.openapi import FILE, REFUSALS, form_body
from serving.responses import FeedbackAnswer, Verdict
from serving.state import Shared
from serving.storage.detections import RightBox
from serving.storage.objects import StorageError
from serving.upload import Part, form

_EXAMPLE = '[{"label": "helicopter", "box": {"x1": 120, "y1": 40, "x2": 380, "y2": 210}}]'
_BOXES = f"All objects in the picture with their right boxes, as JSON: {_EXAMPLE}. Optional"
_FILE = {"file": {**FILE["file"], "description": "The picture; only if an earlier answer had `picture: needed`"}}
_Boxes = Json[Annotated[list[RightBox], Field(max_length=1_000)]]


class Feedback(BaseModel):
    """Fields of the form."""

    request_id: str = Field(pattern="^[0-9a-f]{32}(-[0-9]{1,4})?$", description="Of the answer in question")
    verdict: Verdict = Field(description="Judgement of the answer")
    boxes: Annotated[_Boxes | None, WithJsonSchema({"type": "string", "description": _BOXES})] = None
    comment: str = Field(default="", max_length=2_000, description="For the annotators. Optional")

    @field_validator("boxes")
    @classmethod
    def _ordered(cls, boxes: list[RightBox] | None) -> list[RightBox] | None:
        for box in (right.box for right in boxes or []):
            if not (0 <= box.x1 < box.x2 <= 1e6 and 0 <= box.y1 < box.y2 <= 1e6):
                raise ValueError(f"found {box}; expected 0 <= x1 < x2 and 0 <= y1 < y2, in pixels")
        return boxes


router = APIRouter(tags=["Feedback"])


@router.post(
    "/feedback",
    openapi_extra=form_body(Feedback.model_json_schema()["properties"] | _FILE, ["request_id", "verdict"]),
    responses={
        **REFUSALS,
        409: {**REFUSALS[400], "description": "The server keeps no pictures: CAPTURE_URI is not set"},
    },
    summary="Report what was missed or wrong",
)
async def feedback(request: Request, state: Shared) -> FeedbackAnswer:
    """Your verdict is stored with the picture; annotators see it, and the next model learns from it.

    If the answer has `picture: needed`, the server no longer has the picture: send the same again, with `file`.
    """
    model, _ = state.model()
    if not state.captures.on:
        raise Refused(409, "this server keeps no pictures; ask its operator to set CAPTURE_URI")
    settings = state.settings
    async with form(request, settings.max_picture_bytes, state.budget, settings.upload_seconds) as parts:
        sent = _parse(parts, model.detector.classes)
        picture = next((part.data for part in parts if part.name == "file"), b"")
        prediction = state.recent.get(sent.request_id)
        if prediction is None and picture:
            prediction = await predict(state, sent.request_id, picture, resolve(state, Parameters()), perf_counter())
    now = datetime.now(UTC)
    name, time = (prediction.model, prediction.time) if prediction else (model.name, now)
    answer = FeedbackAnswer(
        request_id=sent.request_id, verdict=sent.verdict, picture="kept" if prediction else "needed"
    )
    content = {
        **sent.model_dump(),
        "comment": sent.comment or None,
        "time": now.isoformat(timespec="milliseconds"),
        "model": name.model_dump(),
        "picture": answer.picture,
    }
    try:
        if prediction:
            await asyncio.to_thread(state.captures.keep, prediction, ["feedback"])
        await asyncio.to_thread(state.captures.keep_feedback, sent.request_id, name, time, content)
    except StorageError as error:
        raise Refused(503, "the feedback could not be stored; try again later") from error
    state.metrics.feedback.labels(sent.verdict).inc()
    return answer


def _parse(parts: list[Part], classes: list[str]) -> Feedback:
    try:
        fields = {part.name: part.data.decode() for part in parts if part.name != "file" and part.data.strip()}
        sent = Feedback.model_validate(fields)
    except UnicodeDecodeError as error:
        raise Refused(422, "the form has text that is not UTF-8; expected UTF-8") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        example = f"; expected JSON like {_EXAMPLE}" if where.startswith("boxes") else ""
        raise Refused(422, f"{where}: {first['msg']}{example}") from error
    if unknown := [box.label for box in sent.boxes or [] if box.label not in classes]:
        raise Refused(422, f"boxes: the model has no class {unknown[0][:100]!r}; expected {classes}")
    return sent
