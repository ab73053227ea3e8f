"""What may leave the cluster, by its NetworkPolicies, knows the proxy and whom to trust; the page about it is true."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_gitops_references import PLATFORMS, objects
from tests.contract.test_gitops_workloads import LISTED, TEMPLATES, containers, pod, started_jobs, steps
from tests.contract.test_supply_chain import containerfiles
from tests.support import gitops
from tests.support.trees import swap

PAGE = gitops.PROJECT / "docs/air-gap.md"
SOURCES = (".yaml", ".env", ".py")
SETTINGS = {"HTTPS_PROXY", "NO_PROXY", "GIT_SSL_CAINFO"}
NODE_DNS = {"ipBlock": {"cidr": "169.254.20.10/32"}}
#: Containers that a policy lets out, and that never leave the cluster, with what they ask.
STAYS = {
    "flywheel-minio/credentials": "the cluster's API",
    "flywheel-pipelines/prune/prune": "the cluster's API",
    "flywheel-labels/labels-setup/setup": "Label Studio and the store, beside a container that clones",
    "flywheel-labels/labels-pull/dataset": "Label Studio and the store, beside a container that clones",
    "flywheel-labels/captures-push/captures": "Label Studio and the store, beside a container that clones",
}
Container = dict[str, Any]


def leaving(policy: gitops.Manifest) -> bool:
    """Whether a policy lets pods reach addresses that are no pods'."""
    for rule in policy["spec"].get("egress", ()):
        if not rule.get("to") or any("ipBlock" in peer and peer != NODE_DNS for peer in rule["to"]):
            return True
    return False


def running(platform: str) -> Iterator[tuple[str, dict[str, str], str, Container]]:
    """Yield the namespace, the labels of the pod, the name and the merged definition of each container."""
    found = objects(platform)
    clone = next(obj["spec"] | {"name": "clone"} for obj in found if obj["kind"] == "StepAction")
    for obj in (*(each for each in found if each["kind"] in TEMPLATES), *started_jobs(found)):
        one = pod(obj, platform)
        for each in containers(one.spec):
            yield obj["metadata"]["namespace"], one.labels, f"{obj['metadata']['name']}/{each['name']}", each
    for obj in (each for each in found if each["kind"] == "Task"):
        template = obj["spec"]["stepTemplate"]
        for step in (template | clone, *steps(obj["spec"])):
            mounts = [*template["volumeMounts"], *step.get("volumeMounts", ())]  # Tekton joins them
            name = f"{obj['metadata']['name']}/{step['name']}"
            yield obj["metadata"]["namespace"], obj["metadata"].get("labels", {}), name, step | {"volumeMounts": mounts}


def selected(platform: str) -> Iterator[tuple[str, str, Container]]:
    """Yield the namespace, the name and the definition of each container that a policy lets out."""
    policies = [obj for obj in objects(platform) if obj["kind"] == "NetworkPolicy" and leaving(obj)]
    assert policies
    for namespace, labels, name, each in running(platform):
        selectors = [
            policy["spec"]["podSelector"].get("matchLabels", {}).items()
            for policy in policies
            if policy["metadata"]["namespace"] == namespace
        ]
        if any(selector <= labels.items() for selector in selectors):
            yield namespace, name, each


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_may_leave_the_cluster_knows_the_proxy_and_whom_to_trust(platform: str) -> None:
    maps = {
        (obj["metadata"]["namespace"], obj["metadata"]["name"]): set(obj.get("data", {}))
        for obj in objects(platform)
        if obj["kind"] == "ConfigMap"
    }
    out = set[str]()
    for namespace, name, each in selected(platform):
        if any(f"{namespace}/{name}".startswith(stays) for stays in STAYS):
            continue
        out.add(f"{namespace}/{name}")
        named = [source["configMapRef"]["name"] for source in each.get("envFrom", ()) if "configMapRef" in source]
        known = set[str]().union(*(maps[namespace, config] for config in named))
        assert known >= SETTINGS, f"{namespace}/{name} has no {SETTINGS - known}"
        assert "/etc/trusted-ca" in [mount["mountPath"] for mount in each["volumeMounts"]], f"{namespace}/{name}"
    assert {"flywheel-pipelines/pin/pin", "flywheel-labels/labels-pull/propose"} <= out


