"""The user's own `oc` or `kubectl`, as a subprocess."""

import base64
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

Object = dict[str, Any]


class MissingError(ClusterError):
    """The object, or its kind, does not exist."""


class ConflictError(ClusterError):
    """An object of this name exists, or it was changed meanwhile."""


def command() -> str:
    """Return the client's path: `oc`, else `kubectl`; ClusterError when neither is installed."""
    found = shutil.which("oc") or shutil.which("kubectl")
    if not found:
        raise ClusterError("neither oc nor kubectl is on PATH; install one and log in to the cluster")
    return found


def get(path: str, *, labels: str = "") -> Object | None:
    """Return an object or a list by its path, such as `/api/v1/nodes`; None when it or its kind does not exist."""
    try:
        answer = request("get", path + (f"?labelSelector={quote(labels)}" if labels else ""))
    except MissingError:
        return None
    return answer if isinstance(answer, dict) else None


def items(path: str, *, labels: str = "") -> list[Object]:
    """Return the objects of a list; empty when the cluster has no such kind."""
    return list((get(path, labels=labels) or {}).get("items") or [])


def secret(namespace: str, name: str) -> dict[str, str]:
    """Return the decoded data of a Secret; empty when there is none."""
    found = (get(f"/api/v1/namespaces/{namespace}/secrets/{name}") or {}).get("data") or {}
    return {key: base64.b64decode(text).decode(errors="replace") for key, text in found.items()}


def request(verb: str, path: str, content: Object | None = None) -> Any:
    """Call the cluster's API (get, create, replace or delete a path with its query) and return its JSON.

    MissingError, ConflictError, UnreachableError or ClusterError, as the API server says.
    """
    body = None if content is None else json.dumps(content)
    done = run(verb, "--raw", path, *(("-f", "-") if body else ()), stdin=body)
    if done.returncode:
        raise _refusal(f"{verb} {path}", done)
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise ClusterError(
            f"{path}: the answer is no JSON ({error}); is a proxy between here and the cluster?"
        ) from error


def find(*arguments: str, stdin: str | None = None) -> list[Object]:
    """Return the objects of one `kubectl get`: of some kinds, or with `-f -` those of `stdin`, as JSON.

    Missing ones are left out; an unknown kind is a ClusterError.
    """
    done = run("get", *arguments, "--ignore-not-found", "-o", "json", stdin=stdin)
    if done.returncode:
        raise _refusal("get", done)
    return list(json.loads(done.stdout or "{}").get("items", []))


def kinds(groups: Collection[str]) -> dict[tuple[str, str], str]:
    """Return (group, kind) → preferred apiVersion of the kinds that the API server serves.

    ClusterError when the server of one of `groups` does not answer; those of other groups may be unreachable.
    """
    done = run("api-resources", "--no-headers")
    if done.returncode and (not done.stdout or any(f" {group}/v" in done.stderr for group in groups)):
        raise _refusal("api-resources", done)
    rows = (line.split()[-3:] for line in done.stdout.splitlines())
    return {(version.rpartition("/")[0], kind): version for version, _, kind in rows}


def run(*arguments: str, folder: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the client; ClusterError when there is none, or no answer within ten minutes."""
    try:
        return subprocess.run(
            [command(), f"--request-timeout={TIMEOUT_S}s", *arguments],
            cwd=folder, input=stdin, capture_output=True, text=True, timeout=10 * TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"the cluster did not answer `{' '.join(arguments)}` in {10 * TIMEOUT_S} s") from error


def _refusal(call: str, done: subprocess.CompletedProcess[str]) -> ClusterError:
    """Return the error of a failed call; an unreachable API server is told from one that refuses."""
    said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
    if "(NotFound)" in said or "could not find the requested resource" in said:
        return MissingError(f"{call}: {said}")
    if "(AlreadyExists)" in said or "(Conflict)" in said:
        return ConflictError(f"{call}: {said}")
    if "(Forbidden)" in said:
        return ClusterError(f"{call} is not allowed; log in as a user who may (a cluster administrator): {said}")
    if "(Unauthorized)" in said or "must be logged in" in said:
        return ClusterError(f"{call}: the cluster does not know the user; log in again (oc login): {said}")
    reason = re.search(r"Error from server \((\w+)\)", said)
    if reason and reason[1] not in _AWAY:
        return ClusterError(f"{call}: {said}")
    return UnreachableError(
        f"{call}: the cluster does not answer; is this the right one (kubectl config current-context)? {said}"
    )
