"""Client of the cluster's API: with the ServiceAccount in a Pod, with kubectl elsewhere.

Access from a Pod: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from runner.cluster import kubectl
from runner.cluster.waiting import AWAY_S, while_away
from runner.errors import ClusterError, UnreachableError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PIPELINES = "flywheel-pipelines"
PODS = "/api/v1/namespaces/{namespace}/pods"
POD_TEMPLATES = "/api/v1/namespaces/{namespace}/podtemplates"
RUNS = "/apis/tekton.dev/v1/namespaces/{namespace}/pipelineruns"
TASK_RUNS = "/apis/tekton.dev/v1/namespaces/{namespace}/taskruns"
TRIGGER_TEMPLATES = "/apis/triggers.tekton.dev/v1beta1/namespaces/{namespace}/triggertemplates"
_TIMEOUT_SECONDS = 30

Object = dict[str, Any]


class MissingError(ClusterError):
    """The object does not exist."""


class QuotaError(ClusterError):
    """A ResourceQuota forbids the object for now."""


class Cluster:
    """API of the namespace that retrains run in. Paths are the constants above, plus `/name` for one object.

    In a Pod, idempotent calls are retried while the API is unreachable. Elsewhere the caller decides, as the cause may
    be a wrong login.
    """

    def __init__(self, account: Path = ACCOUNT, *, patience_s: float = AWAY_S, pause_s: float = 5) -> None:
        """Use the ServiceAccount of this Pod, else kubectl's configuration.

        Args:
            account: folder of the ServiceAccount's token.
            patience_s: how long a Pod retries an unreachable API.
        """
        self.account = account if (account / "token").is_file() else None
        self._again = {"patience_s": patience_s, "pause_s": pause_s}
        if self.account:
            self.namespace = (account / "namespace").read_text(encoding="utf-8").strip()
            host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
            self.server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
            return
        self.namespace = PIPELINES
        kubectl.command()

    def get(self, path: str, **query: str) -> Object:
        """Return an object, or a list object; MissingError when it does not exist."""
        return self._call("GET", path, query=query)

    def create(self, path: str, content: Object) -> Object:
        """Create an object and return it."""
        return self._call("POST", path, content)

    def delete(self, path: str) -> None:
        """Delete an object without grace period; a missing one is no error."""
        try:
            self._call("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})
        except MissingError:
            return

    def patch(self, path: str, content: Object) -> Object:
        """Merge content into an object and return it; from a Pod only."""
        return self._call("PATCH", path, content)

    def _call(
        self, method: str, path: str, content: Object | None = None, query: dict[str, str] | None = None
    ) -> Object:
        address = path.format(namespace=self.namespace) + (f"?{urlencode(query)}" if query else "")
        if not self.account:
            return self._by_client(method, address, content)
        if method == "POST":
            return self._by_https(method, address, content)
        return while_away(lambda: self._by_https(method, address, content), _say, **self._again)

    def _by_https(self, method: str, address: str, content: Object | None) -> Object:
        assert self.account
        request = urllib.request.Request(self.server + address, json.dumps(content).encode() if content else None)
        request.method = method
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request.add_header("Content-Type", kind)
        token = (self.account / "token").read_text(encoding="utf-8").strip()  # read each time: the kubelet renews it
        request.add_unredirected_header("Authorization", f"Bearer {token}")
        trusted = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=trusted) as answer:
                found: Object = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            said = _message(error.read(10_000).decode(errors="replace"))
            raise _refusal(f"{method} {address}", error.code, said) from error
        except (OSError, ValueError) as error:
            raise UnreachableError(f"{self.server}: {error}; run this again once the cluster's API answers") from error

    def _by_client(self, method: str, address: str, content: Object | None) -> Object:
        verb = {"GET": "get", "POST": "create", "DELETE": "delete"}[method]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(content, file)
            file.flush()
            done = kubectl.run(verb, "--raw", address, *(["-f", file.name] if content else []))
        if done.returncode:
            said = " ".join(done.stderr.split()) or "no message"
            if kubectl.is_away(said):
                raise UnreachableError(f"{verb} {address}: {said}")
            code = 404 if "(NotFound)" in said or "could not find the requested resource" in said else 0
            raise _refusal(f"{verb} {address}", code, said)
        found: Object = json.loads(done.stdout)
        return found


def _say(line: str) -> None:
    print(line, flush=True)


def _refusal(what: str, code: int, said: str) -> ClusterError:
    if code == 404:
        return MissingError(f"{what}: {said}")
    if code >= 500 or code == 429:
        return UnreachableError(f"{what}: {code}: {said}")
    if code == 403 and "exceeded quota" in said:
        return QuotaError(f"{what}: {said}")
    remedy = "; the Role in gitops/pipelines must allow it" if code in (401, 403) else ""
    return ClusterError(f"{what}: {f'{code}: ' if code else ''}{said}{remedy}")


def _message(text: str) -> str:
    """Return the message of a Status object."""
    try:
        return " ".join(str(json.loads(text)["message"]).split())
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:300] or "no message"
