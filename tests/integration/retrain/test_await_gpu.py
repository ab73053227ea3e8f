"""Waiting for a GPU, with Pods and quotas of Kubernetes' own API server; the test writes what a scheduler would."""

import time
from typing import Any

import pytest

from runner.cluster.waiting import seconds
from runner.errors import ClusterError
from runner.retrain.await_gpu import Device, await_gpu
from tests.integration.retrain.conftest import Login, Namespace, path
from tests.support.processes import meanwhile, until

PROBE = "gpu-probe-retrain-abc"
GPU = "nvidia.com/gpu"
NO_NODE = {"type": "PodScheduled", "status": "False", "message": f"0/3 nodes are available: 3 Insufficient {GPU}."}
NO_IMAGE = {"name": "it", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
NO_IMAGE |= {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}


def wait(login: Login, mode: str = "auto", timeout: float = 60) -> Device:
    return await_gpu(login("supervisor"), "retrain-abc", mode=mode, kind="autoscaled", timeout_s=timeout, pause_s=0.1)


def a_pod(name: str, **limits: str) -> dict[str, Any]:
    container = {"name": "it", "image": "none", "resources": {"limits": limits}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}


def probe(namespace: Namespace, but: str = "", *, name: str = PROBE) -> str:
    """Wait until the Pod that asks for a GPU is there, another than `but`; return its uid."""

    def found() -> list[str]:
        pods = [each["metadata"] for each in namespace.list("pods")]
        return [str(each["uid"]) for each in pods if each["name"] == name and each["uid"] != but]

    return until(found)[0]


def let_run(namespace: Namespace, name: str = PROBE) -> None:
    target = {"apiVersion": "v1", "kind": "Node", "name": "gpu-node"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    namespace.server.ask("POST", f"{path('pods')}/{name}/binding", binding)
    namespace.set_status("pods", name, {"phase": "Running"})


def test_the_probe_goes_when_a_gpu_came(namespace: Namespace, login: Login, capsys: pytest.CaptureFixture[str]) -> None:
    def come() -> None:
        probe(namespace)
        for status in ({"conditions": [NO_NODE]}, {"conditions": [], "containerStatuses": [NO_IMAGE]}):
            namespace.set_status("pods", PROBE, status)
            time.sleep(0.5)
        let_run(namespace)

    with meanwhile(come):
        assert wait(login) == Device("gpu")
    assert namespace.list("pods") == []
    said = capsys.readouterr().out
    assert [part for part in (NO_NODE["message"], "ErrImagePull no such image", "gpu-node") if part not in said] == []


@pytest.mark.parametrize("timeout", ["0h", "1s"])
@pytest.mark.parametrize("hard", [None, "0"], ids=["no quota", "a quota that lets no GPU be had"])
def test_the_cpu_is_used_when_no_gpu_came(namespace: Namespace, login: Login, timeout: str, hard: str | None) -> None:
    if hard is not None:
        quota(namespace, hard=hard, used="0")
        time.sleep(1)  # until admission knows it
    assert wait(login, timeout=seconds(timeout, "gpu-timeout")) == Device("cpu", is_fallback=True)
    assert namespace.list("pods") == []


def test_refused_when_a_gpu_is_required_and_none_came(namespace: Namespace, login: Login) -> None:
    with pytest.raises(ClusterError, match="no GPU within 0 s"):
        wait(login, "require", timeout=0.3)
    assert namespace.list("pods") == []


def test_the_time_does_not_count_when_another_run_holds_the_gpu(namespace: Namespace, login: Login) -> None:
    namespace.create("pods", a_pod("of-another-run", **{GPU: "1"}))
    let_run(namespace, "of-another-run")

    def end() -> None:
        probe(namespace)
        time.sleep(3)  # longer than is waited
        let_run(namespace)  # first, so that no look falls between the two
        namespace.delete("pods", "of-another-run")

    with meanwhile(end):
        assert wait(login, timeout=1.5) == Device("gpu")


def quota(namespace: Namespace, hard: str, used: str) -> None:
    """Let the namespace have so many GPUs, of which so many are in use, as the quota's controller says."""
    amounts = {f"requests.{GPU}": hard}
    if "gpu" not in namespace.names("resourcequotas"):
        namespace.create("resourcequotas", {"metadata": {"name": "gpu"}, "spec": {"hard": amounts}})
    namespace.set_status("resourcequotas", "gpu", {"hard": amounts, "used": {f"requests.{GPU}": used}})


def test_the_time_does_not_count_when_the_quota_says_that_another_run_holds_the_gpu(
    namespace: Namespace, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    quota(namespace, hard="1", used="1")
    time.sleep(1)

    def end() -> None:
        time.sleep(3)
        quota(namespace, hard="1", used="0")
        probe(namespace)
        let_run(namespace)

    with meanwhile(end):
        assert wait(login, timeout=2) == Device("gpu")
    assert "exceeded quota: gpu" in capsys.readouterr().out


def test_refused_at_once_when_the_account_may_not_ask_for_a_gpu(login: Login) -> None:
    with pytest.raises(ClusterError, match="403"):
        await_gpu(login("trainer"), "retrain-abc", mode="auto", kind="fixed", timeout_s=60, pause_s=1)


def test_it_is_asked_for_again_when_a_probe_is_left_or_fails_or_is_gone(
    namespace: Namespace, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace.create("pods", a_pod(PROBE))  # of an earlier try
    former = probe(namespace)

    def come() -> None:
        first = probe(namespace, but=former)
        namespace.set_status("pods", PROBE, {"phase": "Failed", "reason": "Evicted"})
        second = probe(namespace, but=first)
        namespace.delete("pods", PROBE)
        probe(namespace, but=second)
        let_run(namespace)

    with meanwhile(come):
        assert wait(login) == Device("gpu")
    assert "Evicted" in capsys.readouterr().out
