"""Connection to Label Studio, its projects by title, and the calls that its own client lacks."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from label_studio_sdk.base_client import LabelStudioBase  # the other one imports pandas, for seconds
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.request_options import RequestOptions

from runner.errors import LabelStudioError, NotSetUpError
from runner.label_studio.regions import FROM_NAME
from serving.storage.endpoint import tls_context

Item = TypeVar("Item")
#: For calls that create something: the client would retry after a lost answer, and create it twice.
ONCE: RequestOptions = {"max_retries": 0}
#: Switched on: submit a picture without a box, show the model's boxes, skip a picture, reported pictures first.
SETTINGS = ("enable_empty_annotation", "show_collab_predictions", "show_skip_button", "show_overlap_first")
TIMEOUT_SECONDS = 120.0
#: For answers about all tasks, which Label Studio makes as a whole before it sends the first byte.
OF_ALL_TASKS: RequestOptions = {"timeout_in_seconds": 1800}
_RERUN = "then run this command again; it continues where it stopped"


@dataclass(frozen=True)
class Server:
    """A connected Label Studio."""

    url: str  # without a slash at the end
    client: LabelStudioBase
    http: httpx.Client  # the connection under the client

    def find_project(self, title: str) -> "Project | None":
        """Return the project with this title; None: there is none. LabelStudioError: there are several."""
        listed: Any = all_pages(self.client.projects.list(title=title))
        found = [each for each in listed if each.title == title]
        if len(found) > 1:
            raise LabelStudioError(f"{self.url}: {len(found)} projects have the title {title!r}; rename all but one")
        if not found:
            return None
        project = found[0]
        labels = list((project.parsed_label_config or {}).get(FROM_NAME, {}).get("labels", []))
        off = [name for name in SETTINGS if not getattr(project, name)]
        return Project(self, project.id, title, project.label_config or "", labels, off)

    def project(self, title: str) -> "Project":
        """Return the project with this title; NotSetUpError: there is none."""
        if project := self.find_project(title):
            return project
        raise NotSetUpError(
            f"{self.url}: there is no project {title!r} (labels.title); `python -m runner labels setup` creates it"
        )

    def get(self, path: str, *, seconds: float = TIMEOUT_SECONDS) -> bytes:
        """Return the content of a path, such as a picture that the server holds or fetches from its storage.

        `seconds`: until the first byte.
        """
        return self._request("GET", path, follow_redirects=True, timeout=seconds).content

    def upload(self, project_id: int, files: Sequence[tuple[str, bytes]]) -> dict[str, str]:
        """Upload files, each a name and its content, without creating tasks; return name → address in a task.

        The server takes at most 100, and 250 MB together.
        """
        path = f"/api/projects/{project_id}/import?commit_to_project=false"
        parts = [(f"file{number}", file) for number, file in enumerate(files)]
        uploaded = self._request("POST", path, files=parts).json()["file_upload_ids"]
        kept = [file.file or "" for file in self.client.files.list(project_id, ids=json.dumps(uploaded))]
        return {name: f"/data/{path}" for name, _ in files for path in kept if path.endswith(name)}

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call a path as the client's user: it exchanges a personal access token for one of five minutes."""
        headers = {"Authorization": self.client._client_wrapper.get_headers()["Authorization"]}
        answer = self.http.request(method, self.url + path, headers=headers, **options)
        if answer.is_success:
            return answer
        raise ApiError(status_code=answer.status_code, headers=dict(answer.headers), body=answer.text)


@dataclass(frozen=True)
class Project:
    """A project in Label Studio."""

    server: Server
    id: int
    title: str
    label_config: str  # XML
    labels: list[str]  # of the tag that labels rectangles; empty when the configuration is not one of ours
    off: list[str]  # those of SETTINGS that are off

    @property
    def address(self) -> str:
        """URL of its page."""
        return f"{self.server.url}/projects/{self.id}/data"

    def task_address(self, task: int) -> str:
        """URL of a task's page."""
        return f"{self.address}?task={task}"

    def require_labels(self, classes: Iterable[str], owner: str) -> None:
        """Raise LabelStudioError unless there is a label for each class of `owner`, the dataset or the model."""
        if unknown := [name for name in classes if name not in self.labels]:
            raise LabelStudioError(
                f"{self.title} in Label Studio has no label {', '.join(unknown)}, which {owner} has; list it under "
                "dataset.classes, then `python -m runner labels setup`"
            )


def all_pages(listed: Iterable[Item]) -> list[Item]:
    """Return what all pages of a list hold; the page after the last one is missing (404)."""
    found: list[Item] = []
    try:
        for item in listed:
            found.append(item)
    except ApiError as error:
        if error.status_code != HTTPStatus.NOT_FOUND:
            raise
    return found


@contextmanager
def connected() -> Iterator[Server]:
    """Connect to LABEL_STUDIO_URL as the user of LABEL_STUDIO_API_KEY (of either kind of token).

    LabelStudioError: either is not set, or CA_BUNDLE cannot be read; or, until the block ends, the server does not
    answer or refuses.
    """
    url, key = (os.environ.get(name, "").rstrip("/") for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"))
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise LabelStudioError(
            f"LABEL_STUDIO_URL is {url!r}, expected the address of Label Studio, such as http://localhost:8081; "
            "docs/wheel.md starts one"
        )
    if not key:
        raise LabelStudioError(
            f"LABEL_STUDIO_API_KEY is not set, expected an access token: {url}/user/account shows yours"
        )
    try:
        trusted = tls_context()
    except OSError as error:
        raise LabelStudioError(str(error.strerror)) from error
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, verify=trusted) as http:
            client = LabelStudioBase(base_url=url, api_key=key, httpx_client=http)
            yield Server(url, client, http)
    except ApiError as error:
        raise LabelStudioError(f"{url}: {_explain(error)}") from error
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise LabelStudioError(f"{url}: {reason}; check that Label Studio runs there, {_RERUN}") from error


def _explain(error: ApiError) -> str:
    body = error.body if isinstance(error.body, Mapping) else {}
    detail = body.get("validation_errors") or body.get("detail") or error.body
    answer = f"answered {error.status_code}: {' '.join(str(detail).split())[:300]}"
    match error.status_code:
        case 301 | 302 | 307 | 308:
            return f"redirects to {(error.headers or {}).get('location')}; set LABEL_STUDIO_URL to that address"
        case 401:
            return (
                f"{answer}; LABEL_STUDIO_API_KEY is refused: take a new token from its page Account & Settings (legacy "
                "tokens work only where the organisation allows them)"
            )
        case 403 if "reserved network address" in answer:
            return (
                f"{answer}; Label Studio may not call the store: start it with USE_DEFAULT_BANNED_SUBNETS=false and "
                "list the networks that it must not call in USER_ADDITIONAL_BANNED_SUBNETS"
            )
        case status if status is None or status >= 500:
            return f"{answer}; see the log of Label Studio, {_RERUN}"
    return answer
