"""Who may ask: keys (API_KEY, API_KEY_FILE, ANNOTATOR_KEY_FILE; files may change), and pages of other servers."""

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
MOST_NAME = 100  # characters of an annotator's name


class Keys:
    """The keys that are valid now; several, so that callers can change from one to the next."""

    def __init__(self, settings: Settings) -> None:
        key = settings.api_key
        self._given = [key.get_secret_value().encode()] if key else []
        self._file = _KeyFile("API_KEY_FILE", settings.api_key_file, named=False, may_be_missing=bool(key))
        self._annotators = _KeyFile("ANNOTATOR_KEY_FILE", settings.annotator_key_file, named=True, may_be_missing=True)
        self.on = bool(key or settings.api_key_file)  # whether any route needs a key; an empty file lets nobody in
        self.guarded: set[object] = set()  # endpoints that need a key
        self._all()

    def fit(self, headers: Headers) -> bool:
        """Whether a request has a valid key, as X-API-Key, bearer token, or password of basic authentication."""
        sent = _sent(headers)
        return any([hmac.compare_digest(sent, key) for key in self._all()])  # each is compared: no hint by the time

    def annotator(self, headers: Headers) -> str | None:
        """Return the name of the annotator whose key a request has; None: it has another one, or none."""
        sent = _sent(headers)
        names = [name for name, key in self._annotators.entries() if hmac.compare_digest(sent, key)]
        return names[0] if names else None

    def _all(self) -> list[bytes]:
        return self._given + [key for file in (self._file, self._annotators) for _, key in file.entries()]


class _KeyFile:
    """A file of keys, one a line, with or without a name before it.

    It is read again when it has changed, and kept in mind while it cannot be.
    """

    def __init__(self, setting: str, path: str | None, *, named: bool, may_be_missing: bool) -> None:
        self._setting, self._path = setting, Path(path) if path else None
        self._named, self._may_be_missing = named, may_be_missing
        self._entries: list[tuple[str, bytes]] = []  # name and key, when the file was read last
        self._version: tuple[int, ...] | None = None  # of the file that was read
        self._problem = ""

    def entries(self) -> list[tuple[str, bytes]]:
        """Return name, which may be empty, and key of each line."""
        if self._path is None:
            return []
        try:
            state = self._path.stat()
            version = (state.st_mtime_ns, state.st_ino, state.st_size)
            if version != self._version:
                self._entries, self._version = self._parsed(self._path.read_bytes()), version
                log.info("API keys read", extra={"file": str(self._path), "keys": len(self._entries)})
            problem = "" if self._entries else "has no key; expected one a line"
        except OSError as error:
            if self._may_be_missing and isinstance(error, FileNotFoundError):
                self._entries, self._version, problem = [], None, ""
            else:
                problem = f"cannot be read: {type(error).__name__}"
        if problem != self._problem and problem:
            log.error("%s %s: %s", self._setting, self._path, problem)
        self._problem = problem
        return self._entries

    def _parsed(self, content: bytes) -> list[tuple[str, bytes]]:
        if not self._named:
            return [("", word) for word in content.split()]
        lines = [(number, line.split()) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
        for number, words in lines:
            if len(words) != 2:
                log.error("%s, line %d: %d words; expected a name and a key", self._setting, number, len(words))
        return [(words[0].decode(errors="replace")[:MOST_NAME], words[1]) for _, words in lines if len(words) == 2]


def _sent(headers: Headers) -> bytes:
    """Return the key that a request has; empty: none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":  # Label Studio knows no other
        with suppress(binascii.Error, ValueError):
            return base64.b64decode(token.strip(), validate=True).partition(b":")[2]
    return (token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode("latin-1")


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
