"""Kubernetes' real API server on loopback, for what only it can say: whether it takes a manifest, and from whom.

`make apiserver` builds it, as a part of the test cluster (tests/cluster/). There are no nodes and no controllers behind
it, so nothing runs. Kinds of operators are there as the names alone: their own checks are not.
"""

import json
import os
import secrets
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.processes import free_port, program, start, stop, until

_PROGRAMS = ("kube-apiserver", "etcd", "kubectl")


class ApiServer:
    """A server that runs until it is closed; `kubeconfig` is that of its administrator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        server, etcd, self._kubectl = (program(name, "`make apiserver` builds it (needs Go)") for name in _PROGRAMS)
        ports = [free_port() for _ in range(3)]
        token, key = secrets.token_hex(16), folder / "key"
        (folder / "tokens").write_text(f"{token},administrator,1,system:masters\n")
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        clients, peers = (f"http://127.0.0.1:{port}" for port in ports[1:])
        command = [
            *(server, f"--etcd-servers={clients}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"),
            *(f"--secure-port={ports[0]}", f"--cert-dir={folder / 'certificates'}"),
            *("--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens'}", "--anonymous-auth=false"),
            *("--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}"),
            *(f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24"),
            "--disable-admission-plugins=ServiceAccount",  # a controller would make them
        ]
        memory = [
            *(etcd, f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=error"),
            *(f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}", f"--listen-peer-urls={peers}"),
            *(f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}"),
        ]
        self.port, self.url, self.token = ports[0], f"https://127.0.0.1:{ports[0]}", token
        self.kubeconfig = self.write_kubeconfig("administrator", token)
        self._etcd = start(memory, folder / "etcd.log", lambda: True)
        try:
            self._process = start(command, folder / "log", self._answers)
        except BaseException:
            stop(self._etcd)  # nobody has it yet who could
            raise

    @property
    def certificate(self) -> Path:
        """The certificate that it shows, which signs itself."""
        return self.folder / "certificates/apiserver.crt"

    def write_kubeconfig(self, name: str, token: str, **cluster: str) -> Path:
        """Write the kubeconfig of a user; `cluster` is where it differs from this server's."""
        config = {
            **{"apiVersion": "v1", "kind": "Config", "current-context": "it"},
            "clusters": [{"name": "it", "cluster": {"server": self.url, "insecure-skip-tls-verify": True} | cluster}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
        }
        file = self.folder / f"{name}.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    def write_account(self, namespace: str, name: str) -> Path:
        """Write a folder as a Pod of a ServiceAccount finds its token in; a test may spoil it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        (folder / "token").write_text(self.ask("POST", path, {"spec": {}})["status"]["token"])
        (folder / "namespace").write_text(namespace)
        (folder / "ca.crt").write_bytes(self.certificate.read_bytes())
        return folder

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Call the API as the administrator; return its JSON. In a hundredth of the time that kubectl takes.

        Raises:
            OSError: it does not answer, or refuses.
        """
        return json.loads(self._call(method, path, content))

    def items(self, path: str) -> list[dict[str, Any]]:
        return list(self.ask("GET", path)["items"])

    def _call(self, method: str, path: str, content: Any = None) -> bytes:
        body = None if content is None else json.dumps(content).encode()
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        trust = ssl._create_unverified_context()  # of loopback
        with urllib.request.urlopen(request, timeout=60, context=trust) as answer:
            return bytes(answer.read())

    def kubectl(self, *arguments: str, stdin: Any = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; `stdin` is an object or a list of them."""
        objects = {"apiVersion": "v1", "kind": "List", "items": stdin} if isinstance(stdin, list) else stdin
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        text = json.dumps(objects) if objects else None
        return subprocess.run(
            [self._kubectl, *arguments], input=text, env=environment, capture_output=True, text=True, check=False
        )

    def apply(self, objects: list[Any], *arguments: str, refused: bool = False) -> subprocess.CompletedProcess[str]:
        """Apply objects on the server's side; it must take them all, or refuse one."""
        done = self.kubectl("apply", "--server-side", "--force-conflicts", *arguments, "-f", "-", stdin=objects)
        assert bool(done.returncode) == refused, done.stdout + done.stderr
        return done

    def make_namespaces(self, *names: str) -> None:
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names])

    def know(self, objects: Iterable[dict[str, Any]], cluster_wide: Iterable[str]) -> None:
        """Make the kinds of objects known that Kubernetes does not bring, as names with any content."""
        kinds = {(*obj["apiVersion"].rpartition("/")[::2], obj["kind"]) for obj in objects}
        paths = {
            f"/apis/{group}/{version}/{plural(kind)}": _definition(group, version, kind, kind in set(cluster_wide))
            for group, version, kind in sorted(kinds)
            if "." in group and not group.endswith(".k8s.io")
        }
        if unknown := [definition for path, definition in paths.items() if not self._serves(path)]:
            self.apply(unknown)
            until(lambda: all(self._serves(path) for path in paths))

    def _serves(self, path: str) -> bool:
        try:
            self._call("GET", path)
        except OSError:
            return False
        return True

    def close(self) -> None:
        for process in (self._process, self._etcd):
            stop(process, kill=True)  # nothing is kept

    def _answers(self) -> bool:
        return all(self._call("GET", path) for path in ("/readyz", "/api/v1/namespaces/default"))


def _definition(group: str, version: str, kind: str, cluster_wide: bool) -> dict[str, Any]:
    content = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = plural(kind)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names}.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster" if cluster_wide else "Namespaced",
            "names": {"kind": kind, "plural": names, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": content}}],
        },
    }


def plural(kind: str) -> str:
    """Return the name of a kind in paths of the API."""
    name = kind.lower()
    return name[:-1] + "ies" if name.endswith("y") else name + "es" if name.endswith(("s", "x", "ch")) else name + "s"
