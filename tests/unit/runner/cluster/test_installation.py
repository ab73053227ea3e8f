"""What is there already: others' objects are refused, an earlier version's Applications are led over, alone."""

from __future__ import annotations

import json
import subprocess
from contextlib import nullcontext
from typing import Any

import pytest

from runner.cluster import kubectl
from runner.cluster.installation import LABEL, OPTIONS, TRACKING, migrate, require_ours, retracked
from runner.errors import ClusterError

Object = dict[str, Any]
NAMES = {"flywheel-root", "flywheel-minio", "flywheel-serving"}
VERSIONS = {
    "v1": ("ConfigMap", "Namespace"),
    "apps/v1": ("StatefulSet",),
    "networking.k8s.io/v1": ("Ingress",),
    "argoproj.io/v1alpha1": ("Application", "ApplicationSet", "AppProject"),
    "rbac.authorization.k8s.io/v1": ("ClusterRole",),
}


def make(kind: str, name: str, namespace: str = "", *, ours: bool = True, tracking: str = "", **spec: Any) -> Object:
    api = next(version for version, kinds in VERSIONS.items() if kind in kinds)
    meta: Object = {"name": name, "labels": {LABEL: "flywheel"} if ours else {"app": "theirs"}}
    meta |= {"namespace": namespace} if namespace else {}
    meta |= {"annotations": {TRACKING: tracking}} if tracking else {}
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}


