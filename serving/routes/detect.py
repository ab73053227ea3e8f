"""Routes for pictures: /detect, /detect/image, /detect/batch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic.json_schema import SkipJsonSchema

from serving.answering import Parameters, decoded, each_in_turn, predict, remember, resolve
from serving.decoding.program import Reply, drawn
from serving.drawing import marks_of
from serving.errors import Refused
from serving.inference.prediction import Prediction
from serving.intake.multipart import Part
from serving.intake.upload import files_of, form, only_file, refuse_others
from serving.openapi import FILE, FILES, PICTURE, REFUSALS, form_body
from serving.responses import Answer, BatchAnswer, FileResult, Result
from serving.state import Shared, State

router = APIRouter(tags=["Detect"], responses=REFUSALS)
Asked = Annotated[Parameters, fastapi.Query()]


async def _may_keep(
    no_capture: Annotated[
        str | SkipJsonSchema[None],
        Header(
            alias="X-No-Capture", description="Any value but `0` or `false`: never keep this picture for labelling."
        ),
    ] = None,
) -> bool:
    """Whether the caller allows capture of the picture."""
    return no_capture is None or no_capture.strip().lower() in ("", "0", "false", "no")


MayKeep = Annotated[bool, Depends(_may_keep)]


@router.post("/detect", openapi_extra=form_body(FILE), summary="Find objects in a picture")
async def detect(request: Request, state: Shared, parameters: Asked, may_keep: MayKeep) -> Answer:
    """Send a picture; get boxes, classes and confidences of the objects in it.

    JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000 and AVIF are read; the content decides, not the file's name. Boxes are in
    pixels of the upright picture: a photo with an EXIF orientation is turned first.
    """
    async with _predicted(request, state, parameters, may_keep) as prediction:
        return Answer(request_id=prediction.request_id, model=prediction.model, **dict(prediction.result))


@router.post(
    "/detect/image",
    openapi_extra=form_body(FILE),
    response_class=Response,
    responses={200: PICTURE},
    summary="Show the objects in a picture",
)
async def detect_image(request: Request, state: Shared, parameters: Asked, may_keep: MayKeep) -> Response:
    """Send a picture; get it back with boxes, classes and confidences drawn on it.

    The answer is a JPEG, or a PNG if the `Accept` header prefers it. Small pictures are enlarged, so that labels can be
    read. The header `x-detections` is the number of detections, `x-request-id` the id for /feedback.
    """
    kind = _kind_of_answer(request.headers.get("accept", ""))
    async with _predicted(request, state, parameters, may_keep) as prediction:
        detections = prediction.result.detections
        arguments: dict[str, Any] = {"marks": marks_of(detections), "kind": kind}

        def draw(picture: bytes | Reply) -> bytes:
            return (picture if isinstance(picture, Reply) else drawn(picture, **arguments)).data

        (image, _), _ = await decoded(state, prediction.data, draw, "drawn", arguments)
    return Response(image, media_type=kind, headers={"X-Detections": str(len(detections))})


@router.post("/detect/batch", openapi_extra=form_body(FILES), summary="Find objects in several pictures")
async def detect_batch(request: Request, state: Shared, parameters: Asked, may_keep: MayKeep) -> BatchAnswer:
    """Send several pictures; get one result for each, in the same order.

    A file that cannot be read, or takes too long, gets an error of its own; the others are answered. On this page,
    *Add string item* adds a picture.
    """
    settings, request_id = state.settings, request.state.request_id
    query = resolve(state, parameters)
    request.state.model = query.model.name
    state.workers.check()
    async with form(request, settings.max_batch_bytes, state.uploads, settings) as parts:
        files = files_of(parts, "files")
        if not files:
            raise Refused(422, "the form has no file in `files`; expected one or more pictures")
        refuse_others(parts, "files")
        if len(files) > settings.max_batch_pictures:
            raise Refused(413, f"the batch has {len(files)} pictures; expected at most {settings.max_batch_pictures}")
        since = perf_counter()

        async def result(number: int, part: Part) -> Result:
            _check_size(part.data, settings.max_picture_bytes)
            prediction = await predict(state, f"{request_id}-{number}", part.data, query, since)
            if may_keep:
                remember(state, prediction, query)
            return prediction.result

        found = await each_in_turn(state, files, result)
        names = [(part.filename or "")[:255] for part in files]
    results = [
        FileResult(request_id=f"{request_id}-{number}", filename=name, status=each.status_code, error=each.detail)
        if isinstance(each, Refused)
        else FileResult(request_id=f"{request_id}-{number}", filename=name, status=200, found=each)
        for number, (name, each) in enumerate(zip(names, found, strict=True))
    ]
    return BatchAnswer(request_id=request_id, model=query.model.name, results=results)


@asynccontextmanager
async def _predicted(
    request: Request, state: State, parameters: Parameters, may_keep: bool
) -> AsyncIterator[Prediction]:
    """Yield the prediction for the picture of a form; after the block, remember the picture."""
    query = resolve(state, parameters)
    request.state.model = query.model.name
    state.workers.check()
    settings = state.settings
    async with form(request, settings.max_picture_bytes, state.uploads, settings) as parts:
        data = only_file(parts)
        _check_size(data, settings.max_picture_bytes)
        prediction = await predict(state, request.state.request_id, data, query, perf_counter())
        result = prediction.result
        request.state.notes = {"detections": len(result.detections), "pixels": result.width * result.height}
        yield prediction
        if may_keep:
            remember(state, prediction, query)


def _check_size(data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise Refused(413, f"the picture has {len(data):,} bytes; expected at most {limit:,}")


def _kind_of_answer(accept: str) -> str:
    """Return the media type of a drawn picture: the first that is accepted and offered, else JPEG."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    offered = (*PICTURE["content"], "image/*", "*/*")
    first = next((kind for kind in kinds if kind in offered), "")
    return first if first in PICTURE["content"] else "image/jpeg"
