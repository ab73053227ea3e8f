"""Refused requests, and the JSON body of every error: `{"error": …, "request_id": …}`."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

_CLIENT_CLOSED = 499  # nginx's status for a closed connection, only for the log and the metrics
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}  # seconds
_REASONS = {
    400: "unreadable",
    403: "cross_site",
    408: "slow",
    409: "invalid",
    413: "too_large",
    415: "unsupported",
    422: "invalid",
    503: "busy",
}


class Refused(HTTPException):
    """A refused request: HTTP status, message, label of `flywheel_rejects_total` (None: the status's), headers."""

    def __init__(
        self, status: int, message: str, reason: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.reason = reason or _REASONS[status]


def error_response(
    status: int, message: str, request_id: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the answer to a request that failed; 401 and 503 get the headers that HTTP wants of them."""
    content = {"error": message, "request_id": request_id}
    return JSONResponse(content, status, {**_HEADERS.get(status, {}), **(headers or {})})


def add_handlers(app: FastAPI) -> None:
    """Answer every error of a route in JSON, and count refusals."""
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _disconnected)


async def http_error(request: Request, error: Exception) -> Response:
    """Answer a request that raised an HTTPException."""
    assert isinstance(error, HTTPException)
    if isinstance(error, Refused):
        request.app.state.server.metrics.rejects.labels(error.reason).inc()
    return error_response(error.status_code, error.detail, request.state.request_id, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [*first["loc"][1:], ""]
    # Of what is behind the name, numbers are places; words name types of ours.
    where = ".".join([str(place[0])[:100], *(str(part) for part in place[1:] if isinstance(part, int))])
    unknown = "there is no such parameter; /docs lists them"
    message = f"{where}: {unknown if first['type'] == 'extra_forbidden' else first['msg']}"
    message += f"; found {str(first.get('input'))[:100]!r}"
    return await http_error(request, Refused(422, message))


async def _disconnected(request: Request, error: Exception) -> Response:
    request.app.state.server.metrics.rejects.labels("disconnected").inc()
    return Response(status_code=_CLIENT_CLOSED)
