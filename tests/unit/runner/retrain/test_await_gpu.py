"""Where to train, as far as no cluster is asked."""

import pytest

from runner.cluster.api import Cluster
from runner.errors import ClusterError, ConfigError
from runner.retrain.await_gpu import Device, await_gpu


def wait(mode: str, kind: str) -> Device:
    """Call with a cluster that fails when it is asked."""
    return await_gpu(Cluster.__new__(Cluster), "retrain-abc", mode=mode, kind=kind, timeout_s=0.1)


@pytest.mark.parametrize(("mode", "kind"), [("off", "autoscaled"), ("auto", "none")])
def test_the_cpu_is_no_fallback_when_it_was_chosen(mode: str, kind: str) -> None:
    assert wait(mode, kind) == Device("cpu", is_fallback=False)


@pytest.mark.parametrize(
    ("mode", "kind", "error", "said"),
    [("require", "none", ClusterError, "GPU=none"), ("yes", "autoscaled", ConfigError, "gpu: found 'yes'")],
)
def test_refused_when_the_mode_is_another_or_impossible(
    mode: str, kind: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        wait(mode, kind)
