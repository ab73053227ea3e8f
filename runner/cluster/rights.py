"""cluster-admin bindings of an Argo CD controller that people installed themselves.

Upstream's manifests create one. It is not ours to delete: Applications of others may depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.cluster import kubectl

RBAC = "/apis/rbac.authorization.k8s.io/v1"
CONTROLLER = ("argocd", "argocd-application-controller")  # namespace, ServiceAccount


def almighty_bindings() -> Iterator[str]:
    """Yield the names of ClusterRoleBindings that grant the controller everything."""
    for binding in kubectl.items(f"{RBAC}/clusterrolebindings"):
        subjects = {(each.get("namespace"), each.get("name")) for each in binding.get("subjects") or ()}
        if CONTROLLER in subjects and _is_almighty(kubectl.get(f"{RBAC}/clusterroles/{binding['roleRef']['name']}")):
            yield str(binding["metadata"]["name"])


def advice() -> list[str]:
    """Return advice about these bindings, a line each; empty when there are none."""
    names = list(almighty_bindings())
    if not names:
        return []
    namespace, account = CONTROLLER
    return [
        f"Argo CD's controller may still do everything on this cluster, by ClusterRoleBinding {', '.join(names)}; "
        "the rights that Flywheel needs are there beside it. Where no Application of others needs it:",
        f"  kubectl delete clusterrolebinding {' '.join(names)} && "
        f"kubectl -n {namespace} rollout restart statefulset {account}",
    ]


def _is_almighty(role: Mapping[str, Any] | None) -> bool:
    return any(
        all("*" in (rule.get(field) or ()) for field in ("apiGroups", "resources", "verbs"))
        for rule in (role or {}).get("rules") or ()
    )
