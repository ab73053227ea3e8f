"""gitops/ renders, everywhere and always to the same, with every value of cluster.env where it belongs."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import pytest

from runner.cluster.facts import KEYS, UNSET
from tests.support import gitops
from tests.support.gitops import GITOPS, OTHER, SAMPLE, copy_with, leaf_paths, render_text

PLACEHOLDER = "from-cluster-env"
OPENSHIFT = ("openshift.io", "operator.tekton.dev", "operators.coreos.com", "nvidia.com")
WORDS = {"PLATFORM", "GPU"}  # they mean something elsewhere too
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
HASH = re.compile(
    r"\b(model|credentials|make-users)-[a-z0-9]{10}\b"
)  # a generated ConfigMap's name follows its content


def render_all(root: Path, values: dict[str, str]) -> dict[str, str]:
    """Render every leaf of a copy of gitops/ that stands alone: what it needs from outside is missing there."""
    alone = copy_with(values, root)
    return {path: render_text(alone / path) for path in leaf_paths(alone)}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return render_all(tmp_path_factory.mktemp("sample"), SAMPLE)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return render_all(tmp_path_factory.mktemp("other"), OTHER)


def test_there_are_no_leaves_when_a_folder_is_empty(tmp_path: Path) -> None:
    assert leaf_paths(tmp_path) == []


def test_a_leaf_is_refused_when_it_reaches_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "leaf").mkdir()
    (tmp_path / "outside.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    (tmp_path / "leaf/kustomization.yaml").write_text("resources: [../outside.yaml]\n")
    with pytest.raises(RuntimeError, match=r"outside\.yaml' is not in or below"):
        render_text(tmp_path / "leaf")


def test_two_renderings_are_the_same_when_nothing_changed(sample: dict[str, str], tmp_path: Path) -> None:
    assert render_all(tmp_path, SAMPLE) == sample


def test_no_placeholder_is_left_when_a_leaf_is_rendered(sample: dict[str, str]) -> None:
    assert len(sample) > 20
    assert [path for path, text in sample.items() if PLACEHOLDER in text or UNSET in text] == []


def test_every_place_follows_when_a_value_changes(sample: dict[str, str], other: dict[str, str]) -> None:
    new = {old: OTHER[key] for key, old in SAMPLE.items()}
    ends = {SAMPLE[key] for key in WORDS}  # these are whole values, or the end of a path
    longest_first = sorted(new, key=len, reverse=True)
    olds = re.compile("|".join(re.escape(old) + (r"(?=(?:/\*)?$)" if old in ends else "") for old in longest_first))
    met = set[str]()
    for path, before in sample.items():
        lines = (HASH.sub(r"\1-hash", text).splitlines() for text in (before, other[path]))
        for was, now in zip(*lines, strict=True):
            if was != now:
                assert olds.sub(lambda found: new[found[0]], was) == now, path
                met |= set(olds.findall(was))
    assert met == set(new), "values that nothing in gitops/ takes"


def test_no_old_value_is_left_when_every_value_changes(other: dict[str, str]) -> None:
    for path, text in other.items():
        assert [key for key, old in SAMPLE.items() if key not in WORDS and old in text] == [], path


def test_every_target_is_met_when_a_replacement_names_it() -> None:
    known = {(obj["kind"], obj["metadata"]["name"]) for leaf in gitops.leaves() for obj in leaf.objects}
    for replacement in gitops.load_all(GITOPS / "cluster/replacements.yaml"):
        assert replacement["source"]["fieldPath"].removeprefix("data.") in KEYS
        for target in replacement["targets"]:
            select = target["select"]
            found = [k for k in known if select["kind"] == k[0] and select.get("name", k[1]) == k[1]]
            assert found, f"nothing is a {select}"


def test_nothing_outside_is_named_when_a_kustomization_lists_what_it_needs() -> None:
    known = gitops.kustomizations()
    for path, content in known.items():
        listed: list[Any] = [*content.get("resources", ()), *content.get("components", ())]
        listed += [*content.get("transformers", ()), *content.get("configurations", ())]
        for name in listed:
            target = posixpath.normpath(posixpath.join(path, name))
            assert not target.startswith("..") and "://" not in name, f"{path}: {name}"
            assert (GITOPS / target).exists(), f"{path}: {name}"
        assert not {"bases", "commonLabels", "patchesJson6902", "patchesStrategicMerge", "vars"} & set(content), path


def test_every_file_is_used_when_it_is_a_manifest() -> None:
    used = set[str]()
    for path, content in gitops.kustomizations().items():
        named = [str(value) for value in gitops.strings(content)]
        used |= {gitops.within(path, name.rpartition("=")[2]) for name in named}
    manifests = {
        path.relative_to(GITOPS).as_posix() for path in GITOPS.rglob("*.yaml") if path.name != "kustomization.yaml"
    }
    assert sorted(manifests - used) == []


def test_a_file_holds_one_object_or_such_as_belong_together() -> None:
    for path in GITOPS.rglob("*.yaml"):
        if path.name not in ("kustomization.yaml", "replacements.yaml") and path.parent.name != "images":
            objects = gitops.load_all(path)
            kinds = {obj["kind"] for obj in objects}
            assert len(objects) == 1 or any(kinds <= together for together in TOGETHER), path


def test_no_openshift_kind_is_left_when_plain_kubernetes_is_rendered() -> None:
    paths = gitops.applied("kubernetes")
    assert {
        "minio/overlays/kubernetes",
        "serving/overlays/kubernetes/dev",
        "bootstrap/root/overlays/kubernetes",
    } <= set(paths)
    for path in paths:
        for obj in gitops.leaf(path).objects:
            group = obj["apiVersion"].rpartition("/")[0]
            assert not group.endswith(OPENSHIFT), f"{path}: {obj['kind']} {obj['metadata']['name']}"
            annotated = obj["metadata"].get("annotations", {})
            assert not [name for name in annotated if "openshift.io" in name and "description" not in name], path


@pytest.mark.parametrize("platform", ["openshift", "kubernetes"])
def test_no_minio_is_applied_when_the_store_is_elsewhere(platform: str, tmp_path: Path) -> None:
    root = copy_with(SAMPLE, tmp_path)
    path = root / "argocd/overlays" / platform / "kustomization.yaml"
    line = "- ../../components/external-store"
    assert f"# {line}" in path.read_text()
    path.write_text(path.read_text().replace(f"# {line}", line))
    before = {obj["metadata"]["name"] for obj in gitops.leaf(f"argocd/overlays/{platform}").objects}
    after = {obj["metadata"]["name"] for obj in gitops.render(f"argocd/overlays/{platform}", root).objects}
    assert before - after == {"flywheel-minio"}


def test_every_leaf_is_applied_by_something() -> None:
    assert {path for platform in ("openshift", "kubernetes") for path in gitops.applied(platform)} == set(leaf_paths())
