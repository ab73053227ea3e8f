"""The client of the cluster's API in a Pod, where nobody answers."""

from pathlib import Path

import pytest

from runner.cluster.api import PODS, RUNS, Cluster
from runner.errors import ClusterError, UnreachableError
from tests.support.certificates import certificate
from tests.support.proxy import proxying


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a Pod finds of its ServiceAccount."""
    folder = tmp_path / "account"
    certificate(folder, "localhost")[0].rename(folder / "ca.crt")
    (folder / "token").write_text("token")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    return folder


def test_unreachable_is_said_when_nobody_answers_and_at_once_when_an_object_could_be_made_twice(account: Path) -> None:
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        Cluster(account, patience_s=0.05, pause_s=0.01).get(RUNS)
    with pytest.raises(UnreachableError):
        Cluster(account, patience_s=600).create(PODS, {"metadata": {"name": "p"}})


def test_no_proxy_is_asked_for_the_cluster_itself(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is a number, for which NO_PROXY of Python's client has no block."""
    with proxying(9) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(UnreachableError):
            Cluster(account, patience_s=0.05, pause_s=0.01).get(RUNS)
    assert proxy.asked == []


def test_refused_when_there_is_neither_account_nor_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="oc nor kubectl"):
        Cluster(tmp_path / "no account")
