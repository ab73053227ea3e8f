"""OpenShift's own controllers, webhooks and CRDs on Kubernetes' real API server, with no node and no AWS behind it.

`make openshift` builds the program: machine-api-operator's controller of MachineSets and its webhooks, and those of
cluster-autoscaler-operator. The CRDs lie in the modules it is built from.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.cluster.modules import module
from tests.support.apiserver import ApiServer
from tests.support.gitops import INFRASTRUCTURE, Manifest
from tests.support.processes import program, start, stop

MACHINES = "openshift-machine-api"
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


def openshift_program() -> str:
    """Return OpenShift's code as a program; skip without it, but in CI fail."""
    return program("openshift", "`make openshift` builds it (needs Go)")


class OpenShift:
    """The API server as a cluster of OpenShift has it: its kinds, and what its installer says of AWS."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def apply(self, objects: list[Manifest], *arguments: str) -> str:
        """Apply objects as Argo CD does, and refuse fields that nobody knows; return the warnings, a line each."""
        said = self.server.apply(objects, "--validate=strict", *arguments).stderr
        return "".join(line for line in said.splitlines(keepends=True) if line.startswith("Warning"))

    def refusal(self, objects: list[Manifest]) -> str:
        """Return why objects are refused, which they must be."""
        return self.server.apply(objects, "--validate=strict", refused=True).stderr

    def get(self, kind: str, name: str) -> Manifest:
        found: Manifest = self.server.ask("GET", f"{path(kind)}/{name}")
        return found

    def list(self, kind: str) -> list[Manifest]:
        """Return the objects of a kind beside the machines."""
        return self.server.items(path(kind))

    def merge(self, kind: str, name: str, content: Manifest) -> None:
        self.server.ask("PATCH", f"{path(kind)}/{name}", content)

    def install(self, values: dict[str, str]) -> None:
        """Bring what the installer leaves on AWS, for a cluster.env."""
        self._define()
        self.server.know(_MONITORING, ())
        self.server.make_namespaces(MACHINES)
        aws = {"type": "AWS", "aws": {"region": "eu-central-1"}}
        status = {
            "infrastructureName": INFRASTRUCTURE,
            **{"platform": "AWS", "platformStatus": aws},
            **{"apiServerURL": "", "apiServerInternalURI": "", "etcdDiscoveryDomain": ""},
            **{"controlPlaneTopology": "HighlyAvailable", "infrastructureTopology": "HighlyAvailable"},
        }
        infrastructure = _config("Infrastructure", {"cloudConfig": {"name": ""}, "platformSpec": {"type": "AWS"}})
        self.apply(
            [
                *(_secret(name) for name in ("aws-cloud-credentials", "worker-user-data")),
                _config("DNS", {"baseDomain": values["APPS_DOMAIN"], "publicZone": {"id": "Z1"}}),
                infrastructure,
            ]
        )
        self.apply([infrastructure | {"status": status}], "--subresource=status")

    def _define(self) -> None:
        paths = [module("openshift", name) / path for name, files in _CRDS.items() for path in files]
        found = [each for path in paths for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]
        self.server.apply(found)
        names = [f"crd/{each['metadata']['name']}" for each in found]
        done = self.server.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
        assert done.returncode == 0, done.stderr


def path(kind: str) -> str:
    """Return the API's path of a kind beside the machines, or of one that has no namespace."""
    machines = f"namespaces/{MACHINES}"
    groups = {
        **dict.fromkeys(("Machine", "MachineSet"), f"machine.openshift.io/v1beta1/{machines}"),
        "MachineAutoscaler": f"autoscaling.openshift.io/v1beta1/{machines}",
        "ClusterAutoscaler": "autoscaling.openshift.io/v1",
    }
    return f"/apis/{groups[kind]}/{kind.lower()}s"


@contextlib.contextmanager
def api_server(folder: Path, values: dict[str, str]) -> Iterator[OpenShift]:
    """Run the API server with OpenShift's kinds; nobody acts on them."""
    openshift_program()
    with contextlib.closing(ApiServer(folder)) as server:
        it = OpenShift(server)
        it.install(values)
        yield it


@contextlib.contextmanager
def controllers(folder: Path, values: dict[str, str]) -> Iterator[OpenShift]:
    """Run the API server and OpenShift's controllers with their webhooks."""
    log = folder / "controllers"
    with api_server(folder, values) as it:
        environment = os.environ | {"KUBECONFIG": str(it.server.kubeconfig), "TMPDIR": str(folder)}
        process = start([openshift_program()], log, lambda: "\nready\n" in log.read_text(), env=environment)
        try:
            yield it
        finally:
            stop(process)


def _config(kind: str, spec: Manifest) -> Manifest:
    return {"apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": {"name": "cluster"}, "spec": spec}


def _secret(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": MACHINES}}
