"""Middleware of every request: request id, metrics, log, and model headers of the answer."""

import logging
import uuid
from time import perf_counter
from urllib.parse import quote

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import error_response
from serving.state import State
from serving.storage.detections import ModelName

log = logging.getLogger(__name__)
QUIET = frozenset(("/healthz", "/readyz", "/metrics"))  # not logged: probes would fill the log


class RequestMiddleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        method = scope["method"]
        scope = _routed(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        if self._state.traces:
            scope["state"]["traced"] = {"trace_id": self._state.traces.request(request_id)}
        start = perf_counter()
        status = 0
        headers = Headers(scope=scope)
        whole = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers

        async def receive_noted() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or not message.get("more_body", False)
            return message

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                current = self._state.current  # or the one before, with which this request began
                model = scope["state"].get("model", current and current[0].name)
                names = _model_headers(model) if model else []
                # After an early answer, do not wait for the rest of the body.
                close = [] if whole and not self._state.draining else [(b"connection", b"close")]
                ours = [(b"x-request-id", request_id.encode()), *names, *close]
                message = {**message, "headers": [*message["headers"], *ours]}
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._app(scope, receive_noted, send_named)
        except Exception:
            log.exception("a bug", extra={"request_id": request_id})
            if status == 0:
                message = "the server failed; its log has the reason"
                await error_response(500, message, request_id)(scope, receive, send_named)
        finally:
            self._note(scope, method, request_id, status, perf_counter() - start)

    def _note(self, scope: Scope, method: str, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._state.metrics.requests.labels(route, str(status)).inc()
        self._state.metrics.seconds.labels(route).observe(seconds)
        log.log(
            logging.DEBUG if route in QUIET else logging.INFO,
            "request",
            extra={
                "request_id": request_id,
                "method": method if method in ("GET", "POST", "DELETE", "HEAD") else "other",
                "route": route,
                "status": status,
                "milliseconds": round(seconds * 1e3, 1),
                **scope["state"].get("traced", {}),
                **scope["state"].get("notes", {}),
            },
        )


def _routed(scope: Scope) -> Scope:
    """Return the scope for routing: HEAD as GET, and /detect/ as /detect, whatever prefix --root-path has."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    route, path = get_route_path(scope), scope["path"]
    if len(route) > 1 and route.endswith("/"):
        path = path[: len(path) - len(route)] + (route.rstrip("/") or "/")
    return {**scope, "method": method, "path": path}


def _model_headers(model: ModelName) -> list[tuple[bytes, bytes]]:
    """Return X-Model-Name, -Version, -SHA256, -Commit; characters outside plain ASCII are percent-encoded."""
    values = model.model_dump().items()
    return [(f"x-model-{key}".encode(), quote(value, safe=" /:+-_.,").encode()) for key, value in values if value]
