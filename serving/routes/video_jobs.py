"""Routes /jobs: a video is sent now, and the answer fetched later. Needs the extra `video` (PyAV)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Path, Request, Response
from pydantic import Field
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.answering import resolve
from serving.errors import Refused
from serving.frames import Video, VideoLimits, VideoParameters, find_in
from serving.intake.upload import form, only_file
from serving.jobs import POLL_SECONDS, Content, Progress
from serving.openapi import FILM, REFUSALS, VIDEO, form_body, refusal
from serving.responses import VideoAnswer, VideoJob
from serving.routes.detect import MayKeep
from serving.state import Shared

_CHUNK_BYTES = 65_536
_POLL = {"Retry-After": {"description": "seconds until the next look", "schema": {"type": "integer"}}}
_FETCHED: dict[int | str, dict[str, Any]] = {
    **{code: REFUSALS[code] for code in (401, 422, 503)},
    404: refusal("There is no such job, or it is gone", "there is no such job, or it is gone"),
}
router = APIRouter(tags=["Detect"])
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="`id` of the job")]


class JobParameters(VideoParameters):
    """Parameters of a job."""

    drawn: bool = Field(default=False, description="The result is the video with boxes, not their numbers.")


@router.post(
    "/jobs/video",
    status_code=202,
    openapi_extra=form_body(FILM),
    responses={
        **REFUSALS,
        202: {"headers": {"Location": {"description": "of the status", "schema": {"type": "string"}}, **_POLL}},
        429: {
            **refusal("Too many jobs", "4 videos wait or are analysed already; try again in 30 s"),
            "headers": _POLL,
        },
        501: refusal(
            "Several servers answer side by side, and CAPTURE_URI is not set",
            "this server has others beside it, and no store where all would find a job",
        ),
    },
    summary="Find objects in a video, later",
)
async def video_job(
    request: Request,
    response: Response,
    state: Shared,
    parameters: Annotated[JobParameters, fastapi.Query()],
    may_keep: MayKeep,
) -> VideoJob:
    """Send a video, and get the address of its status (`Location`) at once.

    Videos are analysed one after the other, and longer than by `/detect/video`. Who knows the job's id can read the
    result, until it is gone.
    """
    resolve(state, parameters)  # a wrong one is refused now
    state.jobs.check()
    settings = state.settings
    limit = min(settings.max_video_bytes, settings.max_job_bytes)
    async with form(request, limit, state.uploads, settings) as parts:
        data = only_file(parts)
    video = Video(request.state.request_id, data, parameters, parameters.drawn, may_keep)

    async def work(progress: Progress) -> Content:
        query = resolve(state, parameters, parameters.unsure)  # for the model that is loaded by then
        limits = VideoLimits.of_job(settings)
        return (await asyncio.to_thread(find_in, state, video, query, limits, progress))[0]

    job = await state.jobs.begin(len(data), work)
    prefix = request.scope.get("root_path", "").rstrip("/")
    response.headers.update({"Location": f"{prefix}/jobs/{job.id}", "Retry-After": str(POLL_SECONDS)})
    return job


@router.get("/jobs/{job}", responses={**_FETCHED, 200: {"headers": _POLL}}, summary="How far a job is")
async def job_status(job: JobId, response: Response, state: Shared) -> VideoJob:
    """State and progress of a job; `Retry-After` while it is waiting or running."""
    found = await state.jobs.find(job)
    if found.state in ("waiting", "running"):
        response.headers["Retry-After"] = str(POLL_SECONDS)
    return found


@router.get(
    "/jobs/{job}/result",
    response_model=VideoAnswer,
    responses={
        **_FETCHED,
        200: VIDEO,
        409: refusal("The job is not done, failed or was cancelled", "the job is running, 40% done; try again in 2 s"),
    },
    summary="The result of a job",
)
async def job_result(job: JobId, state: Shared) -> Response:
    """What `/detect/video` would have answered: the detections, or the drawn video where it was asked for."""
    found = await state.jobs.find_done(job)
    held = state.uploads.budget
    if not held.take(found.size):
        raise Refused(503, "too many bytes are in memory; try again in a second")
    try:
        content = await state.jobs.read(found)
    except BaseException:
        held.give_back(found.size)
        raise
    return _Streamed(content, found.kind, lambda: held.give_back(found.size))


@router.delete("/jobs/{job}", status_code=204, responses={**_FETCHED, 403: REFUSALS[403]}, summary="Cancel a job")
async def cancel_job(job: JobId, state: Shared) -> None:
    """Stop a job, or forget its result."""
    await state.jobs.cancel(job)


class _Streamed(StreamingResponse):
    """Sends bytes as fast as the other side reads them, and tells when they are no longer held."""

    def __init__(self, content: bytes, kind: str, release: Callable[[], None]) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(content), _CHUNK_BYTES):
                yield content[start : start + _CHUNK_BYTES]

        super().__init__(chunks(), media_type=kind, headers={"Content-Length": str(len(content))})
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()
