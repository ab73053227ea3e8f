import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import gitops

SENSITIVE = re.compile(r"(password|passwd|secret|token|api_?key|credential)", re.IGNORECASE)
# Names of settings that sound like a secret and hold a path, a switch or a name.
HARMLESS = re.compile(r"(_FILE|_PATH|_DIR|_NAME|_ENABLED|_FOR)$")
DEFAULTS = {"minioadmin", "minio123", "changeme", "admin:admin", "postgres:postgres"}
EVERYTHING = ("cluster-admin", "admin", "edit", "self-provisioner")
every_leaf = pytest.mark.parametrize("leaf", gitops.leaves(), ids=lambda leaf: leaf.path)


@every_leaf
def test_nothing_secret_and_no_run_stands_in_git_when_a_leaf_is_rendered(leaf: gitops.Leaf) -> None:
    """Argo CD leaves runs alone (bootstrap/root), so one in Git would never come."""
    assert list(leaf.of_kind("Secret", "PipelineRun", "TaskRun")) == []
    for obj in leaf.objects:
        for name, value in settings(obj):
            if SENSITIVE.search(name) and not HARMLESS.search(name):
                assert value in ("", "true", "false"), f"{obj['kind']}/{obj['metadata']['name']}: {name}"


def settings(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the environment variables with a value, and the data of ConfigMaps."""
    if isinstance(value, dict):
        if value.get("kind") == "ConfigMap":
            yield from ((key, text) for key, text in value.get("data", {}).items() if "\n" not in text)
        if isinstance(value.get("name"), str) and isinstance(value.get("value"), str):
            yield value["name"], value["value"]
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from settings(item)


def test_no_default_password_stands_anywhere_in_gitops() -> None:
    for path in gitops.GITOPS.rglob("*"):
        if path.is_file() and path.suffix not in (".md", ".png"):
            words = re.findall(r"[=:]\s*[\"']?([A-Za-z0-9:]+)", path.read_text(encoding="utf-8"))
            assert not {word.lower() for word in words} & DEFAULTS, path


@every_leaf
def test_rights_are_few_when_something_is_allowed(leaf: gitops.Leaf) -> None:
    for obj in leaf.of_kind("AppProject", "Role", "ClusterRole"):
        assert not [text for text in gitops.strings(obj) if "*" in text], obj["metadata"]
    for obj in leaf.of_kind("RoleBinding", "ClusterRoleBinding"):
        assert obj["roleRef"]["name"] not in EVERYTHING, obj["metadata"]
        for subject in obj["subjects"]:
            ours = subject["kind"] == "Group" and subject["name"].startswith("system:serviceaccounts:flywheel-")
            assert ours or subject["kind"] == "ServiceAccount", obj["metadata"]
    for obj in leaf.of_kind("Role", "ClusterRole"):
        if not obj["metadata"]["name"].startswith("flywheel-argocd-"):
            for rule in obj["rules"]:
                assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), obj["metadata"]
                if "secrets" in rule["resources"] and set(rule["verbs"]) - {"create"}:
                    assert rule.get("resourceNames"), f"{obj['metadata']}: reads every Secret of its namespace"
