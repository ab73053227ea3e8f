"""Objects of gitops/, compared with those in the cluster.

Checked before anything is applied: does an object of the same name exist that is not ours, and is an earlier version
installed, whose Applications had other names?
"""

import json
import subprocess
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from runner.cluster import kubectl
from runner.cluster.waiting import Say
from runner.errors import ClusterError

Manifest = dict[str, Any]
Kind = tuple[str, str]  # group and name
LABEL, OURS = "app.kubernetes.io/part-of", "flywheel"
SELECTOR = f"{LABEL}={OURS}"
PREFIX = "flywheel-"
SERVING = "serving-"  # prefix of the ApplicationSet's Applications; the environment follows
TRACKING = "argocd.argoproj.io/tracking-id"
OPTIONS = "argocd.argoproj.io/sync-options"
ARGO_CD = [("argoproj.io", kind) for kind in ("Application", "ApplicationSet", "AppProject")]
#: Namespaces of the Argo CDs that ran an earlier version's Applications; the last one runs this version's.
NAMESPACES = {"openshift": ("openshift-gitops", "flywheel-gitops"), "kubernetes": ("argocd",)}
#: Objects of others that are patched on purpose, a few keys of each (gitops/README.md, "Who may change what").
SHARED = (("ConfigMap", "argocd-cm"),)
#: Kinds that an earlier version left partly unlabelled; those in our namespaces are ours.
UNLABELLED = ("Certificate", "Ingress")
DEFAULT = ("AppProject", "default")
#: Patch, printed for the user, that restores Argo CD's own default project: an earlier version had changed it.
DEFAULT_PROJECT = {
    "metadata": {"labels": {LABEL: None}, "annotations": {TRACKING: None}},
    "spec": {
        "sourceRepos": ["*"],
        "destinations": [{"namespace": "*", "server": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
    },
}


def rendered(project: Path, platform: str) -> list[Manifest]:
    """Return all rendered objects: bootstrap's, the Applications, and the objects of these."""
    roots = [Path("gitops/bootstrap/root/overlays", platform), Path("gitops/argocd/overlays", platform)]
    found = [obj for path in roots for obj in _render(project, path)]
    paths = [Path(obj["spec"]["source"]["path"]) for obj in found if obj["kind"] == "Application"]
    for obj in found:
        if obj["kind"] == "ApplicationSet":
            pattern = obj["spec"]["generators"][0]["git"]["directories"][0]["path"]
            paths += [path.relative_to(project) for path in sorted(project.glob(pattern)) if path.is_dir()]
    return found + [obj for path in dict.fromkeys(paths) if path not in roots for obj in _render(project, path)]


def require_ours(objects: list[Manifest]) -> None:
    """Raise ClusterError naming each object of others, in shared namespaces or cluster-scoped, that would change."""
    served = kubectl.kinds({_kind(obj)[0] for obj in objects})
    asked = []
    for obj in objects:
        kind, meta = _kind(obj), obj["metadata"]
        is_shared = (obj["kind"], meta["name"]) in SHARED
        if kind in served and not is_shared and not (meta.get("namespace") or "").startswith(PREFIX):
            asked.append(obj | {"apiVersion": served[kind]})
    there = kubectl.find("-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": asked}))
    found = list(dict.fromkeys(_name(obj) for obj in there if not is_ours(obj)))
    if found:
        raise ClusterError(
            f"there already, and not ours (no label {SELECTOR}): {', '.join(found)}; nothing was applied. Rename or "
            "remove these objects, or leave the part out (gitops/README.md, Before), and run this again"
        )


def migrate(objects: list[Manifest], platform: str, say: Say) -> None:
    """Hand the objects of an earlier version's Applications to this version's; none of these objects is deleted.

    Idempotent: run again, it resumes where it stopped.
    """
    kinds = {_kind(obj) for obj in objects}
    served = kubectl.kinds({group for group, _ in kinds})  # an operator may have added some since
    for namespace in NAMESPACES[platform]:
        there = _listed(served, ARGO_CD, "-n", namespace)
        for kind, name in _earlier(there):
            _delete_orphaning(kind, namespace, name)
            say(f"  {kind} {name} in {namespace}: deleted, as of an earlier version; the objects that it applied stay")
        emptied = any((obj["kind"], obj["metadata"]["name"]) == DEFAULT and is_ours(obj) for obj in there)
        if emptied and namespace != f"{PREFIX}gitops":
            say(
                f"AppProject default in {namespace} was emptied by an earlier version and stays so; "
                f"to restore Argo CD's own: kubectl -n {namespace} patch appproject default --type=merge -p "
                f"'{json.dumps(DEFAULT_PROJECT)}'"
            )
    names = {str(obj["metadata"]["name"]) for obj in objects if obj["kind"] in ("Application", "ApplicationSet")}
    wanted = {(*_kind(obj), obj["metadata"]["name"]) for obj in objects}
    count = 0
    unlabelled = {kind for kind in kinds if kind[1] in UNLABELLED}
    tracked = _listed(served, kinds - unlabelled, "-A", "-l", SELECTOR) + _listed(served, unlabelled, "-A")
    for obj in tracked:
        meta = obj["metadata"]
        if not is_ours(obj) and not meta.get("namespace", "").startswith(PREFIX):
            continue
        annotations = meta.get("annotations") or {}
        new: str | None = retracked(annotations.get(TRACKING, ""), names)
        # Argo CD may not prune it, and would show its Application as OutOfSync for ever.
        is_left = "Prune=false" in annotations.get(OPTIONS, "") and (*_kind(obj), meta["name"]) not in wanted
        if is_left and TRACKING in annotations:
            new = None
            say(f"  {_name(obj)}: of an earlier version, stays and is used by nothing; yours to delete")
        if new != "":
            patch = {"metadata": {"annotations": {TRACKING: new}}}
            _patch(_resource(obj["apiVersion"], obj["kind"]), meta.get("namespace"), meta["name"], patch)
            count += new is not None
    if count:
        say(f"  {count} objects are tracked by the Applications of this version now")


