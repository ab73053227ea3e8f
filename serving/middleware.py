"""Middleware of every request: request id, API key, metrics, log, and model headers of the answer."""

import hmac
import json
import logging
import uuid
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.docs import STATIC
from serving.errors import RETRY_AFTER_SECONDS
from serving.storage.detections import ModelName

if TYPE_CHECKING:
    from serving.state import State

log = logging.getLogger(__name__)
_OPEN = frozenset(("/", "/docs", "/openapi.json", "/healthz", "/readyz"))
_GUARDED = frozenset(("/feedback", "/metrics"))  # paths that need the key even where /detect does not
_QUIET = frozenset(("/healthz", "/readyz", "/metrics"))  # not logged: probes would fill the log


class RequestMiddleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, state: "State") -> None:
        """Take the application and its shared state."""
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
        whole = not _has_body(scope)

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
                names = model_headers(model.name) if model else []
                # After an early answer, do not wait for the rest of the body.
                close = [] if whole else [(b"connection", b"close")]
                ours = [(b"x-request-id", request_id.encode()), *names, *close]
                message = {**message, "headers": [*message["headers"], *ours]}
            await send(message)

        try:
            if self._needs_key(scope["path"]) and not self._knows_key(scope):
                self._state.metrics.rejects.labels("unauthorized").inc()
                await respond(send_named, 401, "the X-API-Key header is missing or wrong; expected the key", request_id)
            else:
                await self._app(scope, receive_noted, send_named)
        except Exception:
            log.exception("a bug", extra={"request_id": request_id})
            if status == 0:
                await respond(send_named, 500, "the server failed; its log has the reason", request_id)
        finally:
            self._note(scope, request_id, status, perf_counter() - start)

    def _needs_key(self, path: str) -> bool:
        return self._key is not None and (not _is_open(path) if self._all else path in _GUARDED)

    def _knows_key(self, scope: Scope) -> bool:
        assert self._key is not None
        sent = b""
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                sent = value
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                sent = value[7:].strip()
        return hmac.compare_digest(sent, self._key)

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


def model_headers(model: ModelName) -> list[tuple[bytes, bytes]]:
    """Return X-Model-Name, -Version, -SHA256, -Commit; characters outside plain ASCII are percent-encoded."""
    values = {
        b"x-model-name": model.name,
        b"x-model-version": model.version,
        b"x-model-sha256": model.sha256,
        b"x-model-commit": model.commit,
    }
    return [(key, quote(value, safe=" /:+-_.,").encode()) for key, value in values.items() if value]


async def respond(send: Send, status: int, error: str, request_id: str) -> None:
    """Send an error as JSON."""
    body = json.dumps({"error": error, "request_id": request_id}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(f"{STATIC}/")
