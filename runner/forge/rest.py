"""HTTP API of a forge: JSON in and out, with a token that goes to no other server."""

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, NamedTuple

from runner.errors import GitError
from runner.forge.git import is_private
from serving.storage.endpoint import tls_context

_TIMEOUT_SECONDS = 60
_TRANSIENT = (0, 408, 409, 425, 429)  # and all from 500 on


class ApiError(GitError):
    """The API refuses, or does not answer; `code` is the HTTP status, 0 where there is none.

    `retry_after_s`: the server takes the same again after so many seconds; None: it does not say so.
    """

    def __init__(self, message: str, code: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.is_final = code < 500 and code not in _TRANSIENT and retry_after_s is None
        self.retry_after_s = retry_after_s or 0.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: followed, a POST would become a GET, without its token."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Api(NamedTuple):
    """Base URL of a forge's API, and a token, which may be empty."""

    url: str
    token: str

    def ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        """Call the API and return its JSON; ApiError: it does not answer, refuses, or the token would be readable."""
        url = f"{self.url}{path}"
        if not is_private(url):
            raise ApiError(f"the forge's API is {url}, expected https://…, as the token would be readable on the way")
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "flywheel"}
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(url, body, headers, method=method)
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=_trusted()))
            with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = " ".join(error.read(2000).decode(errors="replace").split())[:300]
            if place := error.headers.get("Location"):
                said, remedy = f"it is at {place}", "the repository was moved: correct the address of the remote"
            else:
                remedy = "the token needs the right to do this" if error.code in (401, 403, 404) else "look at it there"
            message = f"{method} {url} answered {error.code}: {said}; {remedy}"
            raise ApiError(message, error.code, _retry_after(error.headers.get("Retry-After") or "")) from error
        except (OSError, HTTPException) as error:
            raise ApiError(f"{method} {url}: {error}; {_remedy(error)}") from error
        except ValueError as error:
            message = f"{method} {url} answered no JSON; correct FORGE_API_URL, or whatever stands before the forge"
            raise ApiError(message, HTTPStatus.OK) from error


def _retry_after(said: str) -> float | None:
    """Return the seconds that Retry-After says; None: it says none. GitHub refuses with 403 who asks too fast."""
    return float(said) if said.isdecimal() and said.isascii() else None


def _trusted() -> ssl.SSLContext:
    """Return the TLS context of `tls_context` plus what Git trusts by GIT_SSL_CAINFO; OSError: it cannot be read."""
    trusted = tls_context()
    if file := os.environ.get("GIT_SSL_CAINFO"):
        trusted.load_verify_locations(file)
    return trusted


def _remedy(error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "GIT_SSL_CAINFO names the file of certificates to trust, for Git too"
    return "run this again once it answers, or correct HTTPS_PROXY and NO_PROXY"
