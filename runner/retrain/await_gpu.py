"""Wait for a GPU with a probe Pod that requests one; meanwhile the autoscaler adds a node and the image is pulled.

The Pod comes from the PodTemplate `gpu-probe`. Time while another of our runs holds a GPU does not count. A trial lets
a run of a commit go first.
"""

import re
import time
from contextlib import suppress
from typing import NamedTuple

from runner.cluster.api import POD_TEMPLATES, PODS, Cluster, QuotaError
from runner.cluster.kubectl import MissingError, Object
from runner.cluster.runs import begun, has_ended, is_trial, name_of, runs
from runner.cluster.waiting import say
from runner.errors import ClusterError, ConfigError, UnreachableError

PROBE = "gpu-probe"
GPU = "nvidia.com/gpu"
TRAINED = {"train-gpu", "train-cpu", "gate", "summary"}  # after any of these a run waits for no GPU
MODES = ("auto", "require", "off")


class Device(NamedTuple):
    """Training device, `gpu` or `cpu`; `is_fallback` when a GPU was wanted but none came."""

    name: str
    is_fallback: bool = False


def await_gpu(cluster: Cluster, run: str, *, mode: str, kind: str, timeout_s: float, pause_s: float = 5) -> Device:
    """Return the training device, after waiting for a GPU where one may come.

    `mode` is auto (a GPU, else the CPU), require (fail without one) or off; `kind` is GPU of cluster.env: autoscaled,
    fixed or none. ClusterError: the API refuses, or a GPU is required and none came.
    """
    if mode not in MODES:
        raise ConfigError(f"gpu: found {mode!r}, expected one of {', '.join(MODES)}")
    if mode == "require" and kind == "none":
        raise ClusterError("gpu is `require`, but cluster.env says GPU=none; use `auto` or `off`")
    if mode == "off" or kind == "none":
        say(f"training on the CPU: {'gpu is `off`' if mode == 'off' else 'cluster.env says GPU=none'}")
        return Device("cpu")
    name = f"{PROBE}-{run}"[:63].rstrip("-.")
    probe = cluster.get(f"{POD_TEMPLATES}/{PROBE}")["template"]
    probe = {"apiVersion": "v1", "kind": "Pod", **probe, "metadata": {**probe["metadata"], "name": name}}
    cluster.delete(f"{PODS}/{name}")  # left by an earlier try
    try:
        with suppress(QuotaError, UnreachableError):  # _wait creates it then
            cluster.create(PODS, probe)
        came = _wait(cluster, probe, run, timeout_s=timeout_s, pause_s=pause_s)
    finally:
        cluster.delete(f"{PODS}/{name}")
    if not came and mode == "require":
        raise ClusterError(
            f"no GPU within {timeout_s:.0f} s, and gpu is `require`; look at the events of the MachineSet"
        )
    return Device("gpu") if came else Device("cpu", is_fallback=True)


def _wait(cluster: Cluster, probe: Object, run: str, *, timeout_s: float, pause_s: float) -> bool:
    """Whether the probe ran within the timeout; the time while another Pod holds the GPU does not count.

    Nor does the time while a run of a commit waits for one, if `run` is a trial: it asks for none meanwhile.
    """
    waited, since, told = 0.0, time.monotonic(), ""
    while True:
        try:
            if holder := _ahead(cluster, run):
                cluster.delete(f"{PODS}/{probe['metadata']['name']}")
                why = f"{holder} is of a commit and goes first"
            else:
                pod = _pod(cluster, probe)
                if pod.get("status", {}).get("phase") in ("Running", "Succeeded"):
                    say(f"a GPU came after {waited:.0f} s, on node {pod['spec'].get('nodeName', '-')}")
                    return True
                holder = _holder(cluster, probe["metadata"]["name"])
                why = f"{holder} holds the GPU" if holder else _why(pod)
        except QuotaError as error:  # exceeded quota: gpu, requested: …=1, used: requests.nvidia.com/gpu=1, limited: …
            why = str(error)
            is_used = re.search(rf"used: [^:]*{re.escape(GPU)}=[1-9]", why)  # so one will become free
            holder = why if is_used else ""
        except ClusterError as error:  # during long waits API servers are replaced, and nodes removed with their Pods
            holder, why = "", str(error)
        now = time.monotonic()
        waited, since = waited + (0 if holder else now - since), now
        if why != told:
            say(f"waiting: {why}")
            told = why
        if waited >= timeout_s:
            say(f"no GPU after {waited:.0f} s: {why}")
            return False
        time.sleep(min(pause_s, timeout_s - waited))


def _ahead(cluster: Cluster, run: str) -> str:
    """Return the run of a commit that waits for a GPU, if `run` is a trial; else an empty text."""
    known = [each for each in runs(cluster) if not has_ended(each)]
    if not any(name_of(each) == run and is_trial(each) for each in known):
        return ""
    waiting = (
        each for each in known if not is_trial(each) and "await-gpu" in begun(each) and not TRAINED & begun(each)
    )
    return next(map(name_of, waiting), "")


def _pod(cluster: Cluster, probe: Object) -> Object:
    """Return the probe's Pod; recreate it when it failed or was removed with its node."""
    path = f"{PODS}/{probe['metadata']['name']}"
    try:
        pod = cluster.get(path)
    except MissingError:
        return cluster.create(PODS, probe)
    if pod.get("status", {}).get("phase") == "Failed":
        say(f"the Pod that asks for a GPU failed ({pod['status'].get('reason') or _why(pod)}): again")
        cluster.delete(path)
    return pod


def _holder(cluster: Cluster, name: str) -> str:
    """Return the Pod of another run that holds a GPU; empty when none does."""
    for pod in cluster.get(PODS, fieldSelector="status.phase=Running")["items"]:
        wants = any(GPU in each.get("resources", {}).get("limits", {}) for each in pod["spec"]["containers"])
        if wants and pod["metadata"]["name"] != name:
            return str(pod["metadata"]["name"])
    return ""


def _why(pod: Object) -> str:
    """Return the scheduler's or the kubelet's message about a Pod that does not run."""
    status = pod.get("status", {})
    reasons = [each.get("message", "") for each in status.get("conditions", []) if each.get("status") == "False"]
    states = [each.get("state", {}).get("waiting", {}) for each in status.get("containerStatuses", [])]
    reasons += [" ".join(filter(None, (each.get("reason"), each.get("message")))) for each in states]
    return next(filter(None, reasons), "not scheduled yet")
