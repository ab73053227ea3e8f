"""The cluster that the user is logged in to, through his own `oc` or `kubectl`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner.errors import ClusterError, UnreachableError

TIMEOUT_S = 60
_AWAY = ("InternalError", "ServiceUnavailable", "Timeout", "ServerTimeout", "TooManyRequests")  # reasons of a Status


def command() -> str:
    """Return the client's path: `oc` where it is installed, else `kubectl`.

    Raises:
        ClusterError: neither is installed.
    """
    found = shutil.which("oc") or shutil.which("kubectl")
    if not found:
        raise ClusterError("neither oc nor kubectl is on PATH; install one and log in to the cluster")
    return found


def get(path: str, *, labels: str = "") -> dict[str, Any] | None:
    """Return an object or a list as the API server has it; None when there is none, or no such kind.

    Args:
        path: the API's path, such as `/api/v1/nodes`.
        labels: a label selector.
    Raises:
        ClusterError: the cluster cannot be reached, or does not let the user read this.
    """
    query = f"?labelSelector={quote(labels)}" if labels else ""
    done = run("get", "--raw", path + query)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        if "(NotFound)" in said or "could not find the requested resource" in said:
            return None
        if "(Forbidden)" in said:
            raise ClusterError(f"{path} may not be read; log in as a user who may (a cluster administrator): {said}")
        if "(Unauthorized)" in said or "must be logged in" in said:
            raise ClusterError(f"the cluster does not know the user; log in again (oc login): {said}")
        kind = UnreachableError if is_away(said) else ClusterError
        raise kind(f"the cluster does not answer; is this the right one (kubectl config current-context)? {said}")
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise ClusterError(
            f"{path}: the answer is no JSON ({error}); is a proxy between here and the cluster?"
        ) from error
    return answer if isinstance(answer, dict) else None


def is_away(said: str) -> bool:
    """Whether the client says that the API server is not there now, rather than that it refuses."""
    answer = re.search(r"Error from server \((\w+)\)", said)
    return answer[1] in _AWAY if answer else "must be logged in" not in said


def items(path: str, *, labels: str = "") -> list[dict[str, Any]]:
    """Return the objects of a list; none when the cluster has no such kind."""
    return list((get(path, labels=labels) or {}).get("items") or [])


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the client and return what it printed.

    Raises:
        ClusterError: no client, or no answer within a minute.
    """
    try:
        return subprocess.run(
            [command(), f"--request-timeout={TIMEOUT_S}s", *arguments],
            cwd=folder, capture_output=True, text=True, timeout=10 * TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"the cluster did not answer `{' '.join(arguments)}` in {10 * TIMEOUT_S} s") from error
