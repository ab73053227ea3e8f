"""Route for feedback: corrections of an answer, stored for the next dataset."""

import asyncio
from datetime import UTC, datetime
from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, FailFast, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from serving.answering import Parameters, predict, resolve
from serving.errors import Refused
from serving.inference.prediction import Prediction
from serving.intake.multipart import Part
from serving.intake.upload import form
from serving.openapi import FILE, REFUSALS, form_body, refusal
from serving.responses import FeedbackAnswer, FeedbackState, Verdict
from serving.state import Shared
from serving.storage.detections import Box, RightBox
from serving.storage.objects import StorageError

_EXAMPLE = '[{"label": "helicopter", "box": {"x1": 120, "y1": 40, "x2": 380, "y2": 210}}]'
_BOXES = (
    f"All objects in the picture with their right boxes, as JSON: {_EXAMPLE}. Optional. "
    "A thing of a class that the model does not know may be among them"
)
_FILE = {"file": {**FILE["file"], "description": "The picture; only if an earlier answer had `picture: needed`"}}
_EMPTY: dict[str, Any] = {"example": ""}  # otherwise Swagger UI prefills the field with "string", and Execute sends it
_RIGHT_BOXES = TypeAdapter(Annotated[list[RightBox], FailFast()])  # one error, not one for each of a million elements
_SMALLEST_PX = 1.0
_REQUEST_ID = "^[0-9a-f]{32}(-[0-9]{1,4})?$"


class Feedback(BaseModel):
    """Fields of the form, apart from the boxes."""

    request_id: str = Field(
        pattern=_REQUEST_ID,
        description="Of the answer in question; of a drawn picture, the response header `x-request-id`",
        json_schema_extra=_EMPTY,
    )
    verdict: Verdict = Field(description="Judgement of the answer")
    comment: str = Field(
        default="", max_length=2_000, description="For the annotators. Optional", json_schema_extra=_EMPTY
    )


def _fields() -> dict[str, Any]:
    """Return the form's fields for the OpenAPI page."""
    fields: dict[str, Any] = {**Feedback.model_json_schema()["properties"]}
    fields["comment"].pop("default")
    comment = fields.pop("comment")
    return fields | {"boxes": {"type": "string", "description": _BOXES, **_EMPTY}, "comment": comment} | _FILE


router = APIRouter(tags=["Feedback"])


@router.post(
    "/feedback",
    openapi_extra=form_body(_fields(), ["request_id", "verdict"]),
    responses={
        **REFUSALS,
        409: refusal(
            "The server keeps no pictures (CAPTURE_URI is not set), or the answer has another verdict already",
            "this answer has the verdict missed already; to correct it, send the picture again and report on the new "
            "answer",
        ),
    },
    response_model_exclude_none=True,
    summary="Report what was missed or wrong",
)
async def feedback(request: Request, state: Shared) -> FeedbackAnswer:
    """Your verdict is stored with the picture; annotators see it, and the next model learns from it.

    If the answer has `picture: needed`, the server no longer has the picture and has stored nothing: send the same
    again, with `file`. An answer has one verdict; sending the same again changes nothing. Boxes are a proposal that an
    annotator looks at first; with an annotator's key they are an annotation.
    """
    state.model()
    captures, settings = state.captures, state.settings
    if not captures.on:
        raise Refused(409, "this server keeps no pictures; ask its operator to set CAPTURE_URI")
    async with form(request, settings.max_picture_bytes, state.uploads, settings) as parts:
        sent, boxes = await asyncio.to_thread(_parse, parts, settings.max_feedback_boxes)
        picture = next((part.data for part in parts if part.name == "file"), b"")
        prediction = state.recent.get(sent.request_id)
        if prediction is None and not picture:
            return FeedbackAnswer(request_id=sent.request_id, verdict=sent.verdict, picture="needed")
        if prediction is None:
            captures.check_feedback()  # before the work
            # Under an id of its own: whoever invents or repeats an id can overwrite nothing.
            prediction = await predict(
                state, request.state.request_id, picture, resolve(state, Parameters()), perf_counter()
            )
    right = None if boxes is None else [_within(box, prediction) for box in boxes]
    known = set(prediction.thresholds)
    annotator = None if right is None else state.keys.annotator(request.headers)
    now = datetime.now(UTC)
    content = {
        "request_id": prediction.request_id,
        "about": sent.request_id,  # another, where the server no longer had the answer
        "verdict": sent.verdict,
        "boxes": None if right is None else [box.model_dump() for box in right],
        "unknown_classes": sorted({box.label for box in right or []} - known),
        "annotator": annotator,
        "comment": sent.comment or None,
        "time": now.isoformat(timespec="milliseconds"),
        "model": prediction.model.model_dump(),
        "picture": "kept",
    }
    kept_as = None if prediction.request_id == sent.request_id else prediction.request_id
    answer = FeedbackAnswer(
        request_id=sent.request_id, verdict=sent.verdict, picture="kept", kept_as=kept_as, annotator=annotator
    )
    claim = (sent.verdict, content["boxes"], content["comment"], annotator)
    earlier = state.recent.claim(prediction.request_id, claim)
    if earlier == claim:
        return answer
    if earlier is not None:
        raise Refused(
            409,
            f"this answer has the verdict {earlier[0]} already; to correct it, send the picture again and report on "
            "the new answer",
        )
    try:
        captures.count_feedback()
        await asyncio.to_thread(captures.keep, prediction, ["feedback"])
        await asyncio.to_thread(captures.keep_feedback, prediction, content)
    except BaseException as error:
        state.recent.unclaim(prediction.request_id)
        if isinstance(error, StorageError):
            raise Refused(
                503, "the feedback could not be stored, the server's log has the reason; try again later", "storage"
            ) from error
        raise
    state.metrics.feedback.labels(sent.verdict).inc()
    state.feedback_webhook.notify()
    return answer


