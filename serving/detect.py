"""Routes for pictures: /detect, /detect/image, /detect/batch."""

import asyncio
from functools import partial
from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from serving.answering import Asked, Look, Seen, look, remember, see
from serving.drawing import annotate, encode
from serving.errors import Refused
from serving.openapi import FILE, FILES, REFUSALS, form_body
from serving.responses import Answer, BatchAnswer, FileResult
from serving.state import Shared, State
from serving.storage.model import Model
from serving.upload import Part, form
from serving.vision.picture import decode

router = APIRouter(tags=["Detect"], responses=REFUSALS)
NoCapture = Annotated[
    str | None,
    Header(alias="X-No-Capture", description="Send anything but `0` and this picture is never kept for labelling."),
]


@router.post("/detect", openapi_extra=form_body(FILE), response_model=Answer, summary="Find objects in a picture")
async def detect(request: Request, state: Shared, options: Asked, no_capture: NoCapture = None) -> Response:
    """Send a picture; get the boxes, classes and confidences of what is in it.

    JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000 and AVIF are read; the content decides, not the file's name. Boxes are in
    pixels of the picture as you see it: photos that a phone stored sideways are turned first.
    """
    model, how = _begin(state, options)
    async with form(request, state.settings.max_picture_bytes, state.budget, state.settings.upload_seconds) as parts:
        data = _one(parts, state.settings.max_picture_bytes)
        seen = await see(state, data, how, perf_counter())
        _note(request, seen)
        if keeps(no_capture):
            remember(state, model, request.state.request_id, data, seen, how)
    answer = Answer(request_id=request.state.request_id, model=model.name, **dict(seen.found))
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post(
    "/detect/image",
    openapi_extra=form_body(FILE),
    response_class=Response,
    responses={200: {"description": "The picture", "content": {"image/jpeg": {}, "image/png": {}}}},
    summary="Show the objects in a picture",
)
async def detect_image(request: Request, state: Shared, options: Asked, no_capture: NoCapture = None) -> Response:
    """Send a picture; get it back with what /detect finds drawn onto it: boxes, classes and confidences.

    A JPEG, or a PNG if the `Accept` header asks for one. Small pictures come back enlarged, so that labels can be read.
    The header `X-Detections` says how many there are.
    """
    model, how = _begin(state, options)
    kind = "image/png" if _prefers_png(request.headers.get("accept", "")) else "image/jpeg"
    async with form(request, state.settings.max_picture_bytes, state.budget, state.settings.upload_seconds) as parts:
        data = _one(parts, state.settings.max_picture_bytes)
        seen = await see(state, data, how, perf_counter())
        _note(request, seen)
        drawn, _ = await state.workers.run(partial(_draw, data, seen, state.settings.max_picture_pixels, kind))
        if keeps(no_capture):
            remember(state, model, request.state.request_id, data, seen, how)
    return Response(drawn, media_type=kind, headers={"X-Detections": str(len(seen.found.detections))})


@router.post(
    "/detect/batch",
    openapi_extra=form_body(FILES),
    response_model=BatchAnswer,
    summary="Find objects in several pictures",
)
async def detect_batch(request: Request, state: Shared, options: Asked, no_capture: NoCapture = None) -> Response:
    """Send several pictures; get one result for each, in the same order.

    A file that cannot be read gets its own error and spoils nothing for the others.
    """
    settings, request_id = state.settings, request.state.request_id
    model, how = _begin(state, options)
    async with form(request, settings.max_batch_bytes, state.budget, settings.upload_seconds) as parts:
        files = [part for part in parts if part.name == "files" and part.filename is not None]
        if not files:
            raise Refused(422, "invalid", "the form has no file in `files`; expected one or more pictures")
        if len(files) > settings.max_batch_pictures:
            raise Refused(
                413,
                "too_large",
                f"{len(files)} pictures; expected at most {settings.max_batch_pictures} in one request",
            )
        since = perf_counter()
        turns = asyncio.Semaphore(state.workers.count)  # one batch must not fill the queue for others

        async def result(place: int, part: Part) -> FileResult:
            name = (part.filename or "")[:255]
            file_id = f"{request_id}-{place}"
            async with turns:
                try:
                    _fits(part.data, settings.max_picture_bytes)
                    seen = await see(state, part.data, how, since)
                except Refused as error:
                    if error.status == 503:
                        raise
                    state.metrics.rejects.labels(error.reason).inc()
                    return FileResult(request_id=file_id, filename=name, status=error.status, error=error.message)
            if keeps(no_capture):
                remember(state, model, file_id, part.data, seen, how)
            return FileResult(request_id=file_id, filename=name, status=200, found=seen.found)

        results = await _all([result(place, part) for place, part in enumerate(files)])
    answer = BatchAnswer(request_id=request_id, model=model.name, results=results)
    return Response(answer.model_dump_json(), media_type="application/json")


def keeps(no_capture: str | None) -> bool:
    """Whether the caller allows capture of the picture."""
    return no_capture is None or no_capture.strip().lower() in ("", "0", "false", "no")


def _begin(state: State, options: Asked) -> tuple[Model, Look]:
    """Check everything that can be refused before the body is read."""
    model, _ = state.model()
    how = look(state, model, options)
    state.workers.check()
    return model, how


def _one(parts: list[Part], limit: int) -> bytes:
    files = [part for part in parts if part.name == "file" and part.filename is not None]
    if len(files) != 1:
        raise Refused(422, "invalid", f"the form has {len(files)} files in `file`; expected one picture")
    _fits(files[0].data, limit)
    return files[0].data


def _fits(data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise Refused(413, "too_large", f"the picture has {len(data):,} bytes; expected at most {limit:,}")


def _draw(data: bytes, seen: Seen, max_pixels: int, kind: str) -> bytes:
    return encode(annotate(decode(data, max_pixels=max_pixels).image, seen.found.detections), kind)


def _prefers_png(accept: str) -> bool:
    accepted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    jpeg = next(
        (place for place, kind in enumerate(accepted) if kind in ("image/jpeg", "image/*", "*/*")), len(accepted)
    )
    return "image/png" in accepted and accepted.index("image/png") < jpeg


async def _all(work: list[Any]) -> list[FileResult]:
    """Wait for all tasks; the first failure cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]


def _note(request: Request, seen: Seen) -> None:
    request.state.notes = {"detections": len(seen.found.detections), "pixels": seen.found.width * seen.found.height}
