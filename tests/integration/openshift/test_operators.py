"""What OLM and NFD say to gitops/operators: their CRDs, and the install modes that an OperatorGroup must suit."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import gitops
from tests.support.openshift import OpenShift, api_server, openshift_program

pytestmark = pytest.mark.slow
Leaves = dict[str, gitops.Leaf]  # by path
KINDS = ("Subscription", "OperatorGroup")
LEAVES = [path for path in gitops.leaf_paths() if path.startswith("operators/") and path.endswith("/operator")]

#: Install modes of the operators' ClusterServiceVersions, each in its repository's bundle.
MODES = {
    "gpu-operator-certified": "OwnNamespace,SingleNamespace",  # NVIDIA/gpu-operator, v25.3.3
    "nfd": "OwnNamespace,SingleNamespace",  # openshift/cluster-nfd-operator, release-4.16 and release-4.20
    "openshift-gitops-operator": "AllNamespaces",  # redhat-developer/gitops-operator, v1.20
}
GLOBAL = "openshift-operators"  # OpenShift's own OperatorGroup is there, for all namespaces

#: The fields of a NodeFeatureDiscovery in 4.16, manifests/stable of openshift/cluster-nfd-operator (1536f9efbd73); 4.20
#: has these and more, and `make manifests` holds the instance against its schema.
FIELDS = {
    *("extraLabelNs", "instance", "labelWhiteList", "resourceLabels", "topologyUpdater", "workerConfig.configData"),
    *("operand.image", "operand.imagePullPolicy", "operand.servicePort"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gitops.copy_with(gitops.SAMPLE, tmp_path_factory.mktemp("fork"))


@pytest.fixture(scope="module")
def leaves(root: Path) -> Leaves:
    return {path: gitops.render(path, root) for path in LEAVES}


@pytest.fixture(scope="module")
def openshift(tmp_path_factory: pytest.TempPathFactory, leaves: Leaves) -> Iterator[OpenShift]:
    """A cluster with the namespaces of operators."""
    with api_server(tmp_path_factory.mktemp("openshift"), gitops.SAMPLE) as it:
        names = {obj["metadata"].get("namespace") for leaf in leaves.values() for obj in leaf.objects} - {None}
        it.server.make_namespaces(*sorted(names))
        yield it


@pytest.mark.parametrize("path", LEAVES)
def test_olm_takes_a_subscription_when_fields_are_strict(openshift: OpenShift, leaves: Leaves, path: str) -> None:
    assert openshift.apply(list(leaves[path].of_kind(*KINDS)), "--dry-run=server") == ""
    (subscription,) = leaves[path].of_kind("Subscription")
    spoilt = subscription | {"spec": subscription["spec"] | {"chanel": "stable"}}
    assert re.search("unknown field .*chanel", openshift.refusal([spoilt]))


@pytest.mark.parametrize("path", LEAVES)
def test_olm_installs_an_operator_when_it_supports_the_group(leaves: Leaves, path: str) -> None:
    (subscription,), groups = leaves[path].of_kind("Subscription"), list(leaves[path].of_kind("OperatorGroup"))
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
    command = [openshift_program(), "supports", namespace, ",".join(targets), modes]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("with_image", [False, True])
def test_nfd_knows_every_field_of_its_instance(root: Path, with_image: bool) -> None:
    """With the component of 4.16, which names an image, or without."""
    path = root / "operators/nfd/instance/kustomization.yaml"
    before, line = path.read_text(), "- components/openshift-4.16"
    path.write_text(before.replace(f"# {line}", line) if with_image else before)
    (found,) = gitops.render("operators/nfd/instance", root).objects
    path.write_text(before)
    spec = found["spec"]
    assert ("image" in spec["operand"]) == with_image
    inner = {f"{key}.{name}" for key in ("operand", "workerConfig") for name in spec.pop(key)}
    assert inner | spec.keys() <= FIELDS