@router.get(
    "/feedback/{request_id}",
    responses={
        **{code: REFUSALS[code] for code in (401, 422, 503)},
        404: refusal(
            "Nobody reported on this answer, or the server was restarted and annotators do not have the report yet",
            "there is no report on this answer; if you sent one just now, ask again later",
        ),
    },
    response_model_exclude_none=True,
    summary="What became of a report",
)
async def feedback_state(
    request_id: Annotated[str, Path(pattern=_REQUEST_ID, description="As in the answer, or its `kept_as`")],
    state: Shared,
) -> FeedbackState:
    """Whether an annotator has drawn what you reported, and whether the model learned from it.

    `captures push` hands what you reported to the annotators, in a cluster within minutes. It comes back with the next
    versions of the dataset and of the model.
    """
    model = state.model()[0]
    trained_on = str(model.manifest.dataset.get("sha256") or "") if model.manifest else ""
    found = await asyncio.to_thread(state.reports.get, request_id, trained_on)
    if found is None:
        if state.recent.has_verdict(request_id):
            return FeedbackState(request_id=request_id, state="received")
        raise Refused(404, "there is no report on this answer; if you sent one just now, ask again later", "unknown")
    try:
        return FeedbackState(
            request_id=request_id,
            state=found.state,  # type: ignore[arg-type]
            dataset=found.dataset,
            model=model.name if found.state == "in_model" else None,
        )
    except ValidationError as error:
        raise Refused(503, "the states of reports cannot be read; ask the server's operator") from error


def _parse(parts: list[Part], most_boxes: int) -> tuple[Feedback, list[RightBox] | None]:
    """Return the fields, and the boxes as they were sent; a wrong one raises Refused. The reader bounds their bytes."""
    fields = {part.name: part.data for part in parts if part.name != "file" and part.data.strip()}
    boxes = fields.pop("boxes", None)
    try:
        texts = {name: data.decode() for name, data in fields.items()}
        return Feedback.model_validate(texts), None if boxes is None else _boxes(boxes, most_boxes)
    except UnicodeDecodeError as error:
        raise Refused(422, "the form has text that is not UTF-8; expected UTF-8") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise Refused(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def _boxes(data: bytes, most: int) -> list[RightBox]:
    expected = f"expected JSON like {_EXAMPLE}"
    try:
        found = from_json(data.decode(), allow_inf_nan=False)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise Refused(422, f"boxes: {str(error)[:100]}; {expected}") from error
    if not isinstance(found, list):
        raise Refused(422, f"boxes: not a list; {expected}")
    if len(found) > most:
        raise Refused(413, f"boxes: {len(found):,} boxes; expected at most {most:,}")
    try:
        boxes = _RIGHT_BOXES.validate_python(found)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part)[:50] for part in ("boxes", *first["loc"]))
        raise Refused(422, f"{where}: {first['msg']}; {expected}") from error
    for number, box in enumerate(boxes):
        if not (0 <= box.box.x1 < box.box.x2 and 0 <= box.box.y1 < box.box.y2):
            raise Refused(422, f"boxes.{number}: found {box.box}; expected 0 <= x1 < x2 and 0 <= y1 < y2, in pixels")
        if not (box.label.strip() and box.label.isprintable()):
            raise Refused(422, f"boxes.{number}.label: {box.label[:50]!r}; expected the name of a class")
    return boxes


def _within(right: RightBox, prediction: Prediction) -> RightBox:
    """Return a box, clipped to the picture; Refused: less than a pixel of it lies in the picture."""
    width, height, box = prediction.result.width, prediction.result.height, right.box
    clipped = Box(x1=box.x1, y1=box.y1, x2=min(box.x2, width), y2=min(box.y2, height))
    if clipped.x2 - clipped.x1 < _SMALLEST_PX or clipped.y2 - clipped.y1 < _SMALLEST_PX:
        raise Refused(
            422,
            f"boxes: {right.label[:50]!r} at {box}; expected at least a pixel of width and height inside the picture, "
            f"which has {width}x{height} pixels",
        )
    return RightBox(label=right.label, box=clipped)
