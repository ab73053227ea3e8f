import functools
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.test_gitops_workloads import TEMPLATES, pod, started_jobs
from tests.support import gitops

Name = tuple[str, str, str]  # kind, namespace, name
README = (gitops.GITOPS / "README.md").read_text(encoding="utf-8")
# What a cluster has by itself in every namespace.
ALWAYS = {"ConfigMap": ("kube-root-ca.crt", "openshift-service-ca.crt"), "ServiceAccount": ("builder", "pipeline")}
WITH_PODS = ("Task", "Pipeline", "TriggerTemplate", "BuildConfig", "ServiceMonitor")
OF_ARGOCD = ("application-controller", "server")  # parts of it with a ServiceAccount of their own
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


@functools.cache
def objects(platform: str, *projects: str) -> tuple[gitops.Manifest, ...]:
    """Return what a platform applies, or what some projects of it do."""
    paths = [path for path, project in gitops.applied(platform).items() if project in projects or not projects]
    return tuple(obj for path in paths for obj in gitops.leaf(path).objects)


def supplied() -> set[Name]:
    """The Secrets of the README's table, and those that the cluster makes from the tables of credentials/."""
    found = {
        ("Secret", namespace.replace("<environment>", environment), row["name"])
        for row in ROW.finditer(README)
        for namespace in re.findall(r"`([a-z<>-]+)`", row["namespaces"])
        for environment in gitops.environments()
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
        meta, spec = obj["metadata"], obj.get("spec", {})
        name, namespace, annotations = meta["name"], meta.get("namespace", ""), meta.get("annotations", {})
        secrets = [annotations.get("service.beta.openshift.io/serving-cert-secret-name")]
        if obj["kind"] == "Certificate":
            secrets.append(spec["secretName"])
        if obj["kind"] == "Ingress" and "cert-manager.io/cluster-issuer" in annotations:
            secrets += [tls["secretName"] for tls in spec.get("tls", ())]
        found |= {(obj["kind"], namespace, name), *(("Secret", namespace, each) for each in secrets if each)}
        if obj["kind"] == "EventListener":
            found.add(("Service", namespace, LISTENER + name))
        if obj["kind"] == "ArgoCD":
            found |= {("ServiceAccount", namespace, f"{name}-argocd-{part}") for part in OF_ARGOCD}
        claims = spec.get("volumeClaimTemplates", ())
        found |= {("PersistentVolumeClaim", namespace, claim["metadata"]["name"]) for claim in claims}
    return found


def named_in(value: Any, namespace: str) -> Iterator[Name]:
    """Yield what a pod's template, or another part of an object, names by the usual fields."""
    if isinstance(value, list):
        for item in value:
            yield from named_in(item, namespace)
    if not isinstance(value, dict) or value.get("optional") is True:
        return
    for key, item in value.items():
        match key, item:
            case _, {"optional": True}:
                continue
            case (("secretKeyRef" | "secretRef" | "secret"), ({"name": name} | {"secretName": name})):
                yield ("Secret", namespace, name)
            case (("configMapKeyRef" | "configMapRef" | "configMap"), {"name": name}):
                yield ("ConfigMap", namespace, name)
            case "persistentVolumeClaim", {"claimName": str(name)} if "$(" not in name:
                yield ("PersistentVolumeClaim", namespace, name)
            case (("serviceAccountName" | "serviceAccount"), str(name)):
                yield ("ServiceAccount", namespace, name)
        yield from named_in(item, namespace)


def named(obj: gitops.Manifest) -> Iterator[Name]:
    meta, kind, spec = obj["metadata"], obj["kind"], obj.get("spec", {})
    namespace = meta.get("namespace", "")
    if namespace.startswith("flywheel-"):
        yield ("Namespace", "", namespace)
    if kind in TEMPLATES or kind in WITH_PODS:
        yield from named_in(spec, namespace)
    match kind:
        case "EventListener":
            for job in started_jobs([obj]):
                yield from named_in(job["spec"], job["metadata"]["namespace"])
        case "PodTemplate":
            yield from named_in(obj["template"]["spec"], namespace)
        case "Pipeline":
            params = [param for task in spec["tasks"] for param in task["params"]]
            yield from (
                ("PersistentVolumeClaim", namespace, each["value"]) for each in params if each["name"] == "claim"
            )
        case "StatefulSet":
            yield ("Service", namespace, spec["serviceName"])
        case "Route":
            yield ("Service", namespace, spec["to"]["name"])
        case "Ingress":
            paths = [path for rule in spec["rules"] for path in rule["http"]["paths"]]
            yield from (("Service", namespace, path["backend"]["service"]["name"]) for path in paths)
        case "HorizontalPodAutoscaler":
            yield (spec["scaleTargetRef"]["kind"], namespace, spec["scaleTargetRef"]["name"])
        case "RoleBinding" | "ClusterRoleBinding":
            for subject in obj["subjects"]:
                where = subject.get("namespace", namespace)
                if subject["kind"] == "ServiceAccount" and where.startswith("flywheel-"):
                    yield ("ServiceAccount", where, subject["name"])
            if obj["roleRef"]["kind"] == "Role":
                yield ("Role", namespace, obj["roleRef"]["name"])


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
def test_pods_and_namespaces_are_there_when_a_service_or_a_policy_selects_them(platform: str) -> None:
    labels: dict[str, list[dict[str, str]]] = {}
    known = {obj["metadata"]["name"] for obj in objects(platform) if obj["kind"] == "Namespace"}
    known |= OUTSIDE.keys() | {"REPLACE-ME"}  # of the template: the router's or Prometheus', from cluster.env
    for obj in objects(platform):
        if obj["kind"] in TEMPLATES:
            labels.setdefault(obj["metadata"]["namespace"], []).append(pod(obj, "").labels)
        if obj["kind"] == "Task":  # its labels are those of its TaskRuns, and of their pods
            labels.setdefault(obj["metadata"]["namespace"], []).append(obj["metadata"].get("labels", {}))
    for job in started_jobs(objects(platform)):
        labels.setdefault(job["metadata"]["namespace"], []).append(pod(job, "").labels)
    for obj in objects(platform):
        for selector, namespaces in selected(obj):
            assert set(namespaces) <= known, obj["metadata"]
            ours = [name for name in namespaces if name.startswith("flywheel-")]
            if ours and selector and not selector.keys() & COMING.keys():
                # A client need not be in each of the namespaces that it may be in; one that is in none is a mistake.
                found = [found for name in ours for found in labels.get(name, ())]
                assert any(selector.items() <= one.items() for one in found), f"{obj['metadata']}: {selector} in {ours}"


def selected(obj: gitops.Manifest) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield the pod selector and the namespaces of a Service's or a policy's pods, and of each peer of a policy."""
    spec, own = obj.get("spec", {}), [obj["metadata"].get("namespace", "")]
    if obj["kind"] == "Service":
        yield spec["selector"], own
    if obj["kind"] == "NetworkPolicy":
        yield spec["podSelector"].get("matchLabels", {}), own
        for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
            for peer in (*rule.get("from", ()), *rule.get("to", ())):
                namespaces, selector = own, peer.get("namespaceSelector")
                if selector is not None:
                    assert "kubernetes.io/metadata.name" in str(selector), f"{obj['metadata']}: a peer of any namespace"
                    namespaces = [*selector.get("matchLabels", {}).values()]
                    namespaces += [value for item in selector.get("matchExpressions", ()) for value in item["values"]]
                yield peer.get("podSelector", {}).get("matchLabels", {}), namespaces


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_namespace_is_closed_when_pods_run_in_it(platform: str) -> None:
    closing = {"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}
    running = {obj["metadata"]["namespace"] for obj in objects(platform) if obj["kind"] in TEMPLATES}
    closed = {
        obj["metadata"]["namespace"]
        for obj in objects(platform)
        if obj["kind"] == "NetworkPolicy"
        and obj["spec"] | {"policyTypes": sorted(obj["spec"]["policyTypes"])} == closing
    }
    assert running <= closed


@pytest.mark.parametrize("platform", PLATFORMS)
def test_objects_have_a_namespace_when_they_can(platform: str) -> None:
    for obj in objects(platform):
        cluster_wide = obj["kind"] in gitops.CLUSTER_WIDE
        assert ("namespace" in obj["metadata"]) != cluster_wide, f"{obj['kind']}/{obj['metadata']['name']}"
