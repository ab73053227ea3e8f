"""Facts of the cluster that the user is logged in to, for gitops/cluster/cluster.env and the patch of GPU nodes.

Facts with one possible value (domain, a worker's providerSpec, …) are overwritten. Choices (storage class, kind of GPU
nodes, which worker they are made as) keep the file's value while the cluster still offers it.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runner.cluster import facts as cluster_env
from runner.cluster import kubectl
from runner.cluster.facts import GIT_CIDRS, OWN_CA, PROXY_CIDRS, UNSET, UNUSED
from runner.cluster.git_addresses import PATH as ADDRESSES
from runner.cluster.git_addresses import addresses_text
from runner.cluster.gpu_nodes import MACHINE_TYPE, OURS, WORKER, fits, patch, standing, workers
from runner.errors import ClusterError
from runner.workspace import write_text

Values = Mapping[str, str]
INGRESS_CONTROLLERS = (
    "app.kubernetes.io/name in (ingress-nginx,nginx-ingress,traefik,haproxy-ingress,kubernetes-ingress,contour)"
)


class Fact(NamedTuple):
    """Value found for a key with its source, or no value with the reason and the remedy."""

    value: str | None
    why: str


def discover(project: Path, *, write: bool) -> str:
    """Return a report of the facts; with `write`, merge them into cluster.env and write the patch of GPU nodes first.

    ConfigError when cluster.env is invalid, or would become so; it stays unchanged.
    """
    path = project / cluster_env.PATH
    current = cluster_env.read(path)
    facts, machines, notes = find(current, project)
    found = {key: fact.value for key, fact in facts.items() if fact.value is not None}
    after = dict(current) | found
    lines = []
    for key in cluster_env.KEYS:
        fact, old, new = facts.get(key), current.get(key, UNSET), after.get(key, UNSET)
        if fact and fact.value is not None:
            was = "" if old in (new, UNSET) else f" (was {old})"
            lines.append(f"  {key}={new}{was}  # {fact.why}")
        elif new not in ("", UNSET):
            lines.append(f"  {key}={new}  # stays as it is" + (f": {fact.why}" if fact else ""))
    optional = cluster_env.LATER
    missing = [key for key in cluster_env.KEYS if after.get(key, "" if key in optional else UNSET) == UNSET]
    lines += [f"  {key}={UNSET}  # {facts[key].why if key in facts else 'yours to choose'}" for key in missing]
    if machines:
        same = machines == (project / WORKER).read_text(encoding="utf-8")
        lines.append(f"{WORKER}: " + ("nothing to change" if same else "written" if write else "would be written"))
    addresses = addresses_text(project, after) if UNSET not in (after.get(GIT_CIDRS), after.get(PROXY_CIDRS)) else ""
    has_others = bool(addresses) and addresses != (project / ADDRESSES).read_text(encoding="utf-8")
    if has_others:
        lines.append(f"{ADDRESSES}: {'written' if write else 'would be written'}")
    lines += [f"note: {note}" for note in notes]
    changed = {key: value for key, value in found.items() if current.get(key) != value}
    if write:
        done = cluster_env.merge(path, changed)
        if machines:
            write_text(project / WORKER, machines)
        if has_others:
            write_text(project / ADDRESSES, addresses)
        lines.insert(0, f"{cluster_env.PATH}: " + (f"{len(changed)} values written" if done else "nothing to change"))
    else:
        lines.insert(0, f"{cluster_env.PATH}: {len(changed)} values would change; --write writes them")
    if missing:
        lines.append(f"to be set by hand in {cluster_env.PATH}: {', '.join(missing)}")
    elif write:
        written = [cluster_env.PATH, *([WORKER] if machines else []), *([ADDRESSES] if has_others else [])]
        files = " and ".join(map(str, written))
        lines.append(f"complete: commit and push {files}, then `make bootstrap PLATFORM={after['PLATFORM']}`")
    return "\n".join(lines)


def find(current: Values, project: Path) -> tuple[dict[str, Fact], str, list[str]]:
    """Return the facts of the cluster, keyed as in cluster.env, the patch of GPU nodes, and notes on what remains open.

    The patch is empty where no GPU nodes come and go.
    """
    if kubectl.get("/version") is None:
        raise ClusterError("the server answers, but not as a Kubernetes cluster does; log in to the cluster first")
    notes: list[str] = []
    infrastructure = kubectl.get("/apis/config.openshift.io/v1/infrastructures/cluster")
    facts = {"STORAGE_CLASS": _storage_class(current), **_fork(current, project)}
    facts |= _openshift(notes) if infrastructure else _kubernetes(current)
    facts["GPU"], machines = _gpu(current, project, infrastructure or {}, notes)
    return facts, machines, notes


def _fork(current: Values, project: Path) -> dict[str, Fact]:
    facts = dict[str, Fact]()
    if current.get("PLATFORM_REVISION", UNSET) == UNSET:
        why = "a branch or tag that people review and no bot may push to: platform parts follow it"
        facts["PLATFORM_REVISION"] = Fact(None, why)
    if current.get("REPO_URL", UNSET) == UNSET:
        command = ["git", "remote", "get-url", "origin"]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        url = re.sub(r"^(https?://)[^/@]*@", r"\1", done.stdout.strip().rstrip("/"))  # never a user's token
        # Pods have no ssh key.
        url = re.sub(r"^(?:ssh://)?[\w-]+@([\w.-]+)(?::\d+/|[:/])", r"https://\1/", url)
        missing = Fact(None, "git has no remote origin that a cluster could read; the URL of this repository")
        is_url = re.fullmatch(cluster_env.KEYS["REPO_URL"][0], url)
        facts["REPO_URL"] = Fact(url, "git's remote origin") if is_url else missing
    return facts


def _storage_class(current: Values) -> Fact:
    classes = kubectl.items("/apis/storage.k8s.io/v1/storageclasses")
    # Of several defaults Kubernetes takes the newest.
    classes.sort(key=lambda item: str(item["metadata"].get("creationTimestamp", "")), reverse=True)
    preferred = _defaults(classes, "storageclass.kubernetes.io/is-default-class")
    return _choose(current.get("STORAGE_CLASS"), _names(classes), "the cluster's default StorageClass", preferred)


def _defaults(classes: Sequence[Mapping[str, Any]], annotation: str) -> list[str]:
    return [
        str(item["metadata"]["name"])
        for item in classes
        if (item["metadata"].get("annotations") or {}).get(annotation) == "true"
    ]


def _openshift(notes: list[str]) -> dict[str, Fact]:
    spec = (kubectl.get("/apis/config.openshift.io/v1/ingresses/cluster") or {}).get("spec") or {}
    domain = spec.get("appsDomain") or spec.get("domain")
    operator = "/apis/operator.openshift.io/v1/namespaces/openshift-ingress-operator"
    router = (kubectl.get(f"{operator}/ingresscontrollers/default") or {}).get("status") or {}
    on_host = (router.get("endpointPublishingStrategy") or {}).get("type") == "HostNetwork"
    monitoring = kubectl.get("/api/v1/namespaces/openshift-monitoring/configmaps/cluster-monitoring-config")
    settings = str(((monitoring or {}).get("data") or {}).get("config.yaml", ""))
    if not re.search(r"^enableUserWorkload:\s*true\s*(#.*)?$", settings, re.MULTILINE):
        notes.append(
            "monitoring of user workloads is off, so nothing of Flywheel is measured: see gitops/README.md, before"
        )
    version = kubectl.get("/apis/config.openshift.io/v1/clusterversions/version") or {}
    release = str(((version.get("status") or {}).get("desired") or {}).get("version", ""))
    if release.startswith("4.16."):
        notes.append(
            f"OpenShift {release}: for GPU nodes the line components/openshift-4.16 of "
            "gitops/operators/nfd/instance/kustomization.yaml must be no comment"
        )
    return {
        "PLATFORM": Fact("openshift", "the cluster has OpenShift's Infrastructure"),
        "APPS_DOMAIN": Fact(domain, "Ingress cluster") if domain else Fact(None, "Ingress cluster names no domain"),
        "INGRESS_NAMESPACE": Fact(
            "openshift-host-network" if on_host else "openshift-ingress",
            "the router's pods use the nodes' network" if on_host else "where the router's pods are",
        ),
        "MONITORING_NAMESPACE": Fact("openshift-user-workload-monitoring", "where OpenShift measures user workloads"),
        "INGRESS_CLASS": Fact(UNUSED, "OpenShift has Routes"),
        "CLUSTER_ISSUER": Fact(UNUSED, "OpenShift has Routes"),
        **_proxy(notes),
    }


def _proxy(notes: list[str]) -> dict[str, Fact]:
    """Return the cluster-wide proxy, where there is one and its URL has no password."""
    proxy = (kubectl.get("/apis/config.openshift.io/v1/proxies/cluster") or {}).get("spec") or {}
    if not (url := str(proxy.get("httpsProxy") or "")):
        return {}
    if "@" in url:
        notes.append("the cluster's proxy has a password, which must not be in Git: see docs/air-gap.md, Proxies")
        return {}
    found = {"HTTPS_PROXY": Fact(url.rstrip("/"), "the cluster's Proxy")}
    if direct := str(proxy.get("noProxy") or ""):
        found["NO_PROXY"] = Fact(direct, "the cluster's Proxy")
    if proxy.get("trustedCA", {}).get("name"):
        found["GIT_SSL_CAINFO"] = Fact(OWN_CA, "the cluster's Proxy names authorities of its own")
    return found


def _kubernetes(current: Values) -> dict[str, Fact]:
    classes = kubectl.items("/apis/networking.k8s.io/v1/ingressclasses")
    preferred = sorted(_defaults(classes, "ingressclass.kubernetes.io/is-default-class"))
    issuers = kubectl.items("/apis/cert-manager.io/v1/clusterissuers")
    deployments = kubectl.items("/apis/apps/v1/deployments", labels=INGRESS_CONTROLLERS)
    daemon_sets = kubectl.items("/apis/apps/v1/daemonsets", labels=INGRESS_CONTROLLERS)
    prometheuses = kubectl.items("/apis/monitoring.coreos.com/v1/prometheuses")
    options: dict[str, tuple[Any, ...]] = {
        "INGRESS_CLASS": (_names(classes), "the IngressClass", preferred),
        "CLUSTER_ISSUER": (_names(issuers), "cert-manager's ClusterIssuer"),
        "INGRESS_NAMESPACE": (_names(deployments + daemon_sets, "namespace"), "where the ingress controller is"),
        "MONITORING_NAMESPACE": (_names(prometheuses, "namespace"), "where Prometheus is"),
    }
    return {
        "PLATFORM": Fact("kubernetes", "the cluster has no OpenShift kinds"),
        "APPS_DOMAIN": Fact(
            None, "what the names of Ingresses end in, such as apps.example.com; DNS must know *.apps…"
        ),
        **{key: _choose(current.get(key), *option) for key, option in options.items()},
    }


def _gpu(current: Values, project: Path, infrastructure: Mapping[str, Any], notes: list[str]) -> tuple[Fact, str]:
    """Return the kind of GPU nodes, and the patch that makes them where they come and go."""
    status = infrastructure.get("status") or {}
    cloud = (status.get("platformStatus") or {}).get("type") or "no cloud"
    sets = workers(kubectl.items("/apis/machine.openshift.io/v1beta1/namespaces/openshift-machine-api/machinesets"))
    gpus = [node for node in kubectl.items("/api/v1/nodes") if _offers_gpu(node)]
    can_scale = bool(sets) and fits(project, sets[0])
    chosen = current.get("GPU")
    if chosen not in ("fixed", "none", "autoscaled" if sets else "fixed"):
        chosen = "fixed" if gpus else "autoscaled" if can_scale else "none"
    lacking = f"{MACHINE_TYPE} has no machine type of {cloud}" if sets else f"{cloud} without MachineSets makes none"
    why = {
        "autoscaled": f"{cloud}, with MachineSets that say what a node is made from",
        "fixed": f"{len(gpus)} nodes offer GPUs" if gpus else "as chosen, but no node offers a GPU now",
        "none": "as chosen" if can_scale or gpus else f"no node offers a GPU, and {lacking}",
    }[chosen]
    if chosen != "autoscaled":
        return Fact(chosen, why), ""
    copied = standing(project)
    worker = next((item for item in sets if item["metadata"]["name"] == copied), sets[0])
    name = worker["metadata"]["name"]
    if others := [item for item in _names(sets) if item != name]:
        notes.append(
            f"GPU nodes are made as those of MachineSet {name}; to take another zone, name one of {', '.join(others)} "
            f"in {WORKER} and run this again"
        )
    if not can_scale:
        notes.append(f"{lacking}: its comments say what to write there")
    return Fact(chosen, why), patch(project, worker, str(status.get("infrastructureName") or ""))


def _offers_gpu(node: Mapping[str, Any]) -> bool:
    """Whether a permanent node has GPUs; nodes of our own MachineSet come and go."""
    machine = str((node["metadata"].get("annotations") or {}).get("machine.openshift.io/machine", ""))
    capacity = (node.get("status") or {}).get("capacity") or {}
    return capacity.get("nvidia.com/gpu", "0") != "0" and f"/{OURS}-" not in machine


def _choose(standing: str | None, names: Sequence[str], why: str, preferred: Sequence[str] = ()) -> Fact:
    """Keep the file's value while the cluster offers it; else take the preferred one, or the only one."""
    best = [*preferred[:1], *(names if len(names) == 1 else ())][:1]
    if standing in names:
        return Fact(standing, why if [standing] == best else "as chosen")
    if best:
        return Fact(best[0], why)
    if names:
        return Fact(None, f"{why}: the cluster has {', '.join(names)}, and none is the default; choose one")
    return Fact(None, f"{why}: the cluster has none yet")


def _names(objects: Sequence[Mapping[str, Any]], field: str = "name") -> list[str]:
    return sorted({str(item["metadata"][field]) for item in objects})