def retracked(tracking: str, names: Container[str]) -> str:
    """Return a tracking id (NAME:GROUP/KIND:NAMESPACE/NAME) with this version's Application name.

    Empty when it has that already, or is not ours. `names` has the ApplicationSet's too, which generates one for each
    environment.
    """
    name, _, rest = tracking.partition(":")
    is_known = f"{PREFIX}{name}" in names or (name.startswith(SERVING) and f"{PREFIX}{SERVING[:-1]}" in names)
    return f"{PREFIX}{name}:{rest}" if is_known else ""


def _listed(served: Mapping[Kind, str], kinds: Iterable[Kind], *where: str) -> list[Manifest]:
    """Return the objects of the kinds that the API server serves."""
    known = [_resource(served[kind], kind[1]) for kind in sorted(kinds) if kind in served]
    return kubectl.find(",".join(known), *where) if known else []


def _earlier(there: list[Manifest]) -> list[tuple[str, str]]:
    """Return kind and name of an earlier version's Argo CD objects, in an order in which none recreates another."""
    found = []
    for obj in there:
        kind, name = obj["kind"], str(obj["metadata"]["name"])
        is_going = "deletionTimestamp" in obj["metadata"] and kind == "ApplicationSet"  # by the garbage collector
        if is_going or name.startswith(PREFIX) or (kind, name) == DEFAULT:
            continue
        # The ApplicationSet's Applications do not have our label.
        is_made = kind == "Application" and name.startswith(SERVING) and obj["spec"].get("project") == "detector"
        if is_ours(obj) or is_made:
            found.append((kind, name))
    order = {"ApplicationSet": 1, "Application": 2, "AppProject": 3}
    return sorted(found, key=lambda one: (0 if one == ("Application", "root") else order[one[0]], one[1]))


def _delete_orphaning(kind: str, namespace: str, name: str) -> None:
    """Delete an Argo CD object, without the objects that it applied or owns.

    A finalizer would make Argo CD delete what an Application applied. An ApplicationSet owns its Applications: they are
    orphaned, to be deleted here in the same way.
    """
    resource = f"{kind}.argoproj.io"
    _patch(resource, namespace, name, {"metadata": {"finalizers": None}})
    cascade = "--cascade=orphan" if kind == "ApplicationSet" else "--cascade=background"
    deletion = ("delete", resource, name, "-n", namespace, cascade, "--wait=false", "--ignore-not-found")
    _check(kubectl.run(*deletion), name)


def _patch(resource: str, namespace: str | None, name: str, patch: Mapping[str, Any]) -> None:
    where = ("-n", namespace) if namespace else ()
    _check(kubectl.run("patch", resource, name, *where, "--type=merge", "-p", json.dumps(patch)), name)


def _check(done: subprocess.CompletedProcess[str], name: str) -> None:
    """Raise ClusterError when kubectl failed, unless the object does not exist."""
    if done.returncode and "(NotFound)" not in done.stderr:
        raise ClusterError(f"{name}: {' '.join(done.stderr.split())}; run this again: it continues where it stopped")


def _kind(obj: Manifest) -> Kind:
    return obj["apiVersion"].rpartition("/")[0], obj["kind"]


def _resource(api_version: str, kind: str) -> str:
    """Return KIND.VERSION.GROUP for kubectl."""
    group, _, version = api_version.rpartition("/")
    return f"{kind}.{version}.{group}"


def _name(obj: Manifest) -> str:
    meta = obj["metadata"]
    return f"{obj['kind']} {meta['name']}" + (f" in {meta['namespace']}" if "namespace" in meta else "")


def is_ours(obj: Manifest) -> bool:
    """Whether an object has Flywheel's label."""
    return (obj["metadata"].get("labels") or {}).get(LABEL) == OURS


def _render(project: Path, path: Path) -> list[Manifest]:
    done = kubectl.run("kustomize", str(path), folder=project)
    if done.returncode:
        raise ClusterError(f"{path} does not render: {' '.join(done.stderr.split())}")
    return [obj for obj in yaml.load_all(done.stdout, yaml.CSafeLoader) if obj]
