"""Connection to Label Studio, and the few calls that its own client lacks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from label_studio_sdk.client import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.request_options import RequestOptions

from runner.errors import LabelStudioError
from serving.storage.endpoint import tls_context

#: For calls that create something: the client would retry after a lost answer, and create it twice.
ONCE: RequestOptions = {"max_retries": 0}
TIMEOUT_SECONDS = 120.0
_AGAIN = "run this again when it is: what is done is not done twice"


@dataclass(frozen=True)
class Server:
    """A connected Label Studio.

    Attributes:
        url: of its page, without a slash at the end.
        client: its own SDK client.
        http: the connection under the client.
    """

    url: str
    client: LabelStudio
    http: httpx.Client

    def get(self, path: str) -> bytes:
        """Return the content of a path, such as a picture that the server holds or fetches from its storage."""
        answer = self.http.get(self.url + path, headers=self._headers(), follow_redirects=True)
        return _checked(answer).content

    def upload(self, project_id: int, files: Sequence[tuple[str, bytes]]) -> dict[str, str]:
        """Upload files, without making tasks of them; return name → address in a task.

        Args:
            files: name and content; at most 100, and 250 MB together (the server's own limits).
        """
        path = f"{self.url}/api/projects/{project_id}/import?commit_to_project=false"
        parts = [(f"file{number}", file) for number, file in enumerate(files)]
        made = _checked(self.http.post(path, headers=self._headers(), files=parts)).json()["file_upload_ids"]
        kept = [file.file or "" for file in self.client.files.list(project_id, ids=json.dumps(made))]
        return {name: f"/data/{path}" for name, _ in files for path in kept if path.endswith(name)}

    def _headers(self) -> Mapping[str, str]:
        """Authorization headers: the client exchanges a personal access token for one of five minutes."""
        headers: dict[str, str] = self.client._client_wrapper.get_headers()
        return {"Authorization": headers["Authorization"]}


@contextmanager
def connected() -> Iterator[Server]:
    """Connect to LABEL_STUDIO_URL as the user of LABEL_STUDIO_API_KEY (of either kind of token).

    Raises:
        LabelStudioError: either is not set; or, until the block ends, the server does not answer or refuses.
    """
    url, key = (os.environ.get(name, "").rstrip("/") for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"))
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise LabelStudioError(
            f"LABEL_STUDIO_URL is {url!r}, expected the address of Label Studio, such as http://localhost:8080"
        )
    if not key:
        raise LabelStudioError(
            f"LABEL_STUDIO_API_KEY is not set, expected an access token: {url}/user/account shows yours"
        )
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, verify=tls_context()) as http:
            client = LabelStudio(base_url=url, api_key=key, httpx_client=http)  # type: ignore[no-untyped-call]
            yield Server(url, client, http)
    except ApiError as error:
        raise LabelStudioError(f"{url}: {_explain(error)}") from error
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        raise LabelStudioError(f"{url}: {said}; is Label Studio running there? {_AGAIN}") from error


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    raise ApiError(status_code=answer.status_code, headers=dict(answer.headers), body=answer.text)


def _explain(error: ApiError) -> str:
    said = f"answered {error.status_code}: {_said(error.body)}"
    match error.status_code:
        case 301 | 302 | 307 | 308:
            return f"redirects to {(error.headers or {}).get('location')}; set LABEL_STUDIO_URL to that address"
        case 401:
            return (
                f"{said}; LABEL_STUDIO_API_KEY is refused: take a new token from its page Account & Settings (legacy "
                "tokens work only where the organisation allows them)"
            )
        case 403 if "reserved network address" in said:
            return (
                f"{said}; Label Studio may not call the store: set USE_DEFAULT_BANNED_SUBNETS=false and list what it "
                "must not call in USER_ADDITIONAL_BANNED_SUBNETS, where it is started"
            )
        case status if status is None or status >= 500:
            return f"{said}; look into its log; {_AGAIN}"
    return said


def _said(body: Any) -> str:
    detail = body.get("detail") or body if isinstance(body, Mapping) else body
    return " ".join(str(detail).split())[:300]
