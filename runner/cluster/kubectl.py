"""The user's own `oc` or `kubectl`, as a subprocess."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner.errors import ClusterError, UnreachableError

TIMEOUT_S = 60
_AWAY = ("InternalError", "ServiceUnavailable", "Timeout", "ServerTimeout", "TooManyRequests")  # reasons of a Status


def command() -> str:
    """Return the client's path: `oc`, else `kubectl`; ClusterError when neither is installed."""
    found = shutil.which("oc") or shutil.which("kubectl")
    if not found:
        raise ClusterError("neither oc nor kubectl is on PATH; install one and log in to the cluster")
    return found


def get(path: str, *, labels: str = "") -> dict[str, Any] | None:
    """Return an object or a list from the API server; None when it or its kind does not exist.

    Args:
        path: such as `/api/v1/nodes`.
        labels: a label selector.
    """
    query = f"?labelSelector={quote(labels)}" if labels else ""
    done = run("get", "--raw", path + query)
    if done.returncode:
        if "(NotFound)" in done.stderr or "could not find the requested resource" in done.stderr:
            return None
        raise _refusal(path, done)
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise ClusterError(
            f"{path}: the answer is no JSON ({error}); is a proxy between here and the cluster?"
        ) from error
    return answer if isinstance(answer, dict) else None


def find(*arguments: str, stdin: str | None = None) -> list[dict[str, Any]]:
    """Return the objects of one `kubectl get`; missing ones are left out, an unknown kind is a ClusterError.

    Args:
        arguments: kinds and where to look; or `-f -`.
        stdin: the objects to look for, as JSON.
    """
    done = run("get", *arguments, "--ignore-not-found", "-o", "json", stdin=stdin)
    if done.returncode:
        raise _refusal("some objects", done)
    return list(json.loads(done.stdout or "{}").get("items", []))


def kinds(groups: Collection[str]) -> dict[tuple[str, str], str]:
    """Return (group, kind) → preferred apiVersion of the kinds that the API server serves.

    Args:
        groups: ClusterError when the server of one of them does not answer; those of other groups may be unreachable.
    """
    done = run("api-resources", "--no-headers")
    if done.returncode and (not done.stdout or any(f" {group}/v" in done.stderr for group in groups)):
        raise _refusal("the kinds", done)
    rows = (line.split()[-3:] for line in done.stdout.splitlines())
    return {(version.rpartition("/")[0], kind): version for version, _, kind in rows}


def is_away(said: str) -> bool:
    """Whether the client's message means an unreachable API server rather than a refusal."""
    answer = re.search(r"Error from server \((\w+)\)", said)
    return answer[1] in _AWAY if answer else "must be logged in" not in said


def items(path: str, *, labels: str = "") -> list[dict[str, Any]]:
    """Return the objects of a list; empty when the cluster has no such kind."""
    return list((get(path, labels=labels) or {}).get("items") or [])


def _refusal(what: str, done: subprocess.CompletedProcess[str]) -> ClusterError:
    """Return the error for a failed read."""
    said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
    if "(Forbidden)" in said:
        return ClusterError(f"{what} may not be read; log in as a user who may (a cluster administrator): {said}")
    if "(Unauthorized)" in said or "must be logged in" in said:
        return ClusterError(f"the cluster does not know the user; log in again (oc login): {said}")
    kind = UnreachableError if is_away(said) else ClusterError
    return kind(f"the cluster does not answer; is this the right one (kubectl config current-context)? {said}")


def run(*arguments: str, folder: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the client; ClusterError when there is none, or no answer within a minute."""
    try:
        return subprocess.run(
            [command(), f"--request-timeout={TIMEOUT_S}s", *arguments],
            cwd=folder, input=stdin, capture_output=True, text=True, timeout=10 * TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"the cluster did not answer `{' '.join(arguments)}` in {10 * TIMEOUT_S} s") from error
