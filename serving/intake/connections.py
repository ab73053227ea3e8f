"""Connections of uvicorn, bounded in number, and closed where the other side neither sends nor reads.

uvicorn has no time limit of a request's head, of an answer that nobody reads, and no limit of connections. Its protocol
class is replaced by a subclass with them when the application starts, whatever command started uvicorn.
"""

import asyncio
import json
import logging
import resource
import sys
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.monitoring import Metrics
from serving.settings import Settings

log = logging.getLogger(__name__)
_SWEEP_SECONDS = 0.5
_YOUNG_SECONDS = 0.02  # a connection that has waited less for its request is not dropped for another
_MOST_HEAD_BYTES = 131_072  # of a head, or of anything else that brings no byte of a body
_PATIENCE = 1.0  # [s] nor is one whose body arrives since less than this
_READ_BYTES = 32_768  # at once from a connection, so that costly ones leave time for others; asyncio takes 262,144
_OTHER_FILES = 64  # file descriptors for everything that is no connection
_TEXTS = {
    408: ("Request Timeout", "the request's head did not arrive in time; try again"),
    431: ("Request Header Fields Too Large", f"the head has more than {_MOST_HEAD_BYTES:,} bytes; expected fewer"),
    503: ("Service Unavailable", "too many connections; try again in a second"),
}


