"""Git over HTTP with tokens, and the calls of GitHub's API that pull requests take.

Git's own `http-backend` serves the repository; what a token may do is asked before.
API: https://docs.github.com/en/rest/pulls/pulls
"""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.answering import Handler, answering
from tests.support.projects import git

REPOSITORY = "aviation/flyingthings"


@dataclass
class Forge:
    """A repository on a server."""

    folder: Path  # of the bare repository
    write_token: str = "write-token"  # may push and open pull requests
    port: int = 0
    pulls: dict[str, dict[str, Any]] = field(default_factory=dict)  # by branch
    refusal: tuple[int, Any] | None = None  # answers each call of the API: a status with a JSON, or 302 and an address
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # calls of the API: method, path with query, token

    @property
    def url(self) -> str:
        """What cluster.env's REPO_URL is."""
        return f"http://127.0.0.1:{self.port}/{REPOSITORY}.git"


@contextmanager
def serving_forge(folder: Path) -> Iterator[Forge]:
    forge = Forge(folder)
    for key in ("http.receivepack", "uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git(folder, "config", key, "true")
    with answering(_handler(forge)) as forge.port:
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
            if address.path.startswith("/api/v3/"):
                return self._api(address.path.removeprefix(f"/api/v3/repos/{REPOSITORY}/"), address.query, body)
            if self._token() != forge.write_token:
                return self.answer(401, b"who are you?", WWW_Authenticate='Basic realm="git"')
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
            token, content = self._token(), json.loads(body or b"{}")
            forge.asked.append((self.command, f"{path}?{query}" if query else path, token))
            if forge.refusal and forge.refusal[0] == 302:
                return self.answer(302, b"", Location=forge.refusal[1])
            if forge.refusal:
                return self._json(*forge.refusal)
            number = path.partition("/")[2]
            if token != forge.write_token:
                return self._json(403, {"message": "Resource not accessible by personal access token"})
            if self.command == "GET":
                found = [pull for branch, pull in forge.pulls.items() if branch.replace("/", "%2F") in query]
                return self._json(200, found)
            if self.command == "PATCH":
                pull = next(pull for pull in forge.pulls.values() if str(pull["number"]) == number)
                pull |= content
                return self._json(200, pull)
            new = len(forge.pulls) + 1
            page = f"{forge.url.removesuffix('.git')}/pull/{new}"
            forge.pulls[content["head"]] = {**content, "number": new, "html_url": page}
            return self._json(201, forge.pulls[content["head"]])

        def _json(self, code: int, content: object) -> None:
            self.answer(code, json.dumps(content).encode(), Content_Type="application/json")

        do_GET = do_POST = do_PATCH = _handle  # noqa: N815

    return ForgeHandler
