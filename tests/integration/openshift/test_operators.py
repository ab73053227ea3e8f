"""What OLM and NFD say to gitops/operators: their CRDs, and the install modes that an OperatorGroup must suit."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import gitops
from tests.support.gitops import Manifest
from tests.support.openshift import OpenShift, api_server, eventually, openshift_program

pytestmark = pytest.mark.slow
KINDS = ("Subscription", "OperatorGroup")
LEAVES = [path for path in gitops.leaf_paths() if path.startswith("operators/") and "/operator/" in path]

#: Install modes of the operators' ClusterServiceVersions, each in its repository's bundle.
MODES = {
    "gpu-operator-certified": "OwnNamespace,SingleNamespace",  # NVIDIA/gpu-operator, v25.3.3
    "nfd": "OwnNamespace,SingleNamespace",  # openshift/cluster-nfd-operator, release-4.16 and release-4.20
    "openshift-gitops-operator": "AllNamespaces",  # redhat-developer/gitops-operator, v1.20
}
GLOBAL = "openshift-operators"  # OpenShift's own OperatorGroup is there, for all namespaces

#: The fields of a NodeFeatureDiscovery, manifests/stable of openshift/cluster-nfd-operator; a list's items are any.
OPERAND_4_16 = {"image": "string", "imagePullPolicy": "string", "servicePort": "integer"}
OPERAND_4_20 = OPERAND_4_16 | {
    **dict.fromkeys(("masterEnvs", "masterTolerations", "workerEnvs", "workerTolerations"), "array"),
    "workerNodeSelector": "object",
}
SPEC_4_16: dict[str, Any] = {
    **{"extraLabelNs": "array", "instance": "string", "labelWhiteList": "string", "resourceLabels": "array"},
    **{"operand": OPERAND_4_16, "topologyUpdater": "boolean", "workerConfig": {"configData": "string"}},
}
SPEC = {
    "4.16": SPEC_4_16,  # 1536f9efbd73
    "4.20": SPEC_4_16
    | {"operand": OPERAND_4_20, "enableTaints": "boolean", "prunerOnDelete": "boolean"},  # ae32881102fc
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fork of gitops/."""
    return gitops.copy_with(gitops.SAMPLE, tmp_path_factory.mktemp("fork"))


@pytest.fixture(scope="module")
def openshift(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[OpenShift]:
    """A cluster with the namespaces of operators."""
    with api_server(tmp_path_factory.mktemp("openshift"), gitops.SAMPLE) as it:
        found = {obj["metadata"].get("namespace") for path in LEAVES for obj in gitops.render(path, root).objects}
        names = sorted(found - {None})
        it.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names])
        yield it


@pytest.mark.parametrize("path", LEAVES)
def test_olm_takes_a_subscription_when_fields_are_strict(openshift: OpenShift, root: Path, path: str) -> None:
    leaf = gitops.render(path, root)
    assert openshift.apply(list(leaf.of_kind(*KINDS)), "--dry-run=server") == ""
    (subscription,) = leaf.of_kind("Subscription")
    spoilt = subscription | {"spec": subscription["spec"] | {"chanel": "stable"}}
    assert re.search("unknown field .*chanel", openshift.refusal([spoilt]))


@pytest.mark.parametrize("path", LEAVES)
def test_olm_installs_an_operator_when_its_group_is_one_that_it_supports(root: Path, path: str) -> None:
    leaf = gitops.render(path, root)
    (subscription,), groups = leaf.of_kind("Subscription"), list(leaf.of_kind("OperatorGroup"))
    if subscription["metadata"]["namespace"] == GLOBAL:
        assert groups == []
        return
    (group,) = groups
    namespace = group["metadata"]["namespace"]
    assert subscription["metadata"]["namespace"] == namespace
    modes = MODES[subscription["spec"]["name"]]
    targets = group["spec"].get("targetNamespaces", [])
    assert supports(namespace, targets, modes) == ""
    assert "InstallModeType not supported" in supports(namespace, [] if targets else [namespace], modes)


def supports(namespace: str, targets: list[str], modes: str) -> str:
    """Return why OLM does not install an operator of these modes, and nothing where it does."""
    command = [str(openshift_program()), "supports", namespace, ",".join(targets), modes]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("release", SPEC)
def test_nfd_takes_its_instance_when_fields_are_those_of_a_release(
    openshift: OpenShift, root: Path, release: str
) -> None:
    define(openshift, SPEC[release])
    try:
        instances = [instance(root, with_image=with_image) for with_image in (False, True)]
        for one in instances:
            assert openshift.apply([one], "--dry-run=server") == ""
        tolerating = instances[0]
        tolerating["spec"]["operand"]["workerTolerations"] = []  # came with 4.19
        if release == "4.16":
            assert re.search("unknown field .*workerTolerations", openshift.refusal([tolerating]))
        else:
            assert openshift.apply([tolerating], "--dry-run=server") == ""
    finally:
        done = openshift.server.kubectl("delete", "crd/nodefeaturediscoveries.nfd.openshift.io")
        assert done.returncode == 0, done.stderr


def instance(root: Path, *, with_image: bool) -> Manifest:
    """Return our NodeFeatureDiscovery, with the component of 4.16 or without."""
    path = root / "operators/nfd/instance/kustomization.yaml"
    before, line = path.read_text(), "- components/openshift-4.16"
    try:
        if with_image:
            path.write_text(before.replace(f"# {line}", line))
        (found,) = gitops.render("operators/nfd/instance", root).objects
    finally:
        path.write_text(before)
    assert ("image" in found["spec"]["operand"]) == with_image
    return found


def define(openshift: OpenShift, fields: dict[str, Any]) -> None:
    """Make the kind known with these fields of its spec alone."""
    names = {"kind": "NodeFeatureDiscovery", "plural": "nodefeaturediscoveries", "singular": "nodefeaturediscovery"}
    content = schema({"spec": fields})
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": content}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "nodefeaturediscoveries.nfd.openshift.io"},
        "spec": {"group": "nfd.openshift.io", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    openshift.apply([definition])
    eventually(lambda: openshift.server.kubectl("get", "nodefeaturediscoveries.v1.nfd.openshift.io").returncode == 0)


def schema(fields: Any) -> dict[str, Any]:
    """Return the schema of fields: names and types, one inside of another."""
    if isinstance(fields, dict):
        return {"type": "object", "properties": {name: schema(each) for name, each in fields.items()}}
    return {"type": fields} | ({"items": {"x-kubernetes-preserve-unknown-fields": True}} if fields == "array" else {})
