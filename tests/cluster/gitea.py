"""Gitea on https://git.flywheel.test: a repository, its people, its webhooks, and what it tells of a commit."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.cluster.places import CACHE, FORGE, script

OWNER, NAME = "aviation", "flyingthings"
URL = f"https://{FORGE}/{OWNER}/{NAME}.git"
API = f"https://{FORGE}/api/v1"
REPOSITORY = f"/repos/{OWNER}/{NAME}"
PAGE = 50  # it lists no more at once


@dataclass
class Gitea:
    """The forge with our repository in it: a person who owns it, and the bot, which may push."""

    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    person: str = field(default="", repr=False)  # tokens
    bot: str = field(default="", repr=False)

    def make(self) -> Gitea:
        """Make the people, the repository and their tokens, in an empty forge."""
        for name, more in (("somebody", ["--admin"]), ("flywheel-bot", [])):
            self._admin("user", "create", "--username", name, "--email", f"{name}@example.com", *more)
        self.ask("POST", "/orgs", {"username": OWNER})
        self.ask("POST", f"/orgs/{OWNER}/repos", {"name": NAME, "default_branch": "main"})
        self.ask("PUT", f"{REPOSITORY}/collaborators/flywheel-bot", {"permission": "write"})
        self.person, self.bot = (self._token(name) for name in ("somebody", "flywheel-bot"))
        return self

    def ask(self, method: str, path: str, content: Any = None, *, user: str = "somebody") -> Any:
        """Call its API as a person; return what it answers, None for nothing."""
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{API}{path}", body, {"Content-Type": "application/json"}, method=method)
        request.add_header("Authorization", "Basic " + b64encode(f"{user}:{self.password}".encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                said = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error
        return json.loads(said) if said else None

    def hook(self, url: str, secret: str, kind: str = "gitea") -> int:
        """Make a webhook for pushes; return its number."""
        config = {"url": url, "content_type": "json", "secret": secret}
        hook = {"type": kind, "config": config, "events": ["push"], "active": True}
        return int(self.ask("POST", f"{REPOSITORY}/hooks", hook)["id"])

    def statuses(self, commit: str) -> list[dict[str, Any]]:
        """Return what was said of a commit, newest first."""
        found: list[dict[str, Any]] = self.ask("GET", f"{REPOSITORY}/commits/{commit}/statuses?sort=recentupdate")
        return found

    def commits(self, branch: str = "main") -> list[dict[str, Any]]:
        """Return the commits of a branch, newest first."""
        found: list[dict[str, Any]] = []
        for page in count(1):
            more = self.ask("GET", f"{REPOSITORY}/commits?sha={branch}&stat=false&limit={PAGE}&page={page}")
            found += more
            if len(more) < PAGE:
                break
        return found

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Send no webhook until the block ends."""
        hooks = [f"{REPOSITORY}/hooks/{each['id']}" for each in self.ask("GET", f"{REPOSITORY}/hooks")]
        for hook in hooks:
            self.ask("PATCH", hook, {"active": False})
        try:
            yield
        finally:
            time.sleep(3)  # a push is told of after it has ended
            for hook in hooks:
                self.ask("PATCH", hook, {"active": True})

    def redeliver(self, commit: str) -> int:
        """Send the delivery of a push again, byte for byte, as a page of deliveries does; return its status."""
        with sqlite3.connect(f"file:{CACHE / 'state/forge/gitea.db'}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT payload_content, request_content FROM hook_task ORDER BY id").fetchall()
        payload, sent = next(row for row in rows if json.loads(row[0]).get("after") == commit)
        request = json.loads(sent)
        again = urllib.request.Request(request["url"], payload.encode(), request["headers"])
        with urllib.request.urlopen(again, timeout=30) as answer:
            return int(answer.status)

    def _token(self, user: str) -> str:
        scopes = {"name": secrets.token_hex(4), "scopes": ["write:repository"]}
        return str(self.ask("POST", f"/users/{user}/tokens", scopes, user=user)["sha1"])

    def _admin(self, *arguments: str) -> None:
        folder = CACHE / "state/forge"
        command = [str(CACHE / "bin/gitea"), "--config", str(folder / "app.ini"), "admin", *arguments]
        command += ["--password", self.password, "--must-change-password=false"]
        environment = os.environ | {"HOME": str(folder / "home"), "USER": "root"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr


def stop() -> None:
    script("down", "--only", "forge")


def start() -> None:
    script("forge")
