"""GitHub's API for the address of a repository.

GITHUB_API_URL and GITHUB_REPOSITORY (owner/name), which GitHub's own jobs set, override the values from the address.

API: https://docs.github.com/en/rest
"""

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from runner.errors import GitError
from runner.forge.git import is_private, retry
from serving.storage.endpoint import tls_context

_TIMEOUT_SECONDS = 60
_LONGEST_STATUS = 140  # characters that GitHub takes


class Remote(NamedTuple):
    """A repository on a server. All but `url` is empty when the address does not give it."""

    url: str  # as in Git
    endpoint: str  # in GitHub's API, such as https://api.github.com/repos/owner/name
    page: str  # for people
    repository: str  # owner/name


def remote_of(url: str) -> Remote:
    """Parse an address: https://host/owner/name, ssh://… or git@host:owner/name.

    A host other than github.com counts as a GitHub Enterprise Server, with its API at /api/v3.
    """
    found = re.fullmatch(r"(?:https?://|ssh://)?(?:[^@/]*@)?([\w.-]+)(:\d+)?[:/](.+?/.+?)(\.git)?/?", url)
    host, path = (found[1], found[3]) if found and not url.startswith(("file:", "/", ".")) else ("", "")
    scheme = "http" if url.startswith("http://") else "https"
    port = found[2] or "" if found and host and url.startswith("http") else ""
    api = "https://api.github.com" if host == "github.com" else f"{scheme}://{host}{port}/api/v3" if host else ""
    page = f"{scheme}://{host}{port}/{path}" if host else ""
    api, repository = os.environ.get("GITHUB_API_URL") or api, os.environ.get("GITHUB_REPOSITORY") or path
    return Remote(url, f"{api.rstrip('/')}/repos/{repository}" if api and repository else "", page, repository)


def set_status(url: str, commit: str, state: str, text: str, context: str) -> bool:
    """Set a commit's status named `context`; return False when GITHUB_TOKEN is not set or the repository has no API.

    `state` is error, failure, pending or success; `text` is cut to what GitHub takes.
    """
    endpoint, token = remote_of(url).endpoint, os.environ.get("GITHUB_TOKEN")
    if not token or not endpoint:
        return False
    cut = text if len(text) <= _LONGEST_STATUS else f"{text[: _LONGEST_STATUS - 1]}…"
    status = {"state": state, "description": cut, "context": context}
    retry(lambda: ask("POST", f"{endpoint}/statuses/{commit}", token, status), tries=4)
    return True


def ask(method: str, url: str, token: str, content: Mapping[str, str] | None = None) -> Any:
    """Call the API and return its JSON; GitError: it does not answer, refuses, or the token would be readable."""
    if not is_private(url):
        raise GitError(f"GITHUB_API_URL is {url}, expected https://…, as the token would be readable on the way")
    headers = {"Accept": "application/vnd.github+json", "Content-Type": "application/json", "User-Agent": "flywheel"}
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, body, headers, method=method)
    request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=tls_context()) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            said = " ".join(error.read(2000).decode(errors="replace").split())[:300]
        remedy = "the token needs the right to do this" if error.code in (401, 403, 404) else "look at it there"
        raise GitError(f"{method} {url} answered {error.code}: {said}; {remedy}") from error
    except (OSError, ValueError) as error:
        raise GitError(f"{method} {url}: {error}; run this again once it answers") from error


def same_repository(one: str, other: str) -> bool:
    """Whether two addresses, in any form, are of the same repository."""
    pages = [urlsplit(remote_of(each).page) for each in (one, other)]
    (host, path), (other_host, other_path) = ((page.hostname, page.path.lower()) for page in pages)
    return one == other or (bool(host) and (host, path) == (other_host, other_path))
