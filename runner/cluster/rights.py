"""cluster-admin bindings of an Argo CD controller that people installed themselves.

Upstream's manifests create one. It is not ours to delete: Applications of others may depend on it.
"""

from runner.cluster import kubectl

RBAC = "/apis/rbac.authorization.k8s.io/v1"
CONTROLLER = ("argocd", "argocd-application-controller")  # namespace, ServiceAccount


def advice() -> list[str]:
    """Return the lines of advice about ClusterRoleBindings that grant the controller everything; empty for none."""
    namespace, account = CONTROLLER
    names = [
        str(binding["metadata"]["name"])
        for binding in kubectl.items(f"{RBAC}/clusterrolebindings")
        if any((each.get("namespace"), each.get("name")) == CONTROLLER for each in binding.get("subjects") or ())
        and _grants_everything(binding["roleRef"]["name"])
    ]
    if not names:
        return []
    return [
        f"ClusterRoleBinding {', '.join(names)} still lets Argo CD's controller do everything on this cluster; the "
        "rights that Flywheel needs are applied beside it. Where no Application of others needs it, remove it:",
        f"  kubectl delete clusterrolebinding {' '.join(names)} && "
        f"kubectl -n {namespace} rollout restart statefulset {account}",
    ]


def _grants_everything(role: str) -> bool:
    rules = (kubectl.get(f"{RBAC}/clusterroles/{role}") or {}).get("rules") or ()
    return any(all("*" in (rule.get(field) or ()) for field in ("apiGroups", "resources", "verbs")) for rule in rules)
