"""Rollout of an environment's Deployment: it has the model that the pin in Git names, and every pod is ready."""

from runner.cluster import kubectl
from runner.cluster.waiting import Say, wait_until

NAME = "model"


def await_served(environment: str, uri: str, say: Say, *, patience_s: float, pause_s: float) -> None:
    """Wait until all pods of an environment serve the manifest at `uri`; ClusterError when that takes too long."""
    namespace = f"flywheel-{environment}"
    remedy = (
        f"look at Argo CD's Application serving-{environment} and at the pods "
        f"(kubectl -n {namespace} get pods; kubectl -n {namespace} logs deployment/{NAME})"
    )
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{NAME}"

    def missing() -> str:
        deployment = kubectl.get(path)
        if deployment is None:
            return f"Deployment {NAME} in {namespace}, which Argo CD applies"
        if (deployment["metadata"].get("annotations") or {}).get("flywheel/model") != uri:
            return f"{uri} in {namespace}, which Argo CD reads from Git within minutes"
        # The conditions of `kubectl rollout status`: generation observed, every pod updated, all ready.
        wanted, status = int(deployment["spec"].get("replicas", 1)), deployment.get("status") or {}
        is_seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        counts = [status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")]
        if is_seen and counts == [wanted] * 3:
            return ""
        return f"the pods of {namespace}: {counts[2] if is_seen else 0} of {wanted} serve {uri}"

    wait_until(missing, say, remedy=remedy, patience_s=patience_s, pause_s=pause_s)
