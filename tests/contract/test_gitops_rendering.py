"""gitops/ renders, everywhere and always to the same, with every value of cluster.env where it belongs."""

from pathlib import Path

import pytest

from runner.cluster.facts import KEYS, UNSET
from tests.contract.test_gitops_references import PLATFORMS, objects
from tests.support import gitops
from tests.support.gitops import GITOPS, OTHER, SAMPLE, TEMPLATE, copy_with, leaf_paths, render, strings
from tests.support.trees import swap

PLACEHOLDER = "from-cluster-env"
OPENSHIFT = ("openshift.io", "operator.tekton.dev", "operators.coreos.com", "nvidia.com")
#: Kinds whose objects may share a file; what people change one by one has a file of its own.
TOGETHER = (
    {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"},  # an account with its rights
    {"NetworkPolicy"},  # of a namespace: who may talk to whom
    {"NetworkPolicy", "ServiceMonitor"},  # with which Prometheus reads metrics
    *({"Namespace"}, {"PersistentVolumeClaim"}, {"Service"}),
    {"Namespace", "OperatorGroup", "Subscription"},  # with which OLM installs an operator
    {"Namespace", "ArgoCD"},
    {"BuildConfig", "ImageStream"},  # of an image
    {"ClusterIssuer", "Certificate"},  # of a CA
    {"EventListener", "TriggerBinding"},
    {"ConfigMap", "ServiceAccount", "Job"},  # a Job with what it alone needs
)


def test_every_value_of_cluster_env_is_taken_and_no_other_is_left(tmp_path: Path) -> None:
    """Rendered in a copy of gitops/ that stands alone: what a leaf needed from outside would be missing there."""
    root = copy_with(OTHER, tmp_path)
    leaves = {path: set(strings(render(path, root).objects)) for path in leaf_paths(root)}
    left = (PLACEHOLDER, UNSET, TEMPLATE["STORE_URI"], TEMPLATE["STORE_ENDPOINT"])
    for path, texts in leaves.items():
        assert [text for text in texts if any(each in text for each in left)] == [], path
    every = "\n".join(text for texts in leaves.values() for text in texts)
    left_out = [key for key, value in OTHER.items() if any(part not in every for part in value.split(","))]
    assert left_out == [], "values that nothing in gitops/ takes"


def test_every_target_is_met_when_a_replacement_names_it() -> None:
    known = {(obj["kind"], obj["metadata"]["name"]) for leaf in gitops.leaves() for obj in leaf.objects}
    for replacement in gitops.load_all(GITOPS / "cluster/replacements.yaml"):
        source = replacement["source"]
        assert source["name"] == "git-addresses" or source["fieldPath"].removeprefix("data.") in KEYS
        for target in replacement["targets"]:
            select = target["select"]
            found = [k for k in known if select["kind"] == k[0] and select.get("name", k[1]) == k[1]]
            assert found, f"nothing is a {select}"


def test_every_file_is_named_and_nothing_outside_when_kustomizations_list_what_they_need() -> None:
    used = set[str]()
    for path, content in gitops.kustomizations().items():
        for field in ("resources", "components", "transformers", "configurations"):
            for name in content.get(field, ()):
                target = gitops.within(path, name)
                assert not target.startswith("..") and (GITOPS / target).exists(), f"{path}: {name}"
        assert not {"bases", "commonLabels", "patchesJson6902", "patchesStrategicMerge", "vars"} & set(content), path
        used |= {gitops.within(path, name.rpartition("=")[2]) for name in strings(content)}
    files = {
        path.relative_to(GITOPS).as_posix() for path in GITOPS.rglob("*.yaml") if path.name != "kustomization.yaml"
    }
    assert sorted(files - used) == []


def test_a_file_holds_one_object_or_such_as_belong_together() -> None:
    for path in GITOPS.rglob("*.yaml"):
        if path.name not in ("kustomization.yaml", "replacements.yaml", "names.yaml") and path.parent.name != "images":
            objects = [obj for obj in gitops.load_all(path) if "op" not in obj]  # an operation of a JSON patch
            kinds = {obj["kind"] for obj in objects}
            assert len(objects) <= 1 or any(kinds <= together for together in TOGETHER), path


def test_no_openshift_kind_is_left_when_plain_kubernetes_is_rendered() -> None:
    for obj in objects("kubernetes"):
        name = f"{obj['kind']} {obj['metadata']['name']}"
        assert not obj["apiVersion"].rpartition("/")[0].endswith(OPENSHIFT), name
        annotated = obj["metadata"].get("annotations", {})
        assert not [key for key in annotated if "openshift.io" in key and "description" not in key], name


@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_minio_is_applied_when_the_store_is_elsewhere(platform: str, tmp_path: Path) -> None:
    root = copy_with(SAMPLE, tmp_path)
    line = "- ../../components/external-store"
    swap(root / "argocd/overlays" / platform / "kustomization.yaml", f"# {line}", line)
    before = {obj["metadata"]["name"] for obj in gitops.leaf(f"argocd/overlays/{platform}").objects}
    after = {obj["metadata"]["name"] for obj in render(f"argocd/overlays/{platform}", root).objects}
    assert before - after == {"flywheel-minio"}


def test_every_leaf_is_applied_by_something() -> None:
    assert {path for platform in PLATFORMS for path in gitops.applied(platform)} == set(leaf_paths())
