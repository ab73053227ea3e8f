"""Whatever a manifest names is there: in gitops/, made by a table of gitops/credentials, or as the README says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.test_gitops_workloads import TEMPLATES, pod
from tests.support import gitops

Name = tuple[str, str, str]  # kind, namespace, name
README = (gitops.GITOPS / "README.md").read_text(encoding="utf-8")
# What a cluster has by itself in every namespace.
ALWAYS = {"ConfigMap": ("kube-root-ca.crt", "openshift-service-ca.crt"), "ServiceAccount": ("builder", "pipeline")}
LISTENER = "el-"  # Tekton's controller makes a Service of this name and the EventListener's
# Peers that are not ours, with why a policy names them.
OUTSIDE = {
    "argocd": "Argo CD on Kubernetes",
    "flywheel-gitops": "Argo CD on OpenShift, where it is Flywheel's own",
    "openshift-gitops": "Argo CD on OpenShift",
    "kube-system": "DNS on Kubernetes",
    "openshift-dns": "DNS on OpenShift",
    "openshift-pipelines": "Tekton's interceptors on OpenShift",
    "tekton-pipelines": "Tekton's interceptors on Kubernetes",
}
# Pods that no template of gitops/ makes, by a label that they carry.
COMING = {
    "flywheel/label-studio": "runs of the pipeline, and whoever calls Label Studio's API from inside",
    "eventlistener": "the pod of an EventListener, which Tekton's controller makes",
}
PLATFORMS = ("openshift", "kubernetes")
ROW = re.compile(r"^\| `(?P<name>[a-z-]+)` \| (?P<namespaces>[^|]+) \| (?P<keys>[^|]+) \|", re.MULTILINE)


def objects(platform: str) -> Iterator[gitops.Manifest]:
    for path in gitops.applied(platform):
        yield from gitops.leaf(path).objects


def supplied() -> set[Name]:
    """The Secrets of the README's table, and those that the cluster makes from the tables of credentials/."""
    found = {
        ("Secret", namespace, row["name"])
        for row in ROW.finditer(README)
        for namespace in re.findall(r"`([a-z-]+)`", row["namespaces"])
    }
    for table in (gitops.GITOPS / "credentials/tables").glob("*.txt"):
        for line in table.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                for environment in gitops.environments():
                    namespace, _, name = line.split()[0].replace("<environment>", environment).partition("/")
                    found.add(("Secret", namespace, name))
    return found


def made(platform: str) -> set[Name]:
    """Everything that is there once a platform's leaves are applied."""
    found = supplied()
    for obj in objects(platform):
        meta = obj["metadata"]
        found.add((obj["kind"], meta.get("namespace", ""), meta["name"]))
        if obj["kind"] == "EventListener":
            found.add(("Service", meta["namespace"], LISTENER + meta["name"]))
        annotations = meta.get("annotations", {})
        if secret := annotations.get("service.beta.openshift.io/serving-cert-secret-name"):
            found.add(("Secret", meta["namespace"], secret))
        if obj["kind"] == "ArgoCD":
            for part in ("application-controller", "server"):
                found.add(("ServiceAccount", meta["namespace"], f"{meta['name']}-argocd-{part}"))
        if obj["kind"] == "Certificate":
            found.add(("Secret", meta["namespace"], obj["spec"]["secretName"]))
        if obj["kind"] == "Ingress" and "cert-manager.io/cluster-issuer" in annotations:
            found |= {("Secret", meta["namespace"], tls["secretName"]) for tls in obj["spec"].get("tls", ())}
        if obj["kind"] == "StatefulSet":
            for claim in obj["spec"].get("volumeClaimTemplates", ()):
                found.add(("PersistentVolumeClaim", meta["namespace"], claim["metadata"]["name"]))
    return found


def named_in(value: Any, namespace: str) -> Iterator[Name]:
    """Yield what a pod's template, or another part of an object, names by the usual fields."""
    if isinstance(value, list):
        for item in value:
            yield from named_in(item, namespace)
    if not isinstance(value, dict) or value.get("optional") is True:
        return
    for key, item in value.items():
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(item, dict) and item.get("optional") is True:
            continue
        match key:
            case "secretKeyRef" | "secretRef" if name:
                yield ("Secret", namespace, name)
            case "configMapKeyRef" | "configMapRef" | "configMap" if name:
                yield ("ConfigMap", namespace, name)
            case "secret" if isinstance(item, dict) and ("secretName" in item or name):
                yield ("Secret", namespace, item.get("secretName") or item["name"])
            case "persistentVolumeClaim" if isinstance(item, dict) and "$(" not in item.get("claimName", "$("):
                yield ("PersistentVolumeClaim", namespace, item["claimName"])
            case "serviceAccountName" | "serviceAccount" if isinstance(item, str):
                yield ("ServiceAccount", namespace, item)
        yield from named_in(item, namespace)


