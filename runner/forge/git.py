"""Git as a subprocess, authenticated over https with a token: FORGE_TOKEN, or GITHUB_TOKEN."""

import base64
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from runner.errors import GitError

_LONGEST_PAUSE_S = 60.0
Result = TypeVar("Result")


def git(
    project: Path, *arguments: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run Git and return its stdout without the last newline; GitError has the line of stderr that gives the reason."""
    settings = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(environment or {})}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=project, env=settings, input=stdin or b"", capture_output=True, check=False
        )
    except OSError as error:
        raise GitError(f"git cannot be run ({error.strerror}); install it") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()] or ["failed"]
        why = next((line for line in said if line.startswith(("fatal:", "error:", "!"))), said[-1])
        command = next(argument for argument in arguments if not argument.startswith("-"))
        raise GitError(f"git {command}: {shown(why)}")
    return done.stdout.decode(errors="replace").rstrip("\n")


def paths_of(listed: str) -> list[str]:
    """Return the paths in what Git printed because of `-z`."""
    return [path for path in listed.split("\0") if path]


def retry(do: Callable[[], Result], *, tries: int = 8, pause: Callable[[float], None] = time.sleep) -> Result:
    """Return the result of `do`, which must be idempotent; retry while Git or its server refuses, then raise the error.

    Eight tries take two minutes; `pause` sleeps for some seconds between them, as long as the server asks for, up to a
    minute. A refusal that is final is raised at once.
    """
    for attempt in range(1, tries):
        try:
            return do()
        except GitError as error:
            if error.is_final:
                raise
            seconds = min(max(2.0 ** (attempt - 1), error.retry_after_s), _LONGEST_PAUSE_S)
            print(f"try {attempt} of {tries}: {error}; again in {seconds:.0f} s", flush=True)
        pause(seconds)
    return do()


def head_of(url: str, branch: str) -> str:
    """Return the commit id of a remote branch; GitError when there is no such branch."""
    found = git(Path.cwd(), "ls-remote", url, f"refs/heads/{branch}", environment=credentials(url)).split()
    if not found:
        raise GitError(f"{url}: there is no branch {branch}; correct DETECTOR_REVISION in gitops/cluster/cluster.env")
    return found[0]


def credentials(url: str, token: str | None = None) -> dict[str, str]:
    """Return Git's configuration for a token over https, as environment variables so that no process list shows it.

    A token of None is that of the environment. GitHub, Gitea and GitLab take it as the password of any user.
    """
    token, address = token_of_environment() if token is None else token, urlsplit(url)
    if not token or not is_private(url) or address.username:
        return {}
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{address.scheme}://{address.netloc}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
    }


def token_of_environment() -> str:
    """Return FORGE_TOKEN, else GITHUB_TOKEN, as GitHub's own jobs call it; empty when neither is set."""
    return os.environ.get("FORGE_TOKEN") or os.environ.get("GITHUB_TOKEN") or ""


def is_private(url: str) -> bool:
    """Whether nobody on the way can read a token sent to a URL: https, or this machine."""
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    return scheme == "https" or (scheme == "http" and host in ("127.0.0.1", "localhost", "::1"))


def shown(text: str) -> str:
    """Return a text with user and password removed from its URLs."""
    return re.sub(r"(\w+://)[^/\s@]*@", r"\1", text)
