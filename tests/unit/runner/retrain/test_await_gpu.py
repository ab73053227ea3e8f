"""Where to train, as far as no cluster is asked."""

import pytest

from runner.cluster.api import Cluster
from runner.errors import ClusterError, ConfigError
from runner.retrain.await_gpu import Device, await_gpu


class Unasked(Cluster):
    """A cluster whose API nobody asks: it would fail."""

    def __init__(self) -> None:
        pass


def wait(mode: str, kind: str) -> Device:
    return await_gpu(Unasked(), "retrain-abc", mode=mode, kind=kind, timeout_s=0.1)


@pytest.mark.parametrize(("mode", "kind"), [("off", "autoscaled"), ("auto", "none")])
def test_the_cpu_is_no_fallback_when_it_was_chosen(mode: str, kind: str) -> None:
    assert wait(mode, kind) == Device("cpu", is_fallback=False)


def test_refused_when_a_gpu_is_required_where_there_is_none() -> None:
    with pytest.raises(ClusterError, match=r"cluster\.env says GPU=none"):
        wait("require", "none")


def test_refused_when_the_mode_is_another() -> None:
    with pytest.raises(ConfigError, match="gpu: found 'yes', expected one of auto, require, off"):
        wait("yes", "autoscaled")