def named(obj: gitops.Manifest) -> Iterator[Name]:
    meta, kind = obj["metadata"], obj["kind"]
    namespace = meta.get("namespace", "")
    spec = obj.get("spec", {})
    if kind in TEMPLATES or kind in (
        "Task",
        "Pipeline",
        "TriggerTemplate",
        "EventListener",
        "BuildConfig",
        "ServiceMonitor",
    ):
        yield from named_in(spec, namespace)
    if kind == "PodTemplate":
        yield from named_in(obj["template"]["spec"], namespace)
    if kind == "Pipeline":
        for param in (param for task in spec["tasks"] for param in task["params"] if param["name"] == "claim"):
            yield ("PersistentVolumeClaim", namespace, param["value"])
    if kind == "StatefulSet":
        yield ("Service", namespace, spec["serviceName"])
    if kind == "Route":
        yield ("Service", namespace, spec["to"]["name"])
    if kind == "Ingress":
        for path in (path for rule in spec["rules"] for path in rule["http"]["paths"]):
            yield ("Service", namespace, path["backend"]["service"]["name"])
    if kind == "HorizontalPodAutoscaler":
        yield (spec["scaleTargetRef"]["kind"], namespace, spec["scaleTargetRef"]["name"])
    if kind in ("RoleBinding", "ClusterRoleBinding"):
        for subject in obj["subjects"]:
            if subject["kind"] == "ServiceAccount" and subject.get("namespace", namespace).startswith("flywheel-"):
                yield ("ServiceAccount", subject.get("namespace", namespace), subject["name"])
        if obj["roleRef"]["kind"] == "Role":
            yield ("Role", namespace, obj["roleRef"]["name"])
    if namespace.startswith("flywheel-"):
        yield ("Namespace", "", namespace)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_it_is_there_when_a_manifest_names_it(platform: str) -> None:
    there = made(platform)
    missing = {
        f"{obj['kind']}/{obj['metadata']['name']} in {obj['metadata'].get('namespace')} names {' '.join(name)}"
        for obj in objects(platform)
        for name in named(obj)
        if name not in there and name[2] not in ALWAYS.get(name[0], ())
    }
    assert sorted(missing) == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_pods_are_there_when_a_service_or_a_policy_selects_them(platform: str) -> None:
    labels: dict[str, list[dict[str, str]]] = {}
    for obj in objects(platform):
        if obj["kind"] in TEMPLATES:
            labels.setdefault(obj["metadata"]["namespace"], []).append(pod(obj, "").labels)
        if obj["kind"] == "Task":  # its labels are those of its TaskRuns, and of their pods
            labels.setdefault(obj["metadata"]["namespace"], []).append(obj["metadata"].get("labels", {}))
    for obj in objects(platform):
        namespace = obj["metadata"].get("namespace")
        if obj["kind"] == "Service":
            selectors = [(obj["spec"]["selector"], [namespace])]
        elif obj["kind"] == "NetworkPolicy":
            selectors = [(obj["spec"]["podSelector"].get("matchLabels", {}), [namespace]), *peers(obj)]
        else:
            continue
        for selector, namespaces in selectors:
            ours = [name for name in namespaces if name and name.startswith("flywheel-")]
            if ours and selector and not selector.keys() & COMING.keys():
                # A client need not be in each of the namespaces that it may be in; one that is in none is a mistake.
                found = [found for name in ours for found in labels.get(name, ())]
                assert any(selector.items() <= one.items() for one in found), f"{obj['metadata']}: {selector} in {ours}"


def peers(policy: gitops.Manifest) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield the pod selector and the namespaces of each peer that a policy lets in or out."""
    rules = (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ()))
    for peer in (peer for rule in rules for peer in (*rule.get("from", ()), *rule.get("to", ()))):
        selector = peer.get("namespaceSelector")
        namespaces = [policy["metadata"]["namespace"]]
        if selector is not None:
            assert "kubernetes.io/metadata.name" in str(selector), f"{policy['metadata']}: a peer of any namespace"
            namespaces = [*selector.get("matchLabels", {}).values()]
            namespaces += [value for item in selector.get("matchExpressions", ()) for value in item["values"]]
        yield peer.get("podSelector", {}).get("matchLabels", {}), namespaces


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_namespace_is_known_when_a_policy_names_a_peer(platform: str) -> None:
    ours = {obj["metadata"]["name"] for obj in objects(platform) if obj["kind"] == "Namespace"}
    for policy in (obj for obj in objects(platform) if obj["kind"] == "NetworkPolicy"):
        for _, namespaces in peers(policy):
            # REPLACE-ME, of the template: the router's or Prometheus', from cluster.env.
            assert set(namespaces) <= ours | OUTSIDE.keys() | {"REPLACE-ME"}, policy["metadata"]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_namespace_is_closed_when_pods_run_in_it(platform: str) -> None:
    running = {obj["metadata"]["namespace"] for obj in objects(platform) if obj["kind"] in TEMPLATES}
    closed = {
        obj["metadata"]["namespace"]
        for obj in objects(platform)
        if obj["kind"] == "NetworkPolicy" and obj["spec"]["podSelector"] == {}
        and set(obj["spec"]["policyTypes"]) == {"Ingress", "Egress"} and not {"ingress", "egress"} & obj["spec"].keys()
    }  # fmt: skip
    assert running <= closed


@pytest.mark.parametrize("platform", PLATFORMS)
def test_objects_have_a_namespace_when_they_can(platform: str) -> None:
    for obj in objects(platform):
        cluster_wide = gitops.is_cluster_wide(obj)
        assert ("namespace" in obj["metadata"]) != cluster_wide, f"{obj['kind']}/{obj['metadata']['name']}"
