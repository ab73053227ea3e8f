"""OpenShift's own controllers, webhooks and CRDs on Kubernetes' real API server, with no node and no AWS behind it.

`make openshift` builds the program: machine-api-operator's controller of MachineSets and its webhooks, and those of
cluster-autoscaler-operator. The CRDs lie in the modules it is built from.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.modules import module
from tests.cluster.places import BIN
from tests.support.apiserver import ApiServer
from tests.support.gitops import Manifest

MACHINES = "openshift-machine-api"
_READY_SECONDS = 60
_CRDS = {
    "github.com/openshift/machine-api-operator": (
        "install/0000_30_machine-api-operator_02_machine.Default.crd.yaml",
        "install/0000_30_machine-api-operator_03_machineset.Default.crd.yaml",
    ),
    "github.com/openshift/cluster-autoscaler-operator": (
        "install/01_clusterautoscaler.crd.yaml",
        "install/02_machineautoscaler.crd.yaml",
    ),
    "github.com/openshift/api": (
        "config/v1/zz_generated.crd-manifests/0000_10_config-operator_01_dnses.crd.yaml",
        "config/v1/zz_generated.crd-manifests/0000_10_config-operator_01_infrastructures-Default.crd.yaml",
    ),
    "github.com/operator-framework/api": (
        "crds/operators.coreos.com_operatorgroups.yaml",
        "crds/operators.coreos.com_subscriptions.yaml",
    ),
}
#: Kinds that cluster-autoscaler-operator makes beside the autoscaler, as names alone.
_MONITORING = [
    {"apiVersion": "monitoring.coreos.com/v1", "kind": kind} for kind in ("PrometheusRule", "ServiceMonitor")
]


def openshift_program() -> Path:
    """Return OpenShift's code as a program, which `make openshift` builds; skip without it, but in CI fail."""
    program = BIN / "openshift"
    if program.is_file():
        return program
    reason = f"{program} is missing; `make openshift` builds it (needs Go)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class OpenShift:
    """The API server as a cluster of OpenShift has it: its kinds, and what its installer says of AWS."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def apply(self, objects: list[Manifest], *arguments: str) -> str:
        """Apply objects as Argo CD does, and refuse fields that nobody knows; return the warnings, a line each."""
        done = self.server.apply(objects, "--validate=strict", *arguments)
        assert done.returncode == 0, done.stderr
        return "".join(line for line in done.stderr.splitlines(keepends=True) if line.startswith("Warning"))

    def refusal(self, objects: list[Manifest]) -> str:
        """Return why objects are refused, which they must be."""
        done = self.server.apply(objects, "--validate=strict")
        assert done.returncode != 0, done.stdout
        return done.stderr

    def get(self, kind: str, name: str, namespace: str = MACHINES) -> Manifest:
        """Return an object as the server keeps it."""
        done = self.server.kubectl("get", kind, name, f"--namespace={namespace}", "--output=json")
        assert done.returncode == 0, done.stderr
        found: Manifest = json.loads(done.stdout)
        return found

    def list(self, kind: str) -> list[Manifest]:
        """Return the objects of a kind beside the machines."""
        done = self.server.kubectl("get", kind, f"--namespace={MACHINES}", "--output=json")
        assert done.returncode == 0, done.stderr
        found: list[Manifest] = json.loads(done.stdout)["items"]
        return found

    def install(self, values: dict[str, str]) -> None:
        """Bring what the installer leaves on AWS, for a cluster.env."""
        self._define()
        self.server.know(_MONITORING, ())
        aws = {"type": "AWS", "aws": {"region": values["AWS_REGION"]}}
        status = {
            "infrastructureName": values["INFRASTRUCTURE_ID"],
            **{"platform": "AWS", "platformStatus": aws},
            **{"apiServerURL": "", "apiServerInternalURI": "", "etcdDiscoveryDomain": ""},
            **{"controlPlaneTopology": "HighlyAvailable", "infrastructureTopology": "HighlyAvailable"},
        }
        infrastructure = _config("Infrastructure", {"cloudConfig": {"name": ""}, "platformSpec": {"type": "AWS"}})
        self.apply(
            [
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MACHINES}},
                *(_secret(name) for name in ("aws-cloud-credentials", "worker-user-data")),
                _config("DNS", {"baseDomain": values["APPS_DOMAIN"], "publicZone": {"id": "Z1"}}),
                infrastructure,
            ]
        )
        self.apply([infrastructure | {"status": status}], "--subresource=status")

    def _define(self) -> None:
        paths = [module("openshift", name) / path for name, files in _CRDS.items() for path in files]
        found = [each for path in paths for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]
        done = self.server.apply(found)
        assert done.returncode == 0, done.stderr
        names = [f"crd/{each['metadata']['name']}" for each in found]
        done = self.server.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def api_server(folder: Path, values: dict[str, str]) -> Iterator[OpenShift]:
    """Run the API server with OpenShift's kinds; nobody acts on them."""
    openshift_program()
    server = ApiServer(folder)
    try:
        it = OpenShift(server)
        it.install(values)
        yield it
    finally:
        server.stop()


@contextlib.contextmanager
def controllers(folder: Path, values: dict[str, str]) -> Iterator[OpenShift]:
    """Run the API server and OpenShift's controllers with their webhooks."""
    with api_server(folder, values) as it, (folder / "controllers").open("wb") as log:
        environment = os.environ | {"KUBECONFIG": str(it.server.kubeconfig), "TMPDIR": str(folder)}
        process = subprocess.Popen([openshift_program()], env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            path = folder / "controllers"
            eventually(lambda: "\nready\n" in path.read_text() or process.poll() is not None, _READY_SECONDS)
            assert process.poll() is None, path.read_text()[-4000:]
            yield it
        finally:
            process.terminate()
            process.wait(timeout=60)


def eventually(what: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so."""
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up, f"not so after {seconds} s"
        time.sleep(0.2)


def _config(kind: str, spec: Manifest) -> Manifest:
    return {"apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": {"name": "cluster"}, "spec": spec}


def _secret(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": MACHINES}}
