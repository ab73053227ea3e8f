"""Routes for operators: /model, /healthz, /readyz, /metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from serving.openapi import REFUSALS, TEXT
from serving.responses import Health, ModelInfo, ServedVariant
from serving.state import Shared

router = APIRouter(tags=["Operate"])
guarded = APIRouter(tags=["Operate"])  # needs the key even where /detect does not
probes = APIRouter(tags=["Operate"])  # never needs it


@router.get("/model", responses={code: REFUSALS[code] for code in (401, 503)}, summary="The loaded model")
async def model(state: Shared) -> ModelInfo:
    """Version, classes, thresholds, training and metrics of the loaded model, and the device that it runs on."""
    loaded, batcher = state.model()
    detector = loaded.detector
    return ModelInfo(
        model=loaded.name,
        classes=detector.classes,
        input_width=detector.input_hw[1],
        input_height=detector.input_hw[0],
        thresholds=dict(zip(detector.classes, loaded.thresholds, strict=True)),
        lowest_confidence=detector.lowest_confidence,
        device="CPU" if detector.provider == "CPUExecutionProvider" else "GPU",
        provider=detector.provider,
        workers=state.workers.count,
        batch=batcher.size,
        served=ServedVariant(**loaded.served._asdict()),
        signature=loaded.signature,
        metadata=detector.metadata,
        manifest=loaded.manifest.model_dump(exclude_unset=True) if loaded.manifest else None,
    )


@probes.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """200 while the process answers, even if the model cannot be loaded: a restart would not help."""
    return Health(status="alive", problem=None)


@probes.get(
    "/readyz",
    responses={503: {"model": Health, "description": "Not ready: loading, or about to stop"}},
    summary="Is the server ready for requests?",
)
async def readyz(state: Shared, response: Response) -> Health:
    """503 while the model is being loaded, and once the server was told to stop.

    A ready server may have a problem too: a new version that it cannot load.
    """
    if state.ready:
        return Health(status="ready", problem=state.loader.problem)
    response.status_code = 503
    problem = "the server is about to stop" if state.draining else state.loader.problem
    return Health(status="not ready", problem=problem)


@guarded.get(
    "/metrics",
    response_class=Response,
    responses={200: TEXT},
    summary="Metrics for Prometheus",
)
async def metrics(state: Shared) -> Response:
    """Metrics of requests, latencies, the queue, detections, confidences, captures and refusals."""
    return Response(state.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
