"""What components change that no overlay of the repository lists: that, and nothing else.

The rules for pods (test_gitops_workloads.py) hold for these renderings too.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from tests.support import gitops

STORED = [leaf for leaf in gitops.variants() if leaf.path.endswith(", external-store")]
ON_GPU = [leaf for leaf in gitops.variants() if leaf.path.endswith(", gpu")]
Name = tuple[str, str]


def of(leaf: gitops.Leaf) -> dict[Name, gitops.Manifest]:
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in leaf.objects}


def changed(leaf: gitops.Leaf) -> dict[Name, gitops.Manifest]:
    """Return the objects of a variant that are not as in the leaf itself."""
    before, after = of(gitops.leaf(leaf.path.partition(",")[0])), of(leaf)
    assert before.keys() == after.keys()
    return {name: obj for name, obj in after.items() if obj != before[name]}


@pytest.mark.parametrize("leaf", STORED, ids=lambda leaf: leaf.path)
def test_only_the_way_to_the_store_changes_when_it_is_outside(leaf: gitops.Leaf) -> None:
    found = changed(leaf)
    assert found.keys() == {("ConfigMap", "store"), ("NetworkPolicy", "to-store")}
    assert found["ConfigMap", "store"]["data"] == {
        "STORE_URI": "s3://flyingthings",
        "AWS_ENDPOINT_URL": "https://minio.flywheel-minio.svc:9000",  # STORE_ENDPOINT, which people set
        "CA_BUNDLE": "",
    }
    (way,) = found["NetworkPolicy", "to-store"]["spec"]["egress"]
    assert way == {"ports": [{"protocol": "TCP", "port": 443}]}


@pytest.mark.parametrize("leaf", STORED, ids=lambda leaf: leaf.path)
def test_nothing_names_minio_when_the_store_is_outside(leaf: gitops.Leaf) -> None:
    for name, obj in of(leaf).items():
        named = [text for text in gitops.strings(obj) if "minio" in text]
        assert name == ("ConfigMap", "store") or named == [], name


def test_only_the_builds_get_a_secret_when_the_repository_is_private(tmp_path: Path) -> None:
    root = gitops.copy_with(gitops.SAMPLE, tmp_path)
    before = of(gitops.render("builds", root))
    path = root / "builds/kustomization.yaml"
    line = "- components/private"
    assert f"# {line}" in path.read_text()
    path.write_text(path.read_text().replace(f"# {line}", line))
    after = of(gitops.render("builds", root))
    builds = {name for name in after if name[0] == "BuildConfig"}
    assert {name for name in after if after[name] != before[name]} == builds
    for name in builds:
        assert after[name]["spec"]["source"].pop("sourceSecret") == {"name": "git"}
    assert after == before


def test_nfd_is_given_an_image_when_its_operator_has_none(tmp_path: Path) -> None:
    """Fields of `operand` in the CRD of cluster-nfd-operator, release-4.16 to 4.18; an apply refuses any other."""
    declared = {"image", "imagePullPolicy", "servicePort"}
    root = gitops.copy_with(gitops.SAMPLE, tmp_path)
    (before,) = gitops.render("operators/nfd/instance", root).objects
    path = root / "operators/nfd/instance/kustomization.yaml"
    line = "- components/openshift-4.16"
    assert f"# {line}" in path.read_text()
    path.write_text(path.read_text().replace(f"# {line}", line))
    (after,) = gitops.render("operators/nfd/instance", root).objects
    assert after["spec"]["operand"].keys() <= declared
    assert after["spec"]["operand"].pop("image").endswith(":v4.16")
    assert after == before


@pytest.mark.parametrize("leaf", ON_GPU, ids=lambda leaf: leaf.path)
def test_only_the_pods_change_when_a_model_is_served_on_a_gpu(leaf: gitops.Leaf) -> None:
    before = of(gitops.leaf(leaf.path.partition(",")[0]))["Deployment", "model"]["spec"]["template"]["spec"]
    found = changed(leaf)
    assert found.keys() == {("Deployment", "model")}
    after = copy.deepcopy(found["Deployment", "model"]["spec"]["template"]["spec"])
    assert after.pop("tolerations") == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (container,), (plain,) = after.pop("containers"), before["containers"]
    assert container.pop("image") == f"registry.example.com/flywheel-serving-gpu@sha256:{'9' * 64}"
    resources = container.pop("resources")
    assert resources["limits"] == plain["resources"]["limits"] | {"memory": "4Gi", "nvidia.com/gpu": 1}
    assert resources["requests"] == plain["resources"]["requests"] | {"memory": "2Gi"}
    assert container.items() <= plain.items()  # and everything else stays
    assert after.items() <= before.items()
