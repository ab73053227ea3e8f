"""Model server: `MODEL_URI=… uvicorn serving.app:create_app --factory --port 8080`."""

import importlib.util

from fastapi import FastAPI, Security
from fastapi.security import APIKeyHeader
from fastapi_offline import FastAPIOffline

from serving import errors, logs
from serving.lifespan import lifespan
from serving.middleware import RequestMiddleware
from serving.openapi import DESCRIPTION, PAGE, STATIC, TAGS
from serving.routes import detect, feedback, operations
from serving.settings import read_settings
from serving.state import State


def create_app() -> FastAPI:
    """Create the server with the settings of the environment; a wrong one exits with a message."""
    settings = read_settings()
    logs.configure(settings.log_level)
    routers = [detect.router, feedback.router, operations.router]
    if importlib.util.find_spec("av"):
        from serving.routes import video

        routers.insert(1, video.router)
    app = FastAPIOffline(
        title="Flywheel model server",
        description=DESCRIPTION,
        version="1",
        redoc_url=None,
        static_url=STATIC,
        swagger_ui_parameters=PAGE,
        openapi_tags=TAGS,
        lifespan=lifespan,
    )
    app.state.server = State(settings)
    # RequestMiddleware checks the key; this only gives the docs page its "Authorize" button.
    key = [Security(APIKeyHeader(name="X-API-Key", auto_error=False))] if settings.api_key else []
    for router in routers:
        app.include_router(router, dependencies=key)
    errors.add_handlers(app)
    app.add_middleware(RequestMiddleware, state=app.state.server)
    return app
