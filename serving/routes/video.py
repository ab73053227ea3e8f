"""Route /detect/video: detections in the frames of a video, for a sender who waits. Needs the extra `video` (PyAV)."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import fastapi
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from serving.answering import resolve
from serving.errors import Refused
from serving.frames import Video, VideoLimits, VideoParameters, find_in
from serving.intake.upload import form, only_file
from serving.jobs import Progress
from serving.openapi import FILM, REFUSALS, VIDEO, form_body
from serving.responses import VideoAnswer
from serving.routes.detect import MayKeep
from serving.state import Shared, State

T = TypeVar("T")
router = APIRouter(tags=["Detect"], responses=REFUSALS)


@router.post(
    "/detect/video",
    openapi_extra=form_body(FILM),
    response_model=VideoAnswer,
    responses={200: VIDEO},
    summary="Find objects in a video",
)
async def detect_video(
    request: Request, state: Shared, parameters: Annotated[VideoParameters, fastapi.Query()], may_keep: MayKeep
) -> Response:
    """Send a video; get the detections in every n-th frame, or the video with boxes drawn (`Accept: video/mp4`).

    A long video is analysed from its beginning until a limit is reached, and the answer names the limit: send it to
    `/jobs/video` instead. In the drawn video a box stays until the next analysed frame; it has no sound. On this page,
    choose `video/mp4` as *Media type* under *Responses*.
    """
    settings = state.settings
    query = resolve(state, parameters, parameters.unsure)
    request.state.model = query.model.name
    _check_turn(state)
    drawn = request.headers.get("accept", "").split(",")[0].strip().startswith("video/")
    async with form(request, settings.max_video_bytes, state.uploads, settings) as parts:
        video = Video(request.state.request_id, only_file(parts), parameters, drawn, may_keep)
        _check_turn(state)  # the turn is taken by work, never by waiting for a body
        async with state.jobs.turn:
            progress = Progress()
            work = asyncio.to_thread(find_in, state, video, query, VideoLimits.of_request(settings), progress)
            found, complete = await _unless_gone(request, work, progress)
    headers = {"X-Complete": str(complete).lower()} if drawn else None
    return Response(found.data, media_type=found.kind, headers=headers)


def _check_turn(state: State) -> None:
    if state.jobs.turn.locked():
        raise Refused(
            503, "another video is being analysed; try again later, or send it to /jobs/video, where it waits"
        )


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T], progress: Progress) -> T:
    """Return what the work returns; if the sender hangs up, stop it, and raise ClientDisconnect once it has ended."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, waiting = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            progress.stop.set()
            await asyncio.wait((task,))
            raise ClientDisconnect
        return task.result()
    finally:
        progress.stop.set()
        waiting.cancel()
