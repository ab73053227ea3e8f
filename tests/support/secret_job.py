"""The Job of gitops/credentials, run as it is rendered, against Kubernetes' own API server with its own rights."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.apiserver import ApiServer
from tests.support.gitops import render
from tests.support.pods import ACCOUNT, Data, Pod, config_maps, pod_of

HOME = "flywheel-minio"


class SecretJob:
    """A cluster that has Flywheel's namespaces and what gitops/credentials applies."""

    def __init__(self, folder: Path) -> None:
        """Start its API server; `stop` ends it."""
        self.server = ApiServer(folder)
        self._objects = render("credentials").objects
        self._folder, self._runs = folder, 0
        names = {obj["metadata"]["namespace"] for obj in self._objects}
        spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in sorted(names)]
        for objects in (spaces, self._objects):
            done = self.server.apply(objects)
            assert done.returncode == 0, done.stderr

    def run(self, *, account: str = "credentials", port: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the Job's pod to its end.

        Args:
            account: whose token it has.
            port: of the API server, where that is to be another.
        """
        self._runs += 1
        known = config_maps(self._objects)
        known["kube-root-ca.crt"] = {"ca.crt": (self._folder / "certificates/apiserver.crt").read_text()}
        pod = Pod(pod_of(self._objects, "Job", "credentials"), known, {}, self._folder / f"pod-{self._runs}")
        mounted = pod.mounts()[ACCOUNT]
        token = self.server.kubectl("create", "token", account, "--namespace", HOME)
        mounted.joinpath("token").write_text(token.stdout)
        here = json.loads(self.server.kubeconfig.read_text())["clusters"][0]["cluster"]["server"].rpartition(":")[2]
        where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port or here}
        return pod.run(**where, SERVICE_ACCOUNT=str(mounted))

    def found(self) -> list[dict[str, Any]]:
        """Return every Secret there is, as the API server has it."""
        listed = self.server.kubectl("get", "secrets", "--all-namespaces", "--output", "json")
        found: list[dict[str, Any]] = json.loads(listed.stdout)["items"]
        return found

    def secrets(self) -> dict[tuple[str, str], Data]:
        """Return the data of every Secret, by namespace and name."""
        return {
            (it["metadata"]["namespace"], it["metadata"]["name"]): {
                key: base64.b64decode(value).decode() for key, value in it["data"].items()
            }
            for it in self.found()
        }

    def remove(self, namespace: str, *names: str) -> None:
        """Delete Secrets; without names, all of a namespace."""
        self.server.kubectl("delete", "secret", "--namespace", namespace, *(names or ("--all",)))

    def stop(self) -> None:
        """End the API server."""
        self.server.stop()
