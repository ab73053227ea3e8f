"""The objects that gitops/ brings to a cluster, and what of them is there already.

Two questions before anything is applied: is there an object of the same name that is not ours, and is there an
installation of an earlier version, whose Applications had other names?
"""

from __future__ import annotations

import functools
import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from runner.cluster import kubectl
from runner.cluster.waiting import Say
from runner.errors import ClusterError

Manifest = dict[str, Any]
LABEL, OURS = "app.kubernetes.io/part-of", "flywheel"
SELECTOR = f"{LABEL}={OURS}"
PREFIX = "flywheel-"
SERVING = "serving-"  # and the environment: what the ApplicationSet names its Applications
TRACKING = "argocd.argoproj.io/tracking-id"
ARGOPROJ = "argoproj.io/v1alpha1"
#: Argo CDs that ran an earlier version's Applications, and run this one's.
NAMESPACES = {"openshift": ("openshift-gitops", "flywheel-gitops"), "kubernetes": ("argocd",)}
#: Objects of others that are laid over on purpose, a few keys of each (gitops/README.md, "Who may change what").
SHARED = (("ConfigMap", "argocd-cm"),)
#: Kinds of which an earlier version left some without the label; those in namespaces of ours are ours.
UNLABELLED = ("Certificate", "Ingress")
#: What Argo CD makes of project `default` by itself, without what an earlier version left on it.
DEFAULT_PROJECT = {
    "metadata": {"labels": {LABEL: None}, "annotations": {TRACKING: None}},
    "spec": {
        "sourceRepos": ["*"],
        "destinations": [{"namespace": "*", "server": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
    },
}


class Resource(NamedTuple):
    """A kind as the API server serves it: its path up to the name of the kind, and whether it has namespaces."""

    root: str
    plural: str
    is_namespaced: bool

    def path(self, namespace: str | None, name: str = "") -> str:
        """Return the path of an object, or of a list of them; without a namespace, of all."""
        inside = f"/namespaces/{namespace}" if self.is_namespaced and namespace else ""
        return f"{self.root}{inside}/{self.plural}" + (f"/{name}" if name else "")


def rendered(project: Path, platform: str) -> list[Manifest]:
    """Return all objects: those that bootstrap applies, the Applications, and what these apply.

    Raises:
        ClusterError: a folder does not render.
    """
    found = _render(project, Path("gitops/bootstrap/root/overlays", platform))
    applications = _render(project, Path("gitops/argocd/overlays", platform))
    found += applications
    for path in _paths(project, [*applications, *found]):
        found += _render(project, path)
    return found


def require_ours(objects: list[Manifest]) -> None:
    """Refuse to take over what others made: in namespaces that are not ours alone, or in none.

    Raises:
        ClusterError: naming each, or the cluster cannot be read.
    """
    _served.cache_clear()
    found = list(dict.fromkeys(_others(objects)))
    if found:
        raise ClusterError(
            f"not ours (no label {SELECTOR}), and there already: {', '.join(found)}; nothing was applied. Rename or "
            "remove what is yours, or leave the part out (gitops/README.md, Before), and run this again"
        )


def lead_over(objects: list[Manifest], platform: str, say: Say) -> None:
    """Hand what an earlier version's Applications applied to those of this one; no object of theirs goes.

    Idempotent: it goes on where it stopped.

    Args:
        objects: of this version.
        platform: openshift or kubernetes.
        say: is told what happens.
    Raises:
        ClusterError: the cluster refuses.
    """
    _served.cache_clear()  # an operator may have brought kinds since
    for namespace in NAMESPACES[platform]:
        for kind, name in _of_before(namespace):
            _delete_alone(kind, namespace, name)
            say(f"  {kind} {name} in {namespace}: of an earlier version, deleted; what it applied stays")
        if _is_ours(_get(ARGOPROJ, "AppProject", namespace, "default")) and namespace != f"{PREFIX}gitops":
            say(
                f"AppProject default in {namespace} was emptied by an earlier version and is left so; "
                f"as Argo CD makes it: kubectl -n {namespace} patch appproject default --type=merge -p "
                f"'{json.dumps(DEFAULT_PROJECT)}'"
            )
    names = {str(obj["metadata"]["name"]) for obj in objects if obj["kind"] in ("Application", "ApplicationSet")}
    count = 0
    for api_version, kind in sorted({(obj["apiVersion"], obj["kind"]) for obj in objects}):
        resource = resource_of(api_version, kind)
        labels = "" if kind in UNLABELLED else SELECTOR
        for obj in kubectl.items(resource.path(None), labels=labels) if resource else ():
            meta = obj["metadata"]
            if not _is_ours(obj) and not meta.get("namespace", "").startswith(PREFIX):
                continue
            if resource and (new := retracked((meta.get("annotations") or {}).get(TRACKING, ""), names)):
                patch = {"metadata": {"annotations": {TRACKING: new}}}
                _patch(f"{resource.plural}.{_versioned(api_version)}", meta.get("namespace"), meta["name"], patch)
                count += 1
    if count:
        say(f"  {count} objects now say that the Applications of this version track them")


def retracked(tracking: str, names: Container[str]) -> str:
    """Return a tracking id with the Application's name of this version; empty where it has that, or is another's.

    Args:
        tracking: NAME:GROUP/KIND:NAMESPACE/NAME, as Argo CD writes it where it tracks by annotation; empty for none.
        names: of this version's Applications and its ApplicationSet, which names one for each environment.
    """
    name, _, rest = tracking.partition(":")
    is_known = f"{PREFIX}{name}" in names or (name.startswith(SERVING) and f"{PREFIX}{SERVING[:-1]}" in names)
    return f"{PREFIX}{name}:{rest}" if is_known else ""


@functools.cache
def _served(group_version: str) -> Mapping[str, Resource]:
    """Return the kinds of a group's version that the API server has, each by its name."""
    root = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
    listed = (kubectl.get(root) or {}).get("resources") or []
    return {
        each["kind"]: Resource(root, each["name"], bool(each["namespaced"]))
        for each in listed
        if "/" not in each["name"]
    }


def resource_of(api_version: str, kind: str) -> Resource | None:
    """Return how the API server serves a kind; None where it does not know it (yet)."""
    return _served(api_version).get(kind)


def _others(objects: list[Manifest]) -> Iterator[str]:
    for obj in objects:
        meta, kind = obj["metadata"], obj["kind"]
        namespace = meta.get("namespace")
        if (kind, meta["name"]) in SHARED or (namespace or "").startswith(PREFIX):
            continue
        there = _get(obj["apiVersion"], kind, namespace, meta["name"])
        if there and not _is_ours(there):
            yield f"{kind} {meta['name']}" + (f" in {namespace}" if namespace else "")


def _of_before(namespace: str) -> list[tuple[str, str]]:
    """Return kind and name of an earlier version's objects of Argo CD, so ordered that none brings another back."""
    found = []
    for kind in ("Application", "ApplicationSet", "AppProject"):
        resource = resource_of(ARGOPROJ, kind)
        for obj in kubectl.items(resource.path(namespace)) if resource else ():
            name = str(obj["metadata"]["name"])
            if name.startswith(PREFIX) or (kind, name) == ("AppProject", "default"):
                continue
            if "deletionTimestamp" in obj["metadata"] and kind == "ApplicationSet":
                continue  # the garbage collector is at it
            # What the ApplicationSet made has no label of ours.
            is_made = kind == "Application" and name.startswith(SERVING) and obj["spec"].get("project") == "detector"
            if _is_ours(obj) or is_made:
                found.append((kind, name))
    order = {"ApplicationSet": 1, "Application": 2, "AppProject": 3}
    return sorted(found, key=lambda one: (0 if one == ("Application", "root") else order[one[0]], one[1]))


def _delete_alone(kind: str, namespace: str, name: str) -> None:
    """Delete an object of Argo CD, and nothing that it applied or made.

    A finalizer would let Argo CD delete what an Application applied. An ApplicationSet owns its Applications: orphaned,
    they are here to be deleted in the same way.
    """
    resource = f"{kind}.argoproj.io"
    _patch(resource, namespace, name, {"metadata": {"finalizers": None}})
    cascade = "--cascade=orphan" if kind == "ApplicationSet" else "--cascade=background"
    deletion = ("delete", resource, name, "-n", namespace, cascade, "--wait=false", "--ignore-not-found")
    _done(kubectl.run(*deletion), name)


def _patch(resource: str, namespace: str | None, name: str, patch: Mapping[str, Any]) -> None:
    where = ("-n", namespace) if namespace else ()
    _done(kubectl.run("patch", resource, name, *where, "--type=merge", "-p", json.dumps(patch)), name)


def _done(done: Any, name: str) -> None:
    if done.returncode and "(NotFound)" not in done.stderr:
        raise ClusterError(f"{name}: {' '.join(done.stderr.split())}; run this again, it goes on where it stopped")


def _get(api_version: str, kind: str, namespace: str | None, name: str) -> Manifest | None:
    resource = resource_of(api_version, kind)
    return kubectl.get(resource.path(namespace, name)) if resource else None


def _is_ours(obj: Manifest | None) -> bool:
    return obj is not None and (obj["metadata"].get("labels") or {}).get(LABEL) == OURS


def _versioned(api_version: str) -> str:
    """Return VERSION.GROUP, as kubectl takes it behind a kind."""
    group, _, version = api_version.rpartition("/")
    return f"{version}.{group}"


def _paths(project: Path, objects: list[Manifest]) -> list[Path]:
    """Return the folders that Applications apply, an ApplicationSet's too."""
    found = [Path(obj["spec"]["source"]["path"]) for obj in objects if obj["kind"] == "Application"]
    for obj in objects:
        if obj["kind"] == "ApplicationSet":
            pattern = obj["spec"]["generators"][0]["git"]["directories"][0]["path"]
            found += [path.relative_to(project) for path in sorted(project.glob(pattern)) if path.is_dir()]
    done = {Path("gitops/argocd/overlays/openshift"), Path("gitops/argocd/overlays/kubernetes")}
    return [path for path in dict.fromkeys(found) if path not in done]


def _render(project: Path, path: Path) -> list[Manifest]:
    done = kubectl.run("kustomize", str(path), folder=project)
    if done.returncode:
        raise ClusterError(f"{path} does not render: {' '.join(done.stderr.split())}")
    return [obj for obj in yaml.safe_load_all(done.stdout) if obj]
