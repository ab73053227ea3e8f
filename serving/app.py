"""Model server: `MODEL_URI=… uvicorn serving.app:create_app --factory --port 8080`."""

import asyncio
import importlib.util
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from serving import detect, docs, feedback, logs, operations
from serving.errors import RETRY_AFTER_SECONDS, Refused
from serving.middleware import RequestMiddleware
from serving.settings import Settings
from serving.state import State

_CLIENT_CLOSED = 499  # nginx's status for a closed connection, only for the log and the metrics
_ABOUT = """Finds objects in pictures. **To try it**: open `POST /detect/image`, choose a file, press *Execute*: the
picture comes back with boxes. `POST /detect` gives the same as numbers. Missed something? Tell `POST /feedback`, with
the answer's `request_id`."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Create the server; settings come from the environment unless given.

    A wrong setting raises SystemExit; the text names it and what is expected.
    """
    settings = settings or _settings()
    logs.configure(settings.log_level)
    state = State(settings)
    app = FastAPI(
        title="Flywheel model server",
        description=_ABOUT,
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        openapi_tags=[
            {"name": "Detect", "description": "find objects"},
            {"name": "Feedback", "description": "say what was missed"},
            {"name": "Operate", "description": "for whoever runs the server"},
        ],
    )
    app.state.server = state
    # RequestMiddleware checks the key; this only gives the docs page its "Authorize" button.
    locks = [Security(APIKeyHeader(name="X-API-Key", auto_error=False))] if settings.api_key else []
    app.include_router(detect.router, dependencies=locks)
    if importlib.util.find_spec("av"):
        from serving import video

        app.include_router(video.router, dependencies=locks)
    app.include_router(feedback.router, dependencies=locks)
    app.include_router(operations.router, dependencies=locks)
    app.include_router(docs.router)
    docs.mount(app)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(RequestMiddleware, state=state)
    return app


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        lines = (f"error: {str(part['loc'][0]).upper()}: {part['msg']}" for part in error.errors())
        sys.exit("\n".join(lines))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: State = app.state.server
    state.loader.start()
    state.capturer.start()
    restore = _drain_at_sigterm(state)
    try:
        yield
    finally:
        restore()
        state.draining = True
        state.loader.stop()
        await asyncio.to_thread(state.workers.stop)
        await asyncio.to_thread(state.capturer.stop)


def _drain_at_sigterm(state: State) -> Callable[[], None]:
    """At SIGTERM, report "not ready" but keep answering; then let uvicorn finish the requests in flight and stop.

    A cluster keeps sending requests for a moment after it has told a server to stop.
    """
    stop = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(stop):
        return lambda: None
    loop = asyncio.get_running_loop()

    def begin() -> None:
        state.draining = True
        loop.call_later(state.settings.drain_seconds, stop, signal.SIGTERM, None)

    loop.add_signal_handler(signal.SIGTERM, begin)

    def restore() -> None:
        signal.signal(signal.SIGTERM, stop)

    return restore


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    request.app.state.server.metrics.rejects.labels(error.reason).inc()
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if error.status == 503 else {}
    return _error(request, error.status, error.message, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    request.app.state.server.metrics.rejects.labels("invalid").inc()
    return _error(request, 422, f"{where}: {first['msg']}; found {str(first.get('input'))[:100]!r}")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(request, error.status_code, str(error.detail), dict(error.headers or {}))


async def _gone(request: Request, error: Exception) -> Response:
    request.app.state.server.metrics.rejects.labels("disconnected").inc()
    return Response(status_code=_CLIENT_CLOSED)


def _error(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    content = {"error": message, "request_id": request.state.request_id}
    return JSONResponse(content, status, headers)
