"""Routes for operators: /model, /healthz, /readyz, /metrics."""

from fastapi import APIRouter, Response

from serving.monitoring import CONTENT_TYPE
from serving.openapi import REFUSALS
from serving.responses import Health, ModelInfo
from serving.state import Shared

router = APIRouter(tags=["Operate"])


@router.get("/model", responses={code: REFUSALS[code] for code in (401, 503)}, summary="The model that answers here")
async def model(state: Shared) -> ModelInfo:
    """Its version, classes and thresholds, what it was trained on and how well it did, and what runs it."""
    loaded, batcher = state.model()
    detector = loaded.detector
    return ModelInfo(
        model=loaded.name,
        classes=detector.classes,
        input_width=detector.input_hw[1],
        input_height=detector.input_hw[0],
        thresholds=dict(zip(detector.classes, loaded.thresholds, strict=True)),
        device="CPU" if detector.provider == "CPUExecutionProvider" else "GPU",
        provider=detector.provider,
        workers=state.workers.count,
        batch=batcher.size,
        metadata=detector.metadata,
        manifest=loaded.manifest.model_dump() if loaded.manifest else None,
    )


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """Yes, as long as this answers. A model that cannot be loaded does not make it no: a restart would not help."""
    return Health(status="alive", problem=None)


@router.get(
    "/readyz",
    responses={503: {"model": Health, "description": "Not ready: loading, or about to stop"}},
    summary="Should requests come here?",
)
async def readyz(state: Shared, response: Response) -> Health:
    """No while the model is being loaded, and no more once the server was told to stop."""
    if state.ready:
        return Health(status="ready", problem=None)
    response.status_code = 503
    problem = "the server is about to stop" if state.draining else state.loader.problem
    return Health(status="not ready", problem=problem)


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, summary="For Prometheus"
)
async def metrics(state: Shared) -> Response:
    """Requests, latencies, queue, detections, confidences, captures, refusals."""
    return Response(state.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
