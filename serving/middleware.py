"""Middleware of every request: request id, API key, metrics, log, and model headers of the answer."""

import hmac
import logging
import uuid
from time import perf_counter
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import error_response
from serving.openapi import STATIC
from serving.state import State
from serving.storage.detections import ModelName

log = logging.getLogger(__name__)
_OPEN = frozenset(("/", "/docs", "/openapi.json", "/healthz", "/readyz"))
_GUARDED = frozenset(("/feedback", "/metrics"))  # paths that need the key even where /detect does not
_QUIET = frozenset(("/healthz", "/readyz", "/metrics"))  # not logged: probes would fill the log


class RequestMiddleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state
        key = state.settings.api_key
        self._key = key.get_secret_value().encode() if key else None
        self._all = state.settings.api_key_for == "all"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
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
                model = self._state.loader.model
                names = _model_headers(model.name) if model else []
                # After an early answer, do not wait for the rest of the body.
                close = [] if whole else [(b"connection", b"close")]
                ours = [(b"x-request-id", request_id.encode()), *names, *close]
                message = {**message, "headers": [*message["headers"], *ours]}
            await send(message)

        try:
            if self._needs_key(scope["path"]) and not self._knows_key(headers):
                self._state.metrics.rejects.labels("unauthorized").inc()
                message = "the X-API-Key header is missing or wrong; expected the key"
                await error_response(401, message, request_id)(scope, receive, send_named)
            else:
                await self._app(scope, receive_noted, send_named)
        except Exception:
            log.exception("a bug", extra={"request_id": request_id})
            if status == 0:
                message = "the server failed; its log has the reason"
                await error_response(500, message, request_id)(scope, receive, send_named)
        finally:
            self._note(scope, request_id, status, perf_counter() - start)

    def _needs_key(self, path: str) -> bool:
        if self._key is None:
            return False
        return path not in _OPEN and not path.startswith(f"{STATIC}/") if self._all else path in _GUARDED

    def _knows_key(self, headers: Headers) -> bool:
        assert self._key is not None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return hmac.compare_digest(sent.encode("latin-1"), self._key)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._state.metrics.requests.labels(route, str(status)).inc()
        self._state.metrics.seconds.labels(route).observe(seconds)
        log.log(
            logging.DEBUG if route in _QUIET else logging.INFO,
            "request",
            extra={
                "request_id": request_id,
                "method": scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other",
                "route": route,
                "status": status,
                "milliseconds": round(seconds * 1e3, 1),
                **scope["state"].get("notes", {}),
            },
        )


def _model_headers(model: ModelName) -> list[tuple[bytes, bytes]]:
    """Return X-Model-Name, -Version, -SHA256, -Commit; characters outside plain ASCII are percent-encoded."""
    values = model.model_dump().items()
    return [(f"x-model-{key}".encode(), quote(value, safe=" /:+-_.,").encode()) for key, value in values if value]
