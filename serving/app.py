"""Model server: `MODEL_URI=… uvicorn serving.app:create_app --factory --port 8080`."""

import importlib.util
from typing import Any

from fastapi import Depends
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serving import errors, logs
from serving.intake.access import from_own_page, with_key, wrong_method
from serving.intake.connections import GuardedApplication
from serving.lifespan import lifespan
from serving.middleware import QUIET, RequestMiddleware
from serving.openapi import DESCRIPTION, PAGE, STATIC, TAGS, with_classes
from serving.routes import detect, feedback, operations, page
from serving.settings import read_settings
from serving.state import State
from serving.tracing import OFF


def create_app() -> ASGIApp:
    """Create the server with the settings of the environment; a wrong one exits with a message."""
    settings = read_settings()
    logs.configure(settings.log_level)
    state = State(settings)
    guard = [Depends(with_key)] if state.keys.on else []
    other = guard if settings.api_key_for == "all" else []
    routers = [(detect.router, other), (feedback.router, guard), (operations.router, other)]
    routers += [(operations.guarded, guard), (operations.probes, []), (page.router, [])]
    if settings.ml_backend:
        from serving.routes import ml_backend

        routers += [(ml_backend.router, guard), (ml_backend.webhook, [])]
    if importlib.util.find_spec("av"):
        from serving.routes import video, video_jobs

        routers[1:1] = [(video.router, other), (video_jobs.router, other)]
    app = FastAPIOffline(
        title="Flywheel model server",
        description=DESCRIPTION,
        version="1",
        redoc_url=None,
        static_url=STATIC,
        swagger_ui_parameters=PAGE,
        openapi_tags=TAGS,
        lifespan=lifespan,
        dependencies=[Depends(from_own_page)],
        telemetry=state.traces.telemetry(QUIET) if state.traces else OFF,
        generate_unique_id_function=lambda route: route.name,  # names of a generated client's functions
        redirect_slashes=False,  # a redirect would name http:// behind TLS; RequestMiddleware drops the slash
    )
    app.state.server = state
    for router, dependencies in routers:
        app.include_router(router, dependencies=dependencies)
        if dependencies:
            state.keys.guarded.update(getattr(route, "endpoint", None) for route in router.routes)
    schema = app.openapi

    def openapi() -> dict[str, Any]:
        return with_classes(schema(), state.current[0].detector.classes) if state.current else schema()

    app.openapi = openapi  # type: ignore[method-assign]
    errors.add_handlers(app)
    app.add_exception_handler(405, wrong_method)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["X-API-Key", "X-No-Capture"],
            expose_headers=["Location", "Retry-After", "X-Request-ID"],
        )
    app.add_middleware(RequestMiddleware, state=state)  # the last one added is the first to see a request
    return GuardedApplication(app, settings, state.metrics)
