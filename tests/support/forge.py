"""Git over HTTP with tokens, and the calls of GitHub's and GitLab's API that Flywheel makes. Gitea runs for real.

Git's own `http-backend` serves the repository; what a token may do is asked before. A request is refused unless it is
as the published schema of its endpoint says; answers have the fields of the published examples that a client reads:
https://github.com/github/rest-api-description (api.github.com, 2022-11-28), https://docs.gitlab.com/api/ (commits,
merge_requests, project_webhooks, users), and lib/api of GitLab's source for what it answers to whom.
"""

import base64
import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tests.support.answering import Handler, answering
from tests.support.projects import git

REPOSITORY = "aviation/flyingthings"
IDENTITIES = {
    "github": {"login": "flywheel-bot", "id": 7},
    "gitlab": {
        **{"id": 7, "username": "project_7_bot", "name": "flywheel", "email": "private@example.com"},
        **{"commit_email": "7-project_7_bot@users.noreply.example.com"},
    },
}
HOOKS = {
    "github": {"id": 1, "active": True, "events": ["push"], "config": {"url": "", "content_type": "json"}},
    "gitlab": {"id": 1, "url": "", "push_events": True, "alert_status": "executable", "disabled_until": None},
}


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class GitHubStatus(Schema):
    state: Literal["error", "failure", "pending", "success"]
    target_url: str | None = None
    description: str | None = Field(default=None, max_length=140)
    context: str = "default"


class GitHubPulls(Schema):
    state: Literal["open", "closed", "all"] = "open"
    head: str = Field(pattern=r"^[^:]+:.+$")  # user:ref or organization:ref, else it is ignored
    base: str


class GitHubNewPull(Schema):
    title: str
    head: str
    base: str
    body: str = Field(max_length=65_536)
    draft: bool = False


class GitHubPull(Schema):
    title: str
    body: str = Field(max_length=65_536)


class GitHubPage(Schema):
    per_page: str


class GitLabStatus(Schema):
    state: Literal["pending", "running", "success", "failed", "canceled", "skipped"]
    ref: str | None = None
    name: str = Field(default="default", max_length=255)
    target_url: str | None = Field(default=None, max_length=255)
    description: str | None = Field(default=None, max_length=255)


class GitLabMergeRequests(Schema):
    state: Literal["opened", "closed", "locked", "merged", "all"]
    source_branch: str
    target_branch: str


class GitLabNewMergeRequest(Schema):
    title: str = Field(max_length=255)
    source_branch: str
    target_branch: str
    description: str = Field(max_length=1_048_576)
    remove_source_branch: bool | None = None


class GitLabMergeRequest(Schema):
    title: str = Field(max_length=255)
    description: str = Field(max_length=1_048_576)


class Empty(Schema):
    pass


GITHUB, GITLAB = rf"/repos/{REPOSITORY}", f"/projects/{REPOSITORY.replace('/', '%2F')}"
#: Method and path of an endpoint → its name here, the query that it takes, and the body.
ENDPOINTS: dict[str, dict[tuple[str, str], tuple[str, type[Schema], type[Schema]]]] = {
    "github": {
        ("POST", rf"{GITHUB}/statuses/(\w+)"): ("status", Empty, GitHubStatus),
        ("GET", rf"{GITHUB}/pulls"): ("pulls", GitHubPulls, Empty),
        ("POST", rf"{GITHUB}/pulls"): ("open", Empty, GitHubNewPull),
        ("PATCH", rf"{GITHUB}/pulls/(\d+)"): ("update", Empty, GitHubPull),
        ("GET", rf"{GITHUB}/hooks"): ("hooks", GitHubPage, Empty),
        ("GET", "/user"): ("user", Empty, Empty),
    },
    "gitlab": {
        ("POST", rf"{GITLAB}/statuses/(\w+)"): ("status", Empty, GitLabStatus),
        ("GET", rf"{GITLAB}/merge_requests"): ("pulls", GitLabMergeRequests, Empty),
        ("POST", rf"{GITLAB}/merge_requests"): ("open", Empty, GitLabNewMergeRequest),
        ("PUT", rf"{GITLAB}/merge_requests/(\d+)"): ("update", Empty, GitLabMergeRequest),
        ("GET", rf"{GITLAB}/hooks"): ("hooks", GitHubPage, Empty),
        ("GET", "/user"): ("user", Empty, Empty),
    },
}
API_PATHS = {"github": "/api/v3", "gitlab": "/api/v4"}


