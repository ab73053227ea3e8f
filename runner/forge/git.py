"""Git in a process of its own, and the token that it shows over https.

GITHUB_TOKEN proves who asks when Git fetches or pushes.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from runner.errors import GitError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def git(
    project: Path, *arguments: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run Git and return what it prints.

    Raises:
        GitError: it fails; with the line that says why.
    """
    settings = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(environment or {})}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=project, env=settings, input=stdin or b"", capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise GitError("git is not installed, expected it on PATH") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()] or ["failed"]
        why = next((line for line in said if line.startswith(("fatal:", "error:", "!"))), said[-1])
        raise GitError(f"git {arguments[0]}: {shown(why)}; mend it, then run this again")
    return done.stdout.decode(errors="replace").strip()


def head_of(url: str, branch: str) -> str:
    """Return the commit that a branch is at.

    Raises:
        GitError: it cannot be reached, or there is no such branch.
    """
    found = git(Path.cwd(), "ls-remote", url, f"refs/heads/{branch}", environment=credentials(url)).split()
    if not found:
        raise GitError(f"{url}: there is no branch {branch}; correct DETECTOR_REVISION in gitops/cluster/cluster.env")
    return found[0]


def credentials(url: str, token: str | None = None) -> dict[str, str]:
    """Return what lets Git use a token over https, as environment so that no process list shows it.

    Args:
        url: of the repository.
        token: GITHUB_TOKEN where it is None.
    """
    token, address = os.environ.get("GITHUB_TOKEN") if token is None else token, urlsplit(url)
    is_safe = address.scheme == "https" or (address.scheme == "http" and address.hostname in LOOPBACK)
    if not token or not is_safe or address.username:
        return {}
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{address.scheme}://{address.netloc}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
    }


def shown(text: str) -> str:
    """Return a text without the password of a URL in it."""
    return re.sub(r"(\w+://)[^/\s@]*@", r"\1", text)