class Cluster:
    """The API server's objects; writes are noted, and done."""

    def __init__(self, *objects: Object) -> None:
        self.objects = list(objects)
        self.deleted: list[str] = []

    def kinds(self, groups: set[str]) -> dict[tuple[str, str], str]:
        assert {"", "argoproj.io"} <= groups
        return {(api.rpartition("/")[0], kind): api for api, kinds in VERSIONS.items() for kind in kinds}

    def find(self, what: str, *where: str, stdin: str = "") -> list[Object]:
        if what == "-f":
            asked = {self._address(each) for each in json.loads(stdin)["items"]}
            return [each for each in self.objects if self._address(each) in asked]
        found = [each for each in self.objects if self._address(each)[0] in what.split(",")]
        if "-n" in where:
            return [each for each in found if each["metadata"].get("namespace") == where[1]]
        return [each for each in found if "-l" not in where or each["metadata"]["labels"].get(LABEL) == "flywheel"]

    def run(self, verb: str, resource: str, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        namespace = arguments[arguments.index("-n") + 1] if "-n" in arguments else ""
        kind = resource.partition(".")[0]
        (found,) = [
            each for each in self.objects if each["kind"] == kind and self._address(each)[1:] == (namespace, name)
        ]
        if verb == "delete":
            assert "finalizers" not in found["metadata"] and "--wait=false" in arguments
            assert ("--cascade=orphan" in arguments) == (found["kind"] == "ApplicationSet")
            self.objects.remove(found)
            self.deleted.append(f"{found['kind']}/{name}")
        else:
            for field, value in json.loads(arguments[-1])["metadata"].items():
                if value is None:
                    found["metadata"].pop(field, None)
                else:
                    merged = found["metadata"].get(field, {}) | value
                    found["metadata"][field] = {key: each for key, each in merged.items() if each is not None}
        return subprocess.CompletedProcess([], 0, "", "")

    @staticmethod
    def _address(obj: Object) -> tuple[str, str, str]:
        group, _, version = obj["apiVersion"].rpartition("/")
        return f"{obj['kind']}.{version}.{group}", obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    it = Cluster()
    for name in ("kinds", "find", "run"):
        monkeypatch.setattr(kubectl, name, getattr(it, name))
    return it


NEW = [
    make("Application", "flywheel-root", "argocd"),
    make("Application", "flywheel-minio", "argocd"),
    make("ApplicationSet", "flywheel-serving", "argocd"),
    make("AppProject", "flywheel-platform", "argocd"),
    make("Namespace", "flywheel-minio"),
    make("StatefulSet", "minio", "flywheel-minio"),
    make("ConfigMap", "argocd-cm", "argocd"),
    make("ConfigMap", "model", "flywheel-dev"),
    make("Ingress", "model", "flywheel-dev"),
    make("ClusterRole", "flywheel-argocd-read"),
    {"apiVersion": "unknown.io/v1", "kind": "Unknown", "metadata": {"name": "later"}},
]


@pytest.mark.parametrize(
    ("there", "name"),
    [
        (make("ClusterRole", "flywheel-argocd-read"), ""),
        (make("Namespace", "flywheel-minio"), ""),
        (make("StatefulSet", "minio", "flywheel-minio", ours=False), ""),
        (make("ConfigMap", "argocd-cm", "argocd", ours=False), ""),  # a few of its keys are set
        (make("Application", "flywheel-minio", "argocd", ours=False), "Application flywheel-minio in argocd"),
        (make("AppProject", "flywheel-platform", "argocd", ours=False), "AppProject flywheel-platform in argocd"),
        (make("ClusterRole", "flywheel-argocd-read", ours=False), "ClusterRole flywheel-argocd-read"),
        (make("Namespace", "flywheel-minio", ours=False), "Namespace flywheel-minio"),
    ],
)
def test_it_is_refused_when_the_name_is_anothers(cluster: Cluster, there: Object, name: str) -> None:
    require_ours(NEW)
    cluster.objects.append(there)
    with pytest.raises(ClusterError, match=name) if name else nullcontext():
        require_ours(NEW)


@pytest.mark.parametrize(
    ("tracking", "expected"),
    [
        ("", ""),
        ("minio:apps/StatefulSet:flywheel-minio/minio", "flywheel-minio:apps/StatefulSet:flywheel-minio/minio"),
        ("serving-dev:/ConfigMap:flywheel-dev/model", "flywheel-serving-dev:/ConfigMap:flywheel-dev/model"),
        ("flywheel-minio:apps/StatefulSet:flywheel-minio/minio", ""),
        ("somebody:apps/StatefulSet:flywheel-minio/minio", ""),
    ],
)
def test_a_tracking_id_follows_when_the_application_is_one_of_ours(tracking: str, expected: str) -> None:
    assert retracked(tracking, NAMES) == expected


def earlier() -> list[Object]:
    """An installation of before the prefix, with an Application and a project of others beside it."""
    made = make("Application", "serving-dev", "argocd", ours=False, project="detector")
    made["metadata"]["finalizers"] = ["resources-finalizer.argocd.argoproj.io"]
    return [
        make("AppProject", "platform", "argocd"),
        make("AppProject", "default", "argocd"),
        make("AppProject", "theirs", "argocd", ours=False),
        make("Application", "minio", "argocd"),
        make("Application", "root", "argocd"),
        made,
        make("Application", "serving-desk", "argocd", ours=False, project="theirs"),
        make("ApplicationSet", "serving", "argocd"),
        make("StatefulSet", "minio", "flywheel-minio", tracking="minio:apps/StatefulSet:flywheel-minio/minio"),
        make("ConfigMap", "model-old", "flywheel-dev", tracking="serving-dev:/ConfigMap:flywheel-dev/model-old"),
        make("Ingress", "model", "flywheel-dev", ours=False, tracking="serving-dev:networking.k8s.io/Ingress:x/model"),
        make("Ingress", "other", "elsewhere", ours=False, tracking="serving-dev:networking.k8s.io/Ingress:x/other"),
        make("ConfigMap", "theirs", "flywheel-dev", ours=False, tracking="minio:/ConfigMap:flywheel-dev/theirs"),
    ]


def test_applications_of_before_go_and_what_they_applied_stays_and_is_tracked(cluster: Cluster) -> None:
    cluster.objects += earlier()
    said: list[str] = []
    migrate(NEW, "kubernetes", said.append)
    # root first, or it would bring the others back; then what makes Applications.
    assert cluster.deleted[:2] == ["Application/root", "ApplicationSet/serving"]
    assert sorted(cluster.deleted[2:]) == ["AppProject/platform", "Application/minio", "Application/serving-dev"]
    assert cluster.deleted[-1] == "AppProject/platform"
    tracked = {
        each["metadata"]["name"]: each["metadata"]["annotations"][TRACKING].partition(":")[0]
        for each in cluster.objects
        if "annotations" in each["metadata"]
    }
    assert tracked == {"minio": "flywheel-minio", "model-old": "flywheel-serving-dev", "theirs": "minio"} | {
        "model": "flywheel-serving-dev",
        "other": "serving-dev",
    }
    assert any("AppProject default in argocd was emptied" in line for line in said)


def test_what_stays_unused_is_nobodys_when_an_earlier_version_kept_it_from_pruning(cluster: Cluster) -> None:
    kept = [make("ConfigMap", name, "flywheel-dev", tracking=f"flywheel-root:/ConfigMap:x/{name}") for name in "ab"]
    for each in kept:
        each["metadata"]["annotations"][OPTIONS] = "Prune=false,Delete=false"
    cluster.objects += kept
    said: list[str] = []
    migrate([*NEW, make("ConfigMap", "b", "flywheel-dev")], "kubernetes", said.append)
    assert [TRACKING in each["metadata"]["annotations"] for each in kept] == [False, True]
    assert [line for line in said if "ConfigMap a in flywheel-dev" in line] == said


def test_it_goes_on_when_it_was_cut_off_and_rests_when_it_is_done(cluster: Cluster) -> None:
    cluster.objects += [each for each in earlier() if each["kind"] in ("StatefulSet", "AppProject")]
    said: list[str] = []
    migrate(NEW, "kubernetes", said.append)
    assert cluster.deleted == ["AppProject/platform"]
    before = json.dumps(cluster.objects)
    migrate(NEW, "kubernetes", print)
    assert cluster.deleted == ["AppProject/platform"]
    assert json.dumps(cluster.objects) == before
    cluster.objects.clear()
    said.clear()
    migrate(NEW, "kubernetes", said.append)
    assert said == []
