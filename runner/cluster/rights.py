"""cluster-admin bindings of an Argo CD controller that people installed themselves.

Upstream's manifests create one. It is not ours to delete: Applications of others may depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.cluster import kubectl

RBAC = "/apis/rbac.authorization.k8s.io/v1"
CONTROLLER = ("argocd", "argocd-application-controller")  # namespace, ServiceAccount


def cluster_admin_bindings() -> Iterator[str]:
    """Yield the names of ClusterRoleBindings that grant the controller everything."""
    for binding in kubectl.items(f"{RBAC}/clusterrolebindings"):
        subjects = {(each.get("namespace"), each.get("name")) for each in binding.get("subjects") or ()}
        if CONTROLLER in subjects and _grants_everything(
            kubectl.get(f"{RBAC}/clusterroles/{binding['roleRef']['name']}")
        ):
            yield str(binding["metadata"]["name"])


def advice() -> list[str]:
    """Return advice about these bindings, a line each; empty when there are none."""
    names = list(cluster_admin_bindings())
    if not names:
        return []
    namespace, account = CONTROLLER
    return [
        f"ClusterRoleBinding {', '.join(names)} still lets Argo CD's controller do everything on this cluster; the "
        "rights that Flywheel needs are applied beside it. Where no Application of others needs it, remove it:",
        f"  kubectl delete clusterrolebinding {' '.join(names)} && "
        f"kubectl -n {namespace} rollout restart statefulset {account}",
    ]


def _grants_everything(role: Mapping[str, Any] | None) -> bool:
    return any(
        all("*" in (rule.get(field) or ()) for field in ("apiGroups", "resources", "verbs"))
        for rule in (role or {}).get("rules") or ()
    )
