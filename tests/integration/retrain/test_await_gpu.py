"""Waiting for a GPU, with Pods and quotas of Kubernetes' own API server; the test writes what a scheduler would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from runner.errors import ClusterError
from runner.retrain.await_gpu import Device, await_gpu
from tests.integration.retrain.conftest import Login, Namespace

PROBE = "gpu-probe-retrain-abc"
GPU = "nvidia.com/gpu"
NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "message": f"0/3 nodes are available: 3 Insufficient {GPU}.",
}


def wait(login: Login, mode: str = "auto", timeout: float = 60) -> Device:
    return await_gpu(login("supervisor"), "retrain-abc", mode=mode, kind="autoscaled", timeout=timeout, poll=0.1)


def a_pod(name: str, **limits: str) -> dict[str, Any]:
    container = {"name": "it", "image": "none", "resources": {"limits": limits}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}


def probe(namespace: Namespace, but: str = "") -> str:
    """Wait until the Pod that asks for a GPU is there, another than `but`; return its uid."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for pod in namespace.list("pods"):
            uid = str(pod["metadata"]["uid"])
            if pod["metadata"]["name"] == PROBE and uid != but:
                return uid
        time.sleep(0.1)
    raise AssertionError("no probe")


def let_run(namespace: Namespace, name: str = PROBE) -> None:
    """Give a Pod a node, and let it run there."""
    path = f"/api/v1/namespaces/flywheel-pipelines/pods/{name}/binding"
    target = {"apiVersion": "v1", "kind": "Node", "name": "gpu-node"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    namespace.kubectl("create", f"--raw={path}", "--filename=-", stdin=binding)
    namespace.set_status("pod", name, {"phase": "Running"})


@contextmanager
def meanwhile(do: Callable[[], None]) -> Iterator[None]:
    """Do something else until the block ends; what fails there fails here."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(do)
        yield
        done.result()


def test_the_probe_is_removed_when_the_gpu_came(
    namespace: Namespace, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    def come() -> None:
        probe(namespace)
        namespace.set_status("pod", PROBE, {"conditions": [NO_NODE]})
        time.sleep(1)
        let_run(namespace)

    with meanwhile(come):
        assert wait(login) == Device("gpu")
    assert namespace.list("pods") == []
    said = capsys.readouterr().out
    assert f"waiting: {NO_NODE['message']}" in said
    assert "on node gpu-node" in said


def test_the_cpu_is_a_fallback_when_no_gpu_came(namespace: Namespace, login: Login) -> None:
    assert wait(login, timeout=0.3) == Device("cpu", is_fallback=True)
    assert namespace.list("pods") == []


def test_refused_when_a_gpu_is_required_and_none_came(namespace: Namespace, login: Login) -> None:
    with pytest.raises(ClusterError, match="no GPU within 0 s, and gpu is `require`"):
        wait(login, "require", timeout=0.3)
    assert namespace.list("pods") == []


def test_the_time_does_not_count_when_another_run_holds_the_gpu(namespace: Namespace, login: Login) -> None:
    namespace.create(a_pod("of-another-run", **{GPU: "1"}))
    let_run(namespace, "of-another-run")

    def end() -> None:
        probe(namespace)
        time.sleep(3)  # longer than is waited
        let_run(namespace)  # first, so that no look falls between the two
        namespace.delete("pod", "of-another-run")

    with meanwhile(end):
        assert wait(login, timeout=1.5) == Device("gpu")


def quota(namespace: Namespace, hard: str, used: str) -> None:
    """Let the namespace have so many GPUs, of which so many are in use, as the quota's controller says."""
    key = f"requests.{GPU}"
    content = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpu"}, "spec": {"hard": {key: hard}}}
    namespace.kubectl("apply", "--namespace=flywheel-pipelines", "--filename=-", stdin=content)
    namespace.set_status("resourcequota", "gpu", {"hard": {key: hard}, "used": {key: used}})


def test_the_time_does_not_count_when_the_quota_says_that_another_run_holds_the_gpu(
    namespace: Namespace, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    quota(namespace, hard="1", used="1")
    time.sleep(1)  # until admission knows it

    def end() -> None:
        time.sleep(3)
        quota(namespace, hard="1", used="0")
        probe(namespace)
        let_run(namespace)

    with meanwhile(end):
        assert wait(login, timeout=2) == Device("gpu")
    assert "exceeded quota: gpu" in capsys.readouterr().out


def test_the_cpu_is_a_fallback_when_the_quota_never_lets_a_gpu_be_had(namespace: Namespace, login: Login) -> None:
    quota(namespace, hard="0", used="0")
    time.sleep(1)
    assert wait(login, timeout=0.3) == Device("cpu", is_fallback=True)
    assert namespace.list("pods") == []


def test_refused_at_once_when_the_account_may_not_ask_for_a_gpu(login: Login) -> None:
    with pytest.raises(ClusterError, match="403"):
        await_gpu(login("trainer"), "retrain-abc", mode="auto", kind="fixed", timeout=60, poll=1)


def test_a_probe_of_a_try_before_is_replaced_when_it_is_still_there(namespace: Namespace, login: Login) -> None:
    namespace.create(a_pod(PROBE))
    former = probe(namespace)

    def come() -> None:
        probe(namespace, but=former)
        let_run(namespace)

    with meanwhile(come):
        assert wait(login) == Device("gpu")


def test_it_is_asked_for_again_when_the_probe_failed_or_is_gone(
    namespace: Namespace, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    def come() -> None:
        first = probe(namespace)
        namespace.set_status("pod", PROBE, {"phase": "Failed", "reason": "Evicted"})
        second = probe(namespace, but=first)
        namespace.delete("pod", PROBE)
        probe(namespace, but=second)
        let_run(namespace)

    with meanwhile(come):
        assert wait(login) == Device("gpu")
    assert "the Pod that asks for a GPU failed (Evicted): again" in capsys.readouterr().out
