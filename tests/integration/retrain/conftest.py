"""The namespace of retrains on Kubernetes' own API server, with the rights and templates that gitops/pipelines renders.

There is no scheduler, no kubelet and no controller behind it: a test writes the status that they would write.
"""

from collections.abc import Callable
from contextlib import suppress
from urllib.error import HTTPError

import pytest

from runner.cluster.api import PIPELINES, Cluster
from tests.support import gitops
from tests.support.apiserver import ApiServer
from tests.support.gitops import Manifest

KINDS = ("ServiceAccount", "Role", "RoleBinding", "PodTemplate", "TriggerTemplate")
RUN_KINDS = [{"apiVersion": "tekton.dev/v1", "kind": kind} for kind in ("PipelineRun", "TaskRun")]
FORCED = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}

Login = Callable[[str], Cluster]


class Namespace:
    """The objects of the namespace, as its administrator sees and changes them; a kind by its plural."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        objects = list(gitops.leaf("pipelines/overlays/openshift").of_kind(*KINDS))
        self.server.know([*objects, *RUN_KINDS], ())
        self.server.make_namespaces(PIPELINES)
        self.server.apply(objects)

    def list(self, kind: str) -> list[Manifest]:
        return self.server.items(path(kind))

    def names(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self.list(kind)}

    def create(self, kind: str, content: Manifest) -> None:
        self.server.ask("POST", path(kind), content)

    def set_status(self, kind: str, name: str, status: Manifest) -> None:
        """Write the status of an object, as its controller does."""
        self.server.ask("PATCH", f"{path(kind)}/{name}/status", {"status": status})

    def delete(self, kind: str, name: str) -> None:
        self.server.ask("DELETE", f"{path(kind)}/{name}", FORCED)


def path(kind: str) -> str:
    group = "apis/tekton.dev/v1" if kind == "pipelineruns" else "api/v1"
    return f"/{group}/namespaces/{PIPELINES}/{kind}"


@pytest.fixture(scope="module")
def applied(api_server: ApiServer) -> Namespace:
    return Namespace(api_server)


@pytest.fixture
def namespace(applied: Namespace) -> Namespace:
    """The namespace without runs, Pods and quotas."""
    for kind in ("pipelineruns", "pods", "resourcequotas"):
        for name in applied.names(kind):
            with suppress(HTTPError):  # it is gone
                applied.delete(kind, name)
    return applied


@pytest.fixture
def login(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Return the client of a Pod that runs as a ServiceAccount."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(namespace.server.port))
    return lambda name: Cluster(namespace.server.write_account(PIPELINES, name))
