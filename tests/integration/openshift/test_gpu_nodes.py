"""OpenShift's own controllers and webhooks over gitops/gpu: a GPU node from zero and back, with no AWS behind them."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import gitops
from tests.support.gitops import Manifest
from tests.support.openshift import OpenShift, controllers
from tests.support.processes import until

pytestmark = pytest.mark.slow
Objects = dict[str, Manifest]  # by kind
GROUPS = ("machine.openshift.io/", "autoscaling.openshift.io/")
LIMITS = "machine.openshift.io/cluster-api-autoscaler-node-group-"
TO_DELETE = {"machine.openshift.io/delete-machine": "true"}  # the autoscaler marks the machine that goes


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """What GPU=autoscaled applies of OpenShift's kinds, by kind."""
    root = gitops.copy_with(gitops.SAMPLE, tmp_path_factory.mktemp("fork"))
    rendered = gitops.render("gpu/overlays/autoscaled", root).objects
    return {obj["kind"]: obj for obj in rendered if obj["apiVersion"].startswith(GROUPS)}


@pytest.fixture(scope="module")
def openshift(tmp_path_factory: pytest.TempPathFactory, objects: Objects) -> Iterator[OpenShift]:
    """A cluster to which they were applied."""
    with controllers(tmp_path_factory.mktemp("openshift"), gitops.SAMPLE) as it:
        it.apply(list(objects.values()))
        yield it


def test_no_warning_is_given_when_openshift_admits_the_gpu_nodes(openshift: OpenShift, objects: Objects) -> None:
    """Its webhooks warn of fields that they do not know, and of what keeps a machine from joining the cluster."""
    assert openshift.apply(list(objects.values()), "--dry-run=server") == ""


@pytest.mark.parametrize("kind", ["MachineSet", "ClusterAutoscaler", "MachineAutoscaler"])
def test_nothing_differs_when_openshift_writes_its_defaults(openshift: OpenShift, objects: Objects, kind: str) -> None:
    """Argo CD would put it back for ever: a field more matters inside of a list alone, which it compares as one."""
    ours = objects[kind]
    assert list(differences(ours, openshift.get(kind, ours["metadata"]["name"]))) == []


def differences(ours: Any, live: Any, where: str = "") -> Iterator[str]:
    """Yield the paths of what is ours and otherwise in the cluster."""
    if isinstance(ours, dict) and isinstance(live, dict):
        for key, value in ours.items():
            yield from differences(value, live.get(key), f"{where}/{key}")
    elif ours != live:
        yield f"{where}: {ours} became {live}"


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        ("MachineSet", "template/spec/providerSpec/value/ami", {}, "expected providerSpec.ami.id to be populated"),
        ("MachineSet", "template/spec/taint", [], "unknown field .*taint"),
        ("ClusterAutoscaler", "scaleDown/utilizationThreshold", "0.0", "must be a value between 0 and 1"),
        ("MachineAutoscaler", "minReplicas", 9, "max replicas must be greater than or equal to min"),
    ],
)
def test_it_is_refused_when_it_is_spoilt(
    openshift: OpenShift, objects: Objects, kind: str, path: str, value: Any, message: str
) -> None:
    assert re.search(message, openshift.refusal([changed(objects[kind], path, value)]))


def test_a_warning_is_given_when_a_field_of_the_instance_is_not_known(openshift: OpenShift, objects: Objects) -> None:
    spoilt = changed(objects["MachineSet"], "template/spec/providerSpec/value/instance", "g4dn.xlarge")
    assert "instance" in openshift.apply([spoilt], "--dry-run=server")


def changed(obj: Manifest, path: str, value: Any) -> Manifest:
    """Return an object with another value at a path of its spec."""
    changed = copy.deepcopy(obj)
    *parents, last = path.split("/")
    inner = changed["spec"]
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return changed


def test_a_machine_comes_and_goes_when_the_autoscaler_scales(openshift: OpenShift, objects: Objects) -> None:
    """It never becomes a node: there is no AWS that would start it."""
    ours = objects["MachineSet"]
    name = ours["metadata"]["name"]
    assert openshift.list("Machine") == []

    openshift.merge("MachineSet", name, {"spec": {"replicas": 1}})
    until(lambda: replicas(openshift, name) == 1)
    (machine,) = openshift.list("Machine")
    template = ours["spec"]["template"]
    assert list(differences(template["spec"], machine["spec"])) == []
    assert template["metadata"]["labels"].items() <= machine["metadata"]["labels"].items()
    assert [owner["name"] for owner in machine["metadata"]["ownerReferences"]] == [name]
    assert not openshift.get("MachineSet", name)["status"].get("readyReplicas")

    openshift.merge("Machine", machine["metadata"]["name"], {"metadata": {"annotations": TO_DELETE}})
    openshift.merge("MachineSet", name, {"spec": {"replicas": 0}})
    until(lambda: openshift.list("Machine") == [])
    until(lambda: replicas(openshift, name) == 0)


def replicas(openshift: OpenShift, name: str) -> int:
    return int(openshift.get("MachineSet", name).get("status", {}).get("replicas", 0))


def test_the_node_group_has_our_limits_when_its_operator_sees_them(openshift: OpenShift, objects: Objects) -> None:
    """The autoscaler reads them off the MachineSet that the MachineAutoscaler names."""
    scaler, name = objects["MachineAutoscaler"]["spec"], objects["MachineSet"]["metadata"]["name"]
    limits = {f"{LIMITS}min-size": str(scaler["minReplicas"]), f"{LIMITS}max-size": str(scaler["maxReplicas"])}
    until(lambda: limits.items() <= openshift.get("MachineSet", name)["metadata"]["annotations"].items())
