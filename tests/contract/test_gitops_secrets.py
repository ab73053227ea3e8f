"""No credential stands in gitops/, and nobody is allowed everything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support import gitops

SENSITIVE = re.compile(r"(password|passwd|secret|token|api_?key|credential)", re.IGNORECASE)
# Names of settings that sound like a secret and hold a path, a switch or a name.
HARMLESS = re.compile(r"(_FILE|_PATH|_DIR|_NAME|_ENABLED|_FOR)$")
DEFAULTS = ("minioadmin", "minio123", "changeme", "admin:admin", "postgres:postgres")


def test_nothing_is_found_when_a_text_is_harmless() -> None:
    assert settings({}) == []
    assert list(stars({})) == []


@pytest.mark.parametrize("leaf", gitops.leaves(), ids=lambda leaf: leaf.path)
def test_no_secret_has_data_when_a_leaf_is_rendered(leaf: gitops.Leaf) -> None:
    assert [obj["metadata"]["name"] for obj in leaf.of_kind("Secret")] == []


@pytest.mark.parametrize("leaf", gitops.leaves(), ids=lambda leaf: leaf.path)
def test_no_value_is_given_when_a_setting_is_secret(leaf: gitops.Leaf) -> None:
    for obj in leaf.objects:
        for name, value in settings(obj):
            if SENSITIVE.search(name) and not HARMLESS.search(name):
                assert value in ("", "true", "false"), f"{obj['kind']}/{obj['metadata']['name']}: {name}"


def settings(value: Any) -> list[tuple[str, str]]:
    """Return the environment variables with a value, and the data of ConfigMaps."""
    found: list[tuple[str, str]] = []
    if isinstance(value, dict):
        if value.get("kind") == "ConfigMap":
            found += [(key, text) for key, text in value.get("data", {}).items() if "\n" not in text]
        for item in value.get("env") or ():
            if isinstance(item, dict) and "value" in item:
                found.append((item["name"], item["value"]))
        for item in value.values():
            found += settings(item)
    elif isinstance(value, list):
        for item in value:
            found += settings(item)
    return found


def test_no_default_password_stands_anywhere_in_gitops() -> None:
    for path in gitops.GITOPS.rglob("*"):
        if path.is_file() and path.suffix not in (".md", ".png"):
            words = re.findall(r"[=:]\s*[\"']?([A-Za-z0-9:]+)", path.read_text(encoding="utf-8"))
            assert not {word.lower() for word in words} & set(DEFAULTS), path


@pytest.mark.parametrize("leaf", gitops.leaves(), ids=lambda leaf: leaf.path)
def test_nothing_is_a_star_when_something_is_allowed(leaf: gitops.Leaf) -> None:
    for obj in leaf.of_kind("AppProject", "Role", "ClusterRole"):
        assert list(stars(obj)) == [], yaml.safe_dump(obj["metadata"])


def stars(value: Any) -> Iterator[str]:
    """Yield every string that stands for everything."""
    yield from (text for text in gitops.strings(value) if "*" in text)


@pytest.mark.parametrize("leaf", gitops.leaves(), ids=lambda leaf: leaf.path)
def test_cluster_admin_is_given_to_nobody(leaf: gitops.Leaf) -> None:
    for obj in leaf.of_kind("RoleBinding", "ClusterRoleBinding"):
        assert obj["roleRef"]["name"] not in ("cluster-admin", "admin", "edit", "self-provisioner"), obj["metadata"]
        for subject in obj["subjects"]:
            ours = subject["kind"] == "Group" and subject["name"].startswith("system:serviceaccounts:flywheel-")
            assert ours or subject["kind"] == "ServiceAccount", obj["metadata"]


@pytest.mark.parametrize("leaf", gitops.leaves(), ids=lambda leaf: leaf.path)
def test_rights_are_few_when_a_pod_has_some(leaf: gitops.Leaf) -> None:
    for obj in leaf.of_kind("Role", "ClusterRole"):
        if not obj["metadata"]["name"].startswith("flywheel-argocd-"):
            for rule in obj["rules"]:
                assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), obj["metadata"]
                if "secrets" in rule["resources"] and set(rule["verbs"]) - {"create"}:
                    assert rule.get("resourceNames"), f"{obj['metadata']}: reads every Secret of its namespace"