@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_namespace_reaches_dns_on_the_node_too(platform: str) -> None:
    """NodeLocal DNSCache answers there, and is no pod of kube-system that a selector would meet."""
    reached = {
        obj["metadata"]["namespace"]
        for obj in objects(platform)
        if obj["kind"] == "NetworkPolicy" and obj["spec"]["podSelector"] == {}
        for rule in obj["spec"].get("egress", ())
        if NODE_DNS in rule.get("to", ()) and {"protocol": "UDP", "port": 53} in rule["ports"]
    }
    closed = {obj["metadata"]["namespace"] for obj in objects(platform) if obj["metadata"]["name"] == "deny-all"}
    assert closed and reached == closed


def test_every_setting_of_the_way_out_reaches_the_pods_as_cluster_env_has_it(tmp_path: Path) -> None:
    root = gitops.copy_with(gitops.SAMPLE, tmp_path)
    for path, name in (("pipelines", "retrain"), ("label-studio", "wheel"), ("minio", "repository")):
        leaf = gitops.render(f"{path}/overlays/kubernetes", root)
        (data,) = (obj["data"] for obj in leaf.of_kind("ConfigMap") if obj["metadata"]["name"] == name)
        assert {key: data[key] for key in SETTINGS} == {
            "HTTPS_PROXY": gitops.SAMPLE["HTTPS_PROXY"],
            "NO_PROXY": f"localhost,127.0.0.1,.svc,.cluster.local,label-studio,{gitops.SAMPLE['NO_PROXY']}",
            "GIT_SSL_CAINFO": gitops.SAMPLE["GIT_SSL_CAINFO"],
        }
        (policy,) = (obj["spec"] for obj in leaf.of_kind("NetworkPolicy") if obj["metadata"]["name"] == "to-git")
        assert [rule["ports"][0]["port"] for rule in policy["egress"]] == [443, 3128]


def test_the_page_names_every_host_that_images_and_builds_come_from() -> None:
    hosts = {image["newName"].partition("/")[0] for image in LISTED}
    text = "".join(path.read_text(encoding="utf-8") for path in gitops.GITOPS.rglob("*") if path.suffix in SOURCES)
    for recipe in containerfiles():
        text += recipe.read_text(encoding="utf-8")
    hosts |= set(re.findall(r"(?:image: |ARG [A-Z]+=)([a-z0-9-]+(?:\.[a-z0-9-]+)+)/", text))
    hosts |= set(re.findall(r"(?:https?://|GOSUMDB=)([a-z0-9-]+(?:\.[a-z0-9-]+)+)\b", text))
    hosts |= {"pypi.org"} if "install_packages.py" in text else set()
    ours = re.compile(r"\.svc$|\.from-cluster-env|^flywheel-|^image-registry\.|\.example\.com$|^github\.com$")
    told = set(re.findall(r"^\| `([a-z0-9.-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {host for host in hosts if not ours.search(host)} <= told


def test_a_mirror_is_an_argument_of_a_build_that_knows_it(tmp_path: Path) -> None:
    recipes = "".join(each.read_text("utf-8") for each in containerfiles())
    root = gitops.copy_with(gitops.SAMPLE, tmp_path)
    swap(root / "builds/kustomization.yaml", "# - components/mirrors", "- components/mirrors")
    builds = list(gitops.render("builds", root).of_kind("BuildConfig"))
    assert builds
    for build in builds:
        given = {each["name"] for each in build["spec"]["strategy"]["dockerStrategy"]["buildArgs"]}
        assert given <= set(re.findall(r"^ARG ([A-Z_]+)", recipes, re.MULTILINE))
        assert [name for name in given if name not in PAGE.read_text(encoding="utf-8")] == []
        assert build["spec"]["mountTrustedCA"] is True  # as SSL_CERT_FILE says