@dataclass
class Forge:
    """A repository on a server."""

    folder: Path  # of the bare repository
    kind: str = "github"
    write_token: str = "write-token"  # may do everything
    read_token: str = "read-token"  # may read
    port: int = 0
    host: str = ""  # in its certificate, where it speaks https; a proxy leads there
    pulls: dict[str, dict[str, Any]] = field(default_factory=dict)  # by branch: title, body, base
    closed: list[tuple[str, str, str, bool]] = field(default_factory=list)  # pulls: branch, base, commit, merged
    statuses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by commit
    hooks: list[dict[str, Any]] = field(default_factory=list)
    refusal: tuple[int, Any] | None = None  # answers each call of the API: a status with a JSON, or 302 and an address
    busy: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answers one call each: status, headers
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # calls of the API: method, path with query, token

    @property
    def site(self) -> str:
        return f"https://{self.host}" if self.host else f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What cluster.env's REPO_URL is."""
        return f"{self.site}/{REPOSITORY}.git"

    def hook(self, url: str, **faults: Any) -> None:
        """Make a webhook."""
        made = json.loads(json.dumps(HOOKS[self.kind]))
        (made["config"] if self.kind == "github" else made)["url"] = url
        self.hooks.append(made | faults)

    def close(self, branch: str, *, merged: bool = False) -> None:
        """Close a pull request as a person does."""
        pull = self.pulls.pop(branch)
        self.closed.append((branch, pull["base"], git(self.folder, "rev-parse", branch), merged))

    def answer(self, name: str, of: str, sent: dict[str, Any], token: str) -> tuple[int, Any]:
        """Return what the API answers to a valid call."""
        if token != self.write_token and (name != "pulls" or token != self.read_token):
            return 403, {"message": "Resource not accessible by personal access token"}
        match name:
            case "status":
                return self._status(of, sent)
            case "pulls":
                branch = sent["head"].partition(":")[2] if self.kind == "github" else sent["source_branch"]
                base = sent["base" if self.kind == "github" else "target_branch"]
                if sent["state"] == "closed":
                    return 200, [
                        self._closed(*each)
                        for each in self.closed
                        if each[:2] == (branch, base) and not (self.kind == "gitlab" and each[3])
                    ]
                pull = self.pulls.get(branch)
                return 200, [self._shown(branch)] if pull and pull["base"] == base else []
            case "open":
                github = self.kind == "github"
                branch = sent["head" if github else "source_branch"]
                if branch in self.pulls:
                    return (422 if github else 409), {"message": "A pull request exists already"}
                if git(self.folder, "branch", "--list", branch) == "":
                    return 422, {"message": "Validation Failed: head does not exist"}
                base = sent["base" if github else "target_branch"]
                self.pulls[branch] = {**self._texts(sent), "base": base, "number": len(self.pulls) + 1}
                return 201, self._shown(branch)
            case "update":
                branch = next(branch for branch, pull in self.pulls.items() if str(pull["number"]) == of)
                self.pulls[branch] |= self._texts(sent)
                return 200, self._shown(branch)
            case "hooks":
                return 200, self.hooks
        return 200, IDENTITIES[self.kind]

    def _status(self, commit: str, sent: dict[str, Any]) -> tuple[int, Any]:
        known = subprocess.run(["git", "cat-file", "-e", commit], cwd=self.folder, check=False, capture_output=True)
        if known.returncode:
            return (
                (422, {"message": f"No commit found for SHA: {commit}"})
                if self.kind == "github"
                else (404, {"message": "404 Commit Not Found"})
            )
        self.statuses.setdefault(commit, []).append(sent)
        return 201, sent

    def _texts(self, sent: dict[str, Any]) -> dict[str, str]:
        return {"title": sent["title"], "body": sent["body" if self.kind == "github" else "description"]}

    def _closed(self, branch: str, base: str, commit: str, merged: bool) -> dict[str, Any]:
        page = self.url.removesuffix(".git")
        if self.kind == "github":
            merged_at = "2026-11-30T10:00:00Z" if merged else None
            return {"html_url": f"{page}/pull/1", "head": {"ref": branch, "sha": commit}, "merged_at": merged_at}
        return {"web_url": f"{page}/-/merge_requests/1", "sha": commit, "state": "closed"}

    def _shown(self, branch: str) -> dict[str, Any]:
        pull = self.pulls[branch]
        number, page = pull["number"], self.url.removesuffix(".git")
        if self.kind == "github":
            return {"number": number, "html_url": f"{page}/pull/{number}"}
        own = {"source_project_id": 1, "target_project_id": 1}
        return {"iid": number, "web_url": f"{page}/-/merge_requests/{number}", **own}


