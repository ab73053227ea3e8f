"""Routes under /ml: the model as Label Studio's ML backend, in the form of its SDK's server.

What Label Studio sends and expects: https://github.com/HumanSignal/label-studio-ml-backend, and ml/api_connector.py and
ml/models.py of Label Studio.
"""

import asyncio
from time import monotonic, perf_counter
from typing import Any

from fastapi import APIRouter, Request
from pydantic_core import from_json

from serving.answering import Parameters, Query, each_in_turn, predict, resolve
from serving.errors import Refused
from serving.intake.upload import form, only_file
from serving.label_studio import Tags, read_tags, regions
from serving.openapi import REFUSALS
from serving.state import Shared, State

_MOST_BYTES = 4_000_000  # of a request: tasks come with their annotations
_PER_BYTE = 40  # bytes of memory that JSON takes, at worst
_WAIT_SECONDS = 10.0  # for memory
router = APIRouter(prefix="/ml", tags=["Label Studio"], responses={code: REFUSALS[code] for code in (401, 503)})
webhook = APIRouter(prefix="/ml", tags=["Label Studio"])  # Label Studio sends no key there


@router.get("/health", summary="Is the backend up?")
async def ml_health(state: Shared) -> dict[str, str]:
    """`UP`, and the model; 503 while none is loaded."""
    return {"status": "UP", "model_class": state.model()[0].name.title}


@router.post("/setup", summary="Connect a project")
async def ml_setup(state: Shared) -> dict[str, str]:
    """The model's version. What Label Studio sends of itself, its address and a token, is not read."""
    return {"model_version": state.model()[0].name.title}


@router.get("/versions", summary="Versions of the model")
async def ml_versions(state: Shared) -> dict[str, list[str]]:
    """The one that is loaded."""
    return {"versions": [state.model()[0].name.title]}


@webhook.post("/webhook", summary="Events of a project")
async def ml_webhook() -> dict[str, str]:
    """Nothing is done with them, nor read: a training begins with a commit."""
    return {"status": "ignored"}


@router.post(
    "/predict",
    responses=REFUSALS,
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}},
    summary="Predict the boxes of tasks",
)
async def ml_predict(request: Request, state: Shared) -> dict[str, list[dict[str, Any]]]:
    """One result for each task, in their order; a task whose picture cannot be had gets an `error` and no boxes.

    Of more tasks than MAX_BATCH_PICTURES, one empty result: Label Studio then sends them one by one.
    """
    query, settings = resolve(state, Parameters()), state.settings
    request.state.model = query.model.name
    async with form(request, _MOST_BYTES, state.uploads, settings, raw=("application/json",)) as parts:
        tasks, tags = await asyncio.to_thread(_parse, only_file(parts), state)
    if len(tasks) > settings.max_batch_pictures:
        return {"results": [{}]}

    async def result(number: int, name: object) -> dict[str, Any]:
        return await _predicted(state, f"{request.state.request_id}-{number}", name, query, tags)

    results = await each_in_turn(state, tasks, result)
    return {"results": [{"error": each.detail} if isinstance(each, Refused) else each for each in results]}


async def _predicted(state: State, request_id: str, name: object, query: Query, tags: Tags) -> dict[str, Any]:
    """Return the prediction for a task whose picture has this name, or raise Refused."""
    held = state.settings.max_picture_bytes
    if not state.uploads.budget.take(held):
        raise Refused(503, "too many uploads at once; try again in a second")
    try:
        data = await asyncio.to_thread(state.task_pictures.fetch, name)
        prediction = await predict(state, request_id, data, query, perf_counter())
    finally:
        state.uploads.budget.give_back(held)
    found = prediction.result
    boxes = regions(found.detections, found.width, found.height, tags)
    score = min((each["score"] for each in boxes), default=0.0)  # the lowest: uncertain pictures sort first
    return {"model_version": prediction.model.title, "score": score, "result": boxes}


def _parse(data: bytes, state: State) -> tuple[list[object], Tags]:
    """Return the name of each task's picture, and the tags of the boxes; Refused: not what Label Studio sends."""
    memory, budget = _PER_BYTE * len(data), state.decoding.budget
    if not budget.take(memory, monotonic() + _WAIT_SECONDS):
        raise Refused(503, "too many large requests at once; try again later")
    with budget.holding(memory):
        expected = "expected JSON with `tasks`, a list, and `label_config`, as Label Studio sends it"
        try:
            content = from_json(data)
        except ValueError as error:
            raise Refused(422, f"{str(error)[:100]}; {expected}") from error
        tasks = content.get("tasks") if isinstance(content, dict) else None
        config = content.get("label_config") if isinstance(content, dict) else None
        if not isinstance(tasks, list) or not isinstance(config, str):
            raise Refused(422, f"the request has no tasks or no label_config; {expected}")
        tags = read_tags(config)
        found = (task.get("data") if isinstance(task, dict) else None for task in tasks)
        return [each.get(tags.key) if isinstance(each, dict) else None for each in found], tags
