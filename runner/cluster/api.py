"""Client of the cluster's API: with the ServiceAccount in a Pod, with kubectl elsewhere.

Access from a Pod: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api
"""

import json
import os
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import urllib3

from runner.cluster import kubectl
from runner.cluster.kubectl import ConflictError, MissingError, Object
from runner.cluster.waiting import AWAY_S, say, while_away
from runner.errors import ClusterError, UnreachableError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PIPELINES = "flywheel-pipelines"
PODS = f"/api/v1/namespaces/{PIPELINES}/pods"
POD_TEMPLATES = f"/api/v1/namespaces/{PIPELINES}/podtemplates"
RUNS = f"/apis/tekton.dev/v1/namespaces/{PIPELINES}/pipelineruns"
TASK_RUNS = f"/apis/tekton.dev/v1/namespaces/{PIPELINES}/taskruns"
GPU_QUOTA = f"/api/v1/namespaces/{PIPELINES}/resourcequotas/gpu"
TRIGGER_TEMPLATES = f"/apis/triggers.tekton.dev/v1beta1/namespaces/{PIPELINES}/triggertemplates"
_VERBS = {"GET": "get", "POST": "create", "DELETE": "delete", "PATCH": "replace"}
_TIMEOUT_SECONDS = 30


class QuotaError(ClusterError):
    """A ResourceQuota forbids the object for now."""


class Cluster:
    """API of the namespace that retrains run in. Paths are the constants above, plus `/name` for one object.

    In a Pod, idempotent calls are retried while the API is unreachable. Elsewhere the caller decides, as the cause may
    be a wrong login.
    """

    def __init__(self, account: Path = ACCOUNT, *, patience_s: float = AWAY_S, pause_s: float = 5) -> None:
        """Use the ServiceAccount whose token is in `account`, else kubectl's configuration."""
        self.account = account if (account / "token").is_file() else None
        self._patience_s, self._pause_s = patience_s, pause_s
        if self.account:
            host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
            self.server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        else:
            kubectl.command()

    def get(self, path: str, **query: str) -> Object:
        """Return an object, or a list object; MissingError when it does not exist."""
        return self._call("GET", path + (f"?{urlencode(query)}" if query else ""))

    def create(self, path: str, content: Object) -> Object:
        """Create an object and return it; ConflictError when there is one of its name."""
        return self._call("POST", path, content)

    def delete(self, path: str) -> None:
        """Delete an object without grace period; a missing one is no error."""
        with suppress(MissingError):
            self._call("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})

    def patch(self, path: str, content: Object) -> Object:
        """Merge content into an object and return it; None removes a key.

        ConflictError: the content has a resourceVersion, and the object was changed since.
        """
        return self._call("PATCH", path, content)

    def _call(self, method: str, path: str, content: Object | None = None) -> Object:
        if self.account is None:
            if method == "PATCH":  # kubectl sends no raw PATCH
                content = _merged(kubectl.request("get", path), content)
            found: Object = kubectl.request(_VERBS[method], path, content)
            return found
        call = partial(self._by_https, self.account, method, path, content)
        if method == "POST":
            return call()
        return while_away(call, say, patience_s=self._patience_s, pause_s=self._pause_s)

    def _by_https(self, account: Path, method: str, path: str, content: Object | None) -> Object:
        body = json.dumps(content).encode() if content else None
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        token = (account / "token").read_text(encoding="utf-8").strip()  # read each time: the kubelet renews it
        headers = {"Content-Type": kind, "Authorization": f"Bearer {token}"}
        trusted = ssl.create_default_context(cafile=str(account / "ca.crt"))
        try:  # by no proxy: the API has an address inside the cluster, which NO_PROXY may not name
            with urllib3.PoolManager(ssl_context=trusted, timeout=_TIMEOUT_SECONDS, retries=False) as pool:
                answer = pool.request(method, self.server + path, body=body, headers=headers)
            if answer.status >= 300:
                said = _message(answer.data.decode(errors="replace"))
                raise _refusal(f"{method} {path}: {answer.status}: {said}", answer.status)
            found: Object = answer.json()
            return found
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise UnreachableError(f"{self.server}: {error}; run this again once the cluster's API answers") from error


def _merged(found: Object, content: Object | None) -> Object:
    """Return an object with content merged into it, as a JSON merge patch (RFC 7396) does."""
    merged = {key: value for key, value in found.items() if key not in (content or {})}
    for key, value in (content or {}).items():
        if isinstance(value, dict):
            merged[key] = _merged(found.get(key) or {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def _refusal(message: str, code: int) -> ClusterError:
    if code == 404:
        return MissingError(message)
    if code == 409:
        return ConflictError(message)
    if code >= 500 or code == 429:
        return UnreachableError(message)
    if code == 403 and "exceeded quota" in message:
        return QuotaError(message)
    return ClusterError(message + ("; the Role in gitops/pipelines must allow it" if code in (401, 403) else ""))


def _message(text: str) -> str:
    """Return the message of a Status object."""
    try:
        return " ".join(str(json.loads(text)["message"]).split())
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:300] or "no message"