@contextmanager
def serving_forge(
    folder: Path, kind: str = "github", host: str = "", tls: ssl.SSLContext | None = None
) -> Iterator[Forge]:
    forge = Forge(folder, kind, host=host)
    for key in ("http.receivepack", "uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git(folder, "config", key, "true")
    with answering(_handler(forge), tls) as forge.port:
        yield forge


def _handler(forge: Forge) -> type[Handler]:
    class ForgeHandler(Handler):
        def _token(self) -> str:
            kind, _, value = (self.headers.get("Authorization") or "").partition(" ")
            if kind == "Basic":
                return base64.b64decode(value).decode().partition(":")[2]
            return value

        def _handle(self) -> None:
            body = self.body()
            address = urlsplit(self.path)
            api = API_PATHS[forge.kind]
            if address.path.startswith(f"{api}/"):
                return self._api(address.path.removeprefix(api), address.query, body)
            if self._token() != forge.write_token:
                return self.answer(401, b"who are you?", WWW_Authenticate='Basic realm="git"')
            if raw := re.fullmatch(rf"/{REPOSITORY}(?:/-)?/raw/(\w+)/(.+)", address.path):
                show = ["git", "show", f"{raw[1]}:{unquote(raw[2])}"]
                return self.answer(200, subprocess.run(show, cwd=forge.folder, capture_output=True, check=True).stdout)
            return self._backend(address.path, address.query, body)

        def _backend(self, path: str, query: str, body: bytes) -> None:
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(forge.folder.parent),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path.replace(f"/{REPOSITORY}.git", f"/{forge.folder.name}"),
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type") or "",
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
                "REMOTE_USER": "token",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
            }
            done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
            code = int(headers.pop("Status", "200").split()[0])
            headers.pop("Content-Length", None)
            self.answer(code, content, **headers)

        def _api(self, path: str, query: str, body: bytes) -> None:
            repository = GITHUB if forge.kind == "github" else GITLAB
            shown = path.removeprefix(f"{repository}/")
            forge.asked.append((self.command, f"{shown}?{query}" if query else shown, self._token()))
            if forge.busy:
                code, headers = forge.busy.pop(0)
                return self.answer(code, b"<html>wait</html>", Content_Type="text/html", **headers)
            if forge.refusal and forge.refusal[0] == 302:
                return self.answer(302, b"", Location=forge.refusal[1])
            if forge.refusal:
                return self._json(*forge.refusal)
            for (method, pattern), (name, query_schema, body_schema) in ENDPOINTS[forge.kind].items():
                if method == self.command and (found := re.fullmatch(pattern, path)):
                    try:
                        asked = query_schema.model_validate(dict(parse_qsl(query))).model_dump(exclude_unset=True)
                        sent = body_schema.model_validate_json(body or b"{}").model_dump(exclude_unset=True)
                    except ValidationError as error:
                        return self._json(400 if forge.kind == "gitlab" else 422, {"message": str(error)})
                    of = found[1] if found.groups() else ""
                    return self._json(*forge.answer(name, of, asked | sent, self._token()))
            return self._json(404, {"message": "Not Found"})

        def _json(self, code: int, content: object) -> None:
            self.answer(code, json.dumps(content).encode(), Content_Type="application/json")

        do_GET = do_POST = do_PATCH = do_PUT = _handle  # noqa: N815

    return ForgeHandler
