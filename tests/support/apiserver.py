"""Kubernetes' real API server on loopback, for what only it can say: whether it takes a manifest, and from whom.

`make apiserver` builds it, as a part of the test cluster (tests/cluster/). There are no nodes and no controllers behind
it, so nothing runs. Kinds of operators are there as the names alone: their own checks are not.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.places import BIN

NAME = "kube-apiserver"
_READY_SECONDS = 90


def program() -> str:
    """Return the path of the server; skip where it is not built, but not in CI."""
    found = BIN / NAME
    if not found.is_file():
        message = f"{NAME} is not installed; `make apiserver` builds it"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    return str(found)


class ApiServer:
    """A server that runs until it is stopped; `kubeconfig` is that of its administrator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        ports = [_free_port() for _ in range(3)]
        token, key = secrets.token_hex(16), folder / "key"
        (folder / "tokens").write_text(f"{token},administrator,1,system:masters\n")
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        etcd, peers = (f"http://127.0.0.1:{port}" for port in ports[1:])
        command = [
            *(program(), f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"),
            *(f"--secure-port={ports[0]}", f"--cert-dir={folder / 'certificates'}"),
            *("--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens'}", "--anonymous-auth=false"),
            *("--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}"),
            *(f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24"),
            "--disable-admission-plugins=ServiceAccount",  # a controller would make them
        ]
        memory = [
            *(str(BIN / "etcd"), f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=error"),
            *(f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peers}"),
            *(f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}"),
        ]
        self.log = (folder / "log").open("wb")
        self.etcd = subprocess.Popen(memory, stdout=self.log, stderr=subprocess.STDOUT)
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        cluster = {"server": f"https://127.0.0.1:{ports[0]}", "insecure-skip-tls-verify": True}
        config: dict[str, Any] = {
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
            "current-context": "it",
        }
        self.kubeconfig.write_text(json.dumps(config))
        try:
            self._await()
        except BaseException:
            self.stop()  # nobody has it yet who could
            raise

    def kubectl(self, *arguments: str, stdin: Any = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; `stdin` is an object or a list of them."""
        objects = {"apiVersion": "v1", "kind": "List", "items": stdin} if isinstance(stdin, list) else stdin
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        text = json.dumps(objects) if objects else None
        return subprocess.run(
            ["kubectl", *arguments], input=text, env=environment, capture_output=True, text=True, check=False
        )

    def apply(self, objects: list[Any], *arguments: str) -> subprocess.CompletedProcess[str]:
        """Apply objects on the server's side."""
        return self.kubectl("apply", "--server-side", "--force-conflicts", *arguments, "-f", "-", stdin=objects)

    def know(self, objects: Iterable[dict[str, Any]], cluster_wide: Iterable[str]) -> None:
        """Make the kinds of objects known that Kubernetes does not bring, as names with any content."""
        kinds = {(*obj["apiVersion"].rpartition("/")[::2], obj["kind"]) for obj in objects}
        known = self.kubectl("api-resources", "--no-headers", "-o", "name").stdout.split()
        definitions = [
            _definition(group, version, kind, cluster_wide=kind in set(cluster_wide))
            for group, version, kind in sorted(kinds)
            if "." in group and not group.endswith(".k8s.io") and f"{_plural(kind)}.{group}" not in known
        ]
        if definitions:
            done = self.apply(definitions)
            assert done.returncode == 0, done.stderr
            names = [f"crd/{one['metadata']['name']}" for one in definitions]
            done = self.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
            assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """End the server."""
        for process in (self.process, self.etcd):
            process.terminate()
            process.wait(timeout=60)
        self.log.close()

    def _await(self) -> None:
        give_up = time.monotonic() + _READY_SECONDS
        while (
            self.kubectl("get", "--raw", "/readyz").returncode or self.kubectl("get", "namespace", "default").returncode
        ):
            if self.process.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"{NAME} did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.5)


def _definition(group: str, version: str, kind: str, *, cluster_wide: bool) -> dict[str, Any]:
    content = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    plural = _plural(kind)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster" if cluster_wide else "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": content}}],
        },
    }


def _plural(kind: str) -> str:
    name = kind.lower()
    return name[:-1] + "ies" if name.endswith("y") else name + "es" if name.endswith(("s", "x")) else name + "s"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