class GuardedApplication:
    """ASGI application that guards the connections of the uvicorn that starts it; outermost, to meet uvicorn's own."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or start and stop."""
        if scope["type"] == "lifespan":
            self._guard(getattr(getattr(receive, "__self__", None), "config", None))
        await self._app(scope, receive, send)

    def _guard(self, config: object) -> None:
        if not isinstance(config, uvicorn.Config):
            log.warning("the server is not uvicorn: connections have only the limits that it sets itself")
            return
        settings, files = self._settings, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # asyncio accepts `backlog` connections in each of three rounds before the first of them can be refused.
        config.backlog = min(config.backlog, max(1, files // 10))
        room = max(1, files - _OTHER_FILES - 3 * config.backlog)
        guard = Guard(settings, self._metrics, min(settings.max_connections, room))
        config.timeout_keep_alive = settings.keep_alive_seconds  # type: ignore[assignment]  # a float does as well
        config.ws_protocol_class = None  # there is no WebSocket here, and its connections would not be guarded
        config.http_protocol_class = type("GuardedProtocol", (_Guarded, config.http_protocol_class), {"guard": guard})
        guard.sweep()


class Guard:
    """All open connections of a server."""

    def __init__(self, settings: Settings, metrics: Metrics, most: int) -> None:
        self._head_seconds, self._read_seconds = settings.header_seconds, settings.unread_seconds
        self._closed = metrics.connections_closed
        self._most = most
        self._connections: set[_Guarded] = set()
        metrics.connections.set_function(lambda: len(self._connections))

    def admit(self, new: "_Guarded") -> None:
        """Add a connection; beyond the limit, drop the one that has waited longest for a request, or else this one."""
        self._connections.add(new)
        if len(self._connections) <= self._most:
            return
        ranks = [(rank, each.since, each) for each in self._connections if (rank := each.rank(new.since)) is not None]
        if ranks:
            self.drop(min(ranks, key=lambda each: each[:2])[2], "displaced")
        else:
            self.drop(new, "full", 503)

    def drop(self, connection: "_Guarded", reason: str, status: int = 0) -> None:
        """Close a connection, with an answer if a status is given."""
        self._closed.labels(reason).inc()
        if status:
            phrase, text = _TEXTS[status]
            body = json.dumps({"error": text}).encode()
            head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            retry = "retry-after: 1\r\n" if status == 503 else ""
            connection.transport.write(f"{head}{retry}connection: close\r\n\r\n".encode() + body)
            connection.transport.close()
        else:
            self._connections.discard(connection)
            connection.transport.abort()

    def forget(self, connection: "_Guarded") -> None:
        """Note that a connection is closed."""
        self._connections.discard(connection)

    def sweep(self) -> None:
        """Close what has waited too long, twice a second."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for each in list(self._connections):
            if each.stuck_since is None and each.transport.is_closing():
                each.stuck_since = now
            if each.stuck_since is not None and now - each.stuck_since > self._read_seconds:
                self.drop(each, "unread")
            elif each.late(now - self._head_seconds):
                self.drop(each, "slow_head", 408 if each.begun else 0)
        loop.call_later(_SWEEP_SECONDS, self.sweep)


class _Guarded(asyncio.Protocol):
    """Mixin before uvicorn's protocol class, of httptools or of h11."""

    guard: Guard
    transport: asyncio.Transport
    cycle: Any  # uvicorn's current request and its answer
    timeout_keep_alive_task: Any  # uvicorn's timer between two requests
    parser: Any  # of httptools; the next three too
    url: bytes
    headers: list[tuple[bytes, bytes]]
    _fed: bytes  # to the parser
    _again: bytes  # what it has to be fed next, instead of the rest

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.since = asyncio.get_running_loop().time()  # when the wait for the current head began
        self.begun = False  # whether any byte of that head came
        self.moved = self.since  # when the last byte came
        self.stuck_since: float | None = None  # when the other side stopped reading, or the connection began to close
        self._silent_bytes = 0  # since the last byte of a body
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_BYTES
        self.guard.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.forget(self)
        super().connection_lost(exc)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def idle(self) -> bool:
        """Whether it is between two requests; uvicorn's own timer runs."""
        return self.timeout_keep_alive_task is not None

    def late(self, moment: float) -> bool:
        """Whether the other side owes a request's head since before a moment."""
        return not (self.busy or self.idle or self.transport.is_closing()) and self.since < moment

    def rank(self, now: float) -> int | None:
        """Return the order in which connections are dropped for others, first 0; None: not at all.

        Half heads, then those between two requests, then bodies that stand still, then bodies that take long.
        """
        if self.late(now - _YOUNG_SECONDS):
            return 0
        if self.idle:
            return 1
        if not (self.busy and self.cycle.more_body) or self.transport.is_closing() or now - self.since < _PATIENCE:
            return None
        return 2 if now - self.moved > _PATIENCE else 3

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self.moved = asyncio.get_running_loop().time()
        if self.idle:
            self.since = self.moved
        self.begun = True
        cycle = self.cycle
        before = len(cycle.body) if cycle is not None else 0
        self._again = data
        while self._again and not self.transport.is_closing():
            self._fed, self._again = self._again, b""
            super().data_received(self._fed)
        if self.cycle is not cycle or (cycle is not None and len(cycle.body) != before):
            self._silent_bytes = 0  # a head was completed, or bytes of a body came
        else:
            self._silent_bytes += len(data)
            if self._silent_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
                self.guard.drop(self, "large_head", 0 if self.busy else 431)

    def on_headers_complete(self) -> None:
        if not self._wants_upgrade:
            super().on_headers_complete()  # type: ignore[misc]

    def on_message_complete(self) -> None:
        if not self._wants_upgrade:
            super().on_message_complete()  # type: ignore[misc]

    @property
    def _wants_upgrade(self) -> bool:
        """Whether the request offers another protocol, as Java's and curl's clients offer HTTP/2 with every one."""
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        """Have the request read once more, without its offer, which no server has to take.

        httptools ends at the head of such a request, and uvicorn (issue 2722) answers it without its body.
        """
        end = sys.exc_info()[1]
        if end is None:  # h11 reads on by itself
            return
        line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
        self._again = b"\r\n".join([line, *fields, b"", self._fed[end.args[0] :]])
        self.parser = type(self.parser)(self)

    def pause_writing(self) -> None:
        self.stuck_since = asyncio.get_running_loop().time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stuck_since = None
        super().resume_writing()
