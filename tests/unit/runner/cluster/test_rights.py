"""Whoever lets Argo CD's controller do everything is named, with the line that ends it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.cluster import kubectl
from runner.cluster.rights import CONTROLLER, RBAC, advice

Object = dict[str, Any]
ALL = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
READ = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}


def binding(name: str, role: str, namespace: str, account: str) -> Object:
    subjects = [{"kind": "ServiceAccount", "namespace": namespace, "name": account}]
    return {"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": subjects}


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> list[Object]:
    """The cluster's ClusterRoleBindings; there are ClusterRoles `all` and `read`."""
    made: list[Object] = []
    roles = {f"{RBAC}/clusterroles/all": {"rules": [READ, ALL]}, f"{RBAC}/clusterroles/read": {"rules": [READ]}}
    monkeypatch.setattr(kubectl, "items", lambda path: made if path == f"{RBAC}/clusterrolebindings" else [])
    monkeypatch.setattr(kubectl, "get", roles.get)
    return made


def test_nothing_is_said_when_others_or_little_is_bound(bindings: list[Object]) -> None:
    assert advice() == []
    bindings += [binding("a", "read", *CONTROLLER), binding("b", "all", "kube-system", CONTROLLER[1])]
    bindings += [binding("c", "gone", *CONTROLLER), {**binding("d", "all", *CONTROLLER), "subjects": None}]
    assert advice() == []


def test_a_binding_is_named_when_it_lets_the_controller_do_everything(bindings: list[Object]) -> None:
    bindings += [binding("flywheel-argocd-read", "read", *CONTROLLER), binding("upstream", "all", *CONTROLLER)]
    assert "kubectl delete clusterrolebinding upstream &&" in advice()[-1]
