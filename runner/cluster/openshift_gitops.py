"""OpenShift GitOps that others installed: check that it is usable, and give the command that makes it so.

A second OperatorGroup or Subscription of an operator breaks both, so nothing of ours is applied beside an existing one.
"""

import json
import re
from pathlib import Path

import yaml

from runner.cluster import kubectl
from runner.cluster.installation import is_ours
from runner.cluster.kubectl import Object
from runner.errors import ClusterError, ConfigError

PACKAGE = "openshift-gitops-operator"
NAMESPACE = "flywheel-gitops"
VARIABLE = "ARGOCD_CLUSTER_CONFIG_NAMESPACES"
DEFAULT = "openshift-gitops"  # the operator's value when the variable is not set
OLDEST = (1, 20)  # Argo CD 3.2: it retries with newer commits
PARTS = Path("gitops/argocd/overlays/openshift/kustomization.yaml")
LINE = "gitops-operator.yaml"


def others_subscription() -> Object | None:
    """Return the operator's Subscription that somebody else made, in any namespace; None when there is none."""
    there = kubectl.items("/apis/operators.coreos.com/v1alpha1/subscriptions")
    return next((each for each in there if (each.get("spec") or {}).get("name") == PACKAGE and not is_ours(each)), None)


def require_usable(project: Path, subscription: Object) -> None:
    """Refuse an installed operator that does not fit the manifests.

    ConfigError when gitops/ would install it a second time; ClusterError, with the command for its administrator, when
    it is too old or keeps our Argo CD to its own namespace.
    """
    meta = subscription["metadata"]
    where = f"Subscription {meta['name']} in {meta['namespace']}, which is not ours"
    if LINE in yaml.safe_load((project / PARTS).read_text(encoding="utf-8"))["resources"]:
        raise ConfigError(
            f"{PARTS}: remove the line {LINE}, as OpenShift GitOps is installed already ({where}); "
            "commit and push it, then run this again"
        )
    installed = str((subscription.get("status") or {}).get("installedCSV") or "none yet")
    version = re.search(r"\.v(\d+)\.(\d+)", installed)
    if not version or (int(version[1]), int(version[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ClusterError(f"{where}: installed is {installed}, and {oldest} or later is needed; ask its administrator")
    if NAMESPACE not in _namespaces(subscription):
        raise ClusterError(
            f"{where}, keeps an Argo CD in {NAMESPACE} to that namespace; its administrator adds it with\n"
            f"  {adding(subscription)}\nthen run this again"
        )


def adding(subscription: Object) -> str:
    """Return the command that lets an Argo CD in our namespace manage the cluster and keeps the other variables."""
    meta = subscription["metadata"]
    kept = [each for each in _environment(subscription) if each["name"] != VARIABLE]
    namespaces = ",".join([*_namespaces(subscription), NAMESPACE])
    patch = {"spec": {"config": {"env": [*kept, {"name": VARIABLE, "value": namespaces}]}}}
    return f"oc -n {meta['namespace']} patch subscription {meta['name']} --type=merge -p '{json.dumps(patch)}'"


def _environment(subscription: Object) -> list[Object]:
    return list(((subscription.get("spec") or {}).get("config") or {}).get("env") or [])


def _namespaces(subscription: Object) -> list[str]:
    """Return the namespaces whose Argo CD may manage the cluster."""
    values = (str(each.get("value", "")) for each in _environment(subscription) if each["name"] == VARIABLE)
    return [name.strip() for name in next(values, DEFAULT).split(",") if name.strip()]
