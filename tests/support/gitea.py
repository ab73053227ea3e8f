"""Gitea itself, on loopback with SQLite; `make cluster` builds the program."""

import getpass
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.places import BIN
from tests.support.processes import free_port, program, start, stop

OWNER, NAME = "aviation", "flyingthings"
REPOSITORY = f"{OWNER}/{NAME}"
PERSON = "somebody"
SETTINGS = """
APP_NAME = Gitea
RUN_USER = {user}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
WORK_PATH = {folder}
[server]
PROTOCOL = http
ROOT_URL = http://127.0.0.1:{port}/
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
DISABLE_SSH = true
OFFLINE_MODE = true
STATIC_ROOT_PATH = {static}
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[repository]
ROOT = {folder}/repositories
DEFAULT_BRANCH = main
[security]
INSTALL_LOCK = true
SECRET_KEY = {secret}
[oauth2]
ENABLED = false
[service]
DISABLE_REGISTRATION = true
[webhook]
ALLOWED_HOST_LIST = loopback
[cron.update_checker]
ENABLED = false
[actions]
ENABLED = false
[log]
MODE = console
LEVEL = warn
"""


@dataclass
class Gitea:
    """A server with an organization; `person` is its administrator."""

    folder: Path
    port: int
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @property
    def site(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, content: Any = None, *, user: str = PERSON) -> Any:
        """Call its API as a person; return what it answers, None for nothing."""
        address = f"{self.site}/api/v1{path}"
        answer = httpx.request(method, address, json=content, auth=(user, self.password), timeout=60)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def fetch(self, address: str, token: str) -> bytes:
        """Read an address as somebody with a token."""
        return httpx.get(address, auth=("x", token), timeout=60).raise_for_status().content

    def token(self, user: str, *scopes: str) -> str:
        """Make a token of a person, with scopes such as write:repository."""
        asked = {"name": secrets.token_hex(4), "scopes": list(scopes)}
        return str(self.ask("POST", f"/users/{user}/tokens", asked, user=user)["sha1"])

    @contextmanager
    def repository(self) -> Iterator[tuple[str, str]]:
        """Give the URL of a private repository with a commit of its own, and a token by which the bot may write to it.

        Push with --force. It is not empty: Gitea notices only later that somebody pushed to one that was.
        """
        asked = {"name": NAME, "default_branch": "main", "private": True, "auto_init": True}
        self.ask("POST", f"/orgs/{OWNER}/repos", asked)
        self.ask("PUT", f"/repos/{REPOSITORY}/collaborators/flywheel-bot", {"permission": "write"})
        try:
            yield f"{self.site}/{REPOSITORY}.git", self.token("flywheel-bot", "write:repository", "read:user")
        finally:
            self.ask("DELETE", f"/repos/{REPOSITORY}")

    def add_user(self, name: str, *options: str) -> None:
        command = [gitea(), "--config", str(self.folder / "app.ini"), "admin", "user", "create", "--username", name]
        command += ["--email", f"{name}@example.com", "--password", self.password, "--must-change-password=false"]
        environment = os.environ | {"HOME": str(self.folder)}
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def gitea() -> str:
    """Return the program; skip without it, but in CI fail."""
    return program("gitea", "`make cluster` builds it (needs root and Go)")


@contextmanager
def serving_gitea(folder: Path) -> Iterator[Gitea]:
    """Give a server with the organization and a bot, until the block ends."""
    command, made = gitea(), Gitea(folder, free_port())
    static = (BIN.parent / "built/gitea.folder").read_text(encoding="utf-8").strip()
    values = {"user": getpass.getuser(), "secret": secrets.token_hex(32), "static": static}
    settings = SETTINGS.format(folder=folder, port=made.port, **values)
    (folder / "app.ini").write_text(settings, encoding="utf-8")
    for name in ("repositories", "data", "custom"):
        (folder / name).mkdir()
    environment = os.environ | {"HOME": str(folder)}
    started: list[str | Path] = [command, "--config", folder / "app.ini", "web"]
    version = f"{made.site}/api/v1/version"
    process = start(started, folder / "log", lambda: httpx.get(version).is_success, env=environment, cwd=folder)
    try:
        made.add_user(PERSON, "--admin")
        made.add_user("flywheel-bot")
        made.ask("POST", "/orgs", {"username": OWNER})
        yield made
    finally:
        stop(process)
