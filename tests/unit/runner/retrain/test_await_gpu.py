"""Waiting for a GPU, on a server that behaves like the scheduler of a cluster with some, or none."""

import time

import pytest

from runner.errors import ClusterError, ConfigError
from runner.retrain.await_gpu import Device, await_gpu, seconds
from runner.retrain.kubernetes import Cluster, Object, QuotaError
from tests.retrain.kubernetes import Api
from tests.unit.runner.retrain.conftest import Login

HOLDER = {
    "metadata": {"name": "retrain-old-train-gpu-pod"},
    "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
}


def wait(login: Login, mode: str = "auto", kind: str = "autoscaled", timeout: float = 0.2) -> Device:
    return await_gpu(login("supervisor"), "retrain-abc", mode=mode, kind=kind, timeout=timeout, poll=0.02)


@pytest.mark.parametrize(("mode", "kind"), [("off", "autoscaled"), ("auto", "none")])
def test_the_cpu_is_no_fallback_when_it_was_chosen(api: Api, login: Login, mode: str, kind: str) -> None:
    assert wait(login, mode, kind) == Device("cpu", is_fallback=False)
    assert api.calls == []


def test_the_probe_is_removed_when_the_gpu_came(api: Api, login: Login, capsys: pytest.CaptureFixture[str]) -> None:
    api.gpus, api.gpu_after = 1, 0.1
    assert wait(login, timeout=10) == Device("gpu")
    assert api.list("pods") == []
    said = capsys.readouterr().out
    assert "waiting: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu." in said
    assert "on node gpu-node" in said
    made = [name for account, verb, resource, name in api.calls if verb == "delete"]
    assert set(made) == {"gpu-probe-retrain-abc"}


def test_the_cpu_is_a_fallback_when_no_gpu_came(api: Api, login: Login) -> None:
    assert wait(login) == Device("cpu", is_fallback=True)
    assert api.list("pods") == []


def test_refused_when_a_gpu_is_required_and_none_came(api: Api, login: Login) -> None:
    with pytest.raises(ClusterError, match="no GPU within 0 s, and gpu is `require`"):
        wait(login, "require")
    assert api.list("pods") == []
    with pytest.raises(ClusterError, match=r"cluster\.env says GPU=none"):
        wait(login, "require", "none")


def test_the_time_does_not_count_when_another_run_holds_the_gpu(api: Api, login: Login) -> None:
    api.gpus = 1
    api.create("pods", dict(HOLDER))
    api.run_gpu_pods()
    looks = 0
    original = api.run_gpu_pods

    def count() -> None:
        nonlocal looks
        looks += 1
        if looks == 60:  # long after the time-out
            del api.objects["pods", "retrain-old-train-gpu-pod"]
        original()

    api.run_gpu_pods = count  # type: ignore[method-assign]
    assert wait(login, timeout=0.1) == Device("gpu")


QUOTA = 'pods "gpu-probe" is forbidden: exceeded quota: gpu, requested: {0}=1, used: {0}={1}, limited: {0}={2}'


def test_the_time_does_not_count_when_the_quota_says_that_another_run_holds_the_gpu(
    api: Api, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.gpus = 1
    begin = time.monotonic()
    original = Cluster.create

    def create(self: Cluster, path: str, content: Object) -> Object:
        if time.monotonic() < begin + 1.5:  # after the time-out
            raise QuotaError(QUOTA.format("requests.nvidia.com/gpu", 1, 1))
        return original(self, path, content)

    monkeypatch.setattr(Cluster, "create", create)
    assert wait(login, timeout=1) == Device("gpu")


def test_the_cpu_is_a_fallback_when_the_quota_never_lets_a_gpu_be_had(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(*_: object) -> Object:
        raise QuotaError(QUOTA.format("requests.nvidia.com/gpu", 0, 0))

    monkeypatch.setattr(Cluster, "create", create)
    assert wait(login, timeout=0.05) == Device("cpu", is_fallback=True)


def test_refused_at_once_when_the_account_may_not_ask_for_a_gpu(api: Api, login: Login) -> None:
    with pytest.raises(ClusterError, match="403"):
        await_gpu(login("trainer"), "retrain-abc", mode="auto", kind="fixed", timeout=60, poll=1)


def test_a_probe_of_a_try_before_is_replaced_when_it_is_still_there(api: Api, login: Login) -> None:
    api.gpus = 1
    api.create("pods", {"metadata": {"name": "gpu-probe-retrain-abc"}, "spec": {"containers": []}})
    assert wait(login) == Device("gpu")


def test_it_is_asked_for_again_when_the_probe_failed_or_is_gone(
    api: Api, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    api.gpus = 1
    probe, original, looks = ("pods", "gpu-probe-retrain-abc"), api.run_gpu_pods, iter(("fails", "", "goes"))

    def run() -> None:
        match probe in api.objects and next(looks, "runs"):
            case "fails":
                api.objects[probe]["status"] = {"phase": "Failed", "reason": "Evicted"}
            case "goes":
                del api.objects[probe]
            case "runs":
                original()

    api.run_gpu_pods = run  # type: ignore[method-assign]
    assert wait(login, timeout=10) == Device("gpu")
    assert "the Pod that asks for a GPU failed (Evicted): again" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "expected"), [("20m", 1200), ("1h30m", 5400), ("45s", 45), ("0s", 0)])
def test_a_duration_is_read_when_it_is_one(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "20", "m", "20 m", "1d", "-5m"])
def test_refused_when_it_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a duration such as 20m"):
        seconds(text)


def test_refused_when_the_mode_is_another(login: Login) -> None:
    with pytest.raises(ConfigError, match="gpu: found 'yes', expected one of auto, require, off"):
        wait(login, "yes")
