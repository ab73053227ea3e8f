"""The namespace of retrains on Kubernetes' own API server, with the rights and templates that gitops/pipelines renders.

There is no scheduler, no kubelet and no controller behind it: a test writes the status that they would write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runner.cluster.api import PIPELINES, Cluster
from tests.support import gitops
from tests.support.apiserver import ApiServer
from tests.support.gitops import Manifest

KINDS = ("ServiceAccount", "Role", "RoleBinding", "PodTemplate", "TriggerTemplate")
RUN_KINDS = [{"apiVersion": "tekton.dev/v1", "kind": kind} for kind in ("PipelineRun", "TaskRun")]
HERE = f"--namespace={PIPELINES}"

Login = Callable[[str], Cluster]


class Namespace:
    """What the administrator sees and changes in the namespace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ApiServer(folder)
        objects = list(gitops.leaf("pipelines/overlays/openshift").of_kind(*KINDS))
        self.server.know([*objects, *RUN_KINDS], ())
        home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PIPELINES}}
        for each in ([home], objects):
            done = self.server.apply(each)
            assert done.returncode == 0, done.stderr

    @property
    def url(self) -> str:
        """The server's address."""
        content = json.loads(self.server.kubeconfig.read_text())
        return str(content["clusters"][0]["cluster"]["server"])

    def kubectl(self, *arguments: str, stdin: Manifest | None = None) -> str:
        """Run kubectl; return what it prints."""
        done = self.server.kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def list(self, resource: str) -> list[Manifest]:
        """Return the objects of a resource."""
        found: list[Manifest] = json.loads(self.kubectl("get", resource, HERE, "--output=json"))["items"]
        return found

    def create(self, content: Manifest) -> None:
        """Make an object."""
        self.kubectl("create", HERE, "--filename=-", stdin=content)

    def set_status(self, kind: str, name: str, status: Manifest) -> None:
        """Write the status of an object, as its controller does."""
        patch = json.dumps({"status": status})
        self.kubectl("patch", kind, name, HERE, "--subresource=status", "--type=merge", f"--patch={patch}")

    def delete(self, kind: str, name: str) -> None:
        """Remove an object at once."""
        self.kubectl("delete", kind, name, HERE, "--grace-period=0", "--force")

    def account(self, name: str) -> Path:
        """Return a folder as a Pod of a ServiceAccount finds its token in."""
        folder = self.folder / "accounts" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(self.kubectl("create", "token", name, HERE))
        (folder / "namespace").write_text(PIPELINES)
        (folder / "ca.crt").write_bytes((self.folder / "certificates/apiserver.crt").read_bytes())
        return folder

    def kubeconfig(self, name: str, **changes: str) -> Path:
        """Return the kubeconfig of somebody who has a ServiceAccount's rights; `changes` are server and token."""
        account = self.account(name)
        cluster = {"server": changes.get("server", self.url), "certificate-authority": str(account / "ca.crt")}
        config = {
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "me", "user": {"token": changes.get("token", (account / "token").read_text())}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "current-context": "here",
        }
        file = account / "kubeconfig"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **config}))
        return file


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    made = Namespace(tmp_path_factory.mktemp("apiserver"))
    yield made
    made.server.stop()


@pytest.fixture
def namespace(server: Namespace) -> Iterator[Namespace]:
    """The namespace without runs, Pods and quotas; it is left so."""
    yield server
    for kind in ("pipelineruns", "pods", "resourcequotas"):
        server.kubectl("delete", kind, HERE, "--all", "--grace-period=0", "--force")


@pytest.fixture
def login(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Return the client of a Pod that runs as a ServiceAccount."""
    here = urlsplit(namespace.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(here.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(here.port))
    return lambda name: Cluster(namespace.account(name))
