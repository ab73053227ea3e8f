"""Who may ask: API keys (API_KEY, and those of API_KEY_FILE, which may change), and pages of other servers."""

import base64
import binascii
import hmac
import logging
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader
from starlette.datastructures import Headers
from starlette.responses import Response

from serving.errors import Refused, http_error
from serving.origins import is_foreign
from serving.settings import Settings

log = logging.getLogger(__name__)


class Keys:
    """The keys that are valid now; several, so that callers can change from one to the next."""

    def __init__(self, settings: Settings) -> None:
        key = settings.api_key
        self._given = [key.get_secret_value().encode()] if key else []
        self._file = Path(settings.api_key_file) if settings.api_key_file else None
        self._read: list[bytes] = []  # keys of the file when it was read last
        self._version: tuple[int, ...] | None = None  # of the file that was read
        self._problem = ""
        self.guarded: set[object] = set()  # endpoints that need a key
        self.all()

    @property
    def on(self) -> bool:
        """Whether any route needs a key; a key file that is missing or empty lets nobody in."""
        return bool(self._given or self._file)

    def all(self) -> list[bytes]:
        """Return all valid keys; the file is read again when it has changed, and kept in mind while it cannot be.

        Beside API_KEY the file may be missing.
        """
        if self._file is not None:
            try:
                state = self._file.stat()
                version = (state.st_mtime_ns, state.st_ino, state.st_size)
                if version != self._version:
                    self._read = self._file.read_bytes().split()
                    self._version = version
                    log.info("API keys read", extra={"file": str(self._file), "keys": len(self._read)})
                problem = "" if self._read else "has no key; expected one a line"
            except OSError as error:
                if self._given and isinstance(error, FileNotFoundError):  # no more keys than API_KEY
                    self._read, self._version, problem = [], None, ""
                else:
                    problem = f"cannot be read: {type(error).__name__}"
            if problem != self._problem and problem:
                log.error("API_KEY_FILE %s: %s", self._file, problem)
            self._problem = problem
        return self._given + self._read

    def fit(self, headers: Headers) -> bool:
        """Whether a request has a valid key, as X-API-Key, bearer token, or password of basic authentication."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent = (token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode("latin-1")
        if scheme.lower() == "basic":  # Label Studio knows no other
            with suppress(binascii.Error, ValueError):
                sent = base64.b64decode(token.strip(), validate=True).partition(b":")[2]
        return any([hmac.compare_digest(sent, key) for key in self.all()])  # each is compared: no hint by the time


async def with_key(
    request: Request, _: Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))]
) -> None:
    """Refuse a request without a valid key: a dependency of the guarded routes, so that no other path leads to them."""
    keys: Keys = request.app.state.server.keys
    if not keys.fit(request.headers):
        raise _without_key()


async def from_own_page(request: Request) -> None:
    """Refuse what a page of another server makes a browser send: a form needs no permission to be sent anywhere."""
    if request.method == "GET":
        return
    allowed = request.app.state.server.settings.cors_origins
    if is_foreign(request.headers, allowed):
        origin = request.headers.get("origin", "unknown")[:100]
        raise Refused(
            403, f"a page of another server sent this ({origin}); expected this server's own, or one of CORS_ORIGINS"
        )


async def wrong_method(request: Request, error: Exception) -> Response:
    """Answer 405, or 401 where the route is guarded: its methods are told with the key."""
    keys: Keys = request.app.state.server.keys
    refused = request.scope.get("endpoint") in keys.guarded and not keys.fit(request.headers)
    return await http_error(request, _without_key() if refused else error)


def _without_key() -> Refused:
    return Refused(401, "the X-API-Key header is missing or wrong; expected the key", "unauthorized")
