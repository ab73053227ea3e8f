from pathlib import Path
from typing import Any

import pytest
from urllib3 import HTTPResponse, PoolManager
from urllib3.exceptions import TimeoutError as NoAnswerError

from runner.cluster.api import POD_TEMPLATES, PODS, RUNS, TASK_RUNS, Cluster
from runner.cluster.kubectl import MissingError
from runner.errors import ClusterError, UnreachableError
from tests.integration.retrain.conftest import Login, Namespace
from tests.support.certificates import certificate

POD = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "it", "image": "none"}]}}
RUN: dict[str, Any] = {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "spec": {}}
RUN |= {"metadata": {"name": "a", "labels": {"flywheel/pipeline": "retrain"}}}


def test_objects_are_made_found_changed_and_removed_when_allowed(namespace: Namespace, login: Login) -> None:
    cluster = login("supervisor")
    assert cluster.get(RUNS)["items"] == cluster.get(TASK_RUNS)["items"] == []
    namespace.create("pipelineruns", RUN)
    for label, found in (("retrain", ["a"]), ("other", [])):
        listed = cluster.get(RUNS, labelSelector=f"flywheel/pipeline={label}")["items"]
        assert [each["metadata"]["name"] for each in listed] == found
    cancelled = {"status": "CancelledRunFinally"}
    assert cluster.patch(f"{RUNS}/a", {"spec": cancelled})["spec"] == cancelled
    assert cluster.create(PODS, POD)["metadata"]["uid"]
    with pytest.raises(ClusterError, match='409: pods "p" already exists'):
        cluster.create(PODS, POD)
    cluster.delete(f"{PODS}/p")
    cluster.delete(f"{PODS}/p")  # gone is gone
    with pytest.raises(MissingError, match='pods "p" not found'):
        cluster.get(f"{PODS}/p")
    with pytest.raises(MissingError, match='"b" not found'):
        cluster.patch(f"{RUNS}/b", {"spec": cancelled})


@pytest.mark.parametrize("account", ["trainer", "publisher", "pinner"])
def test_refused_when_the_account_has_no_right(login: Login, account: str) -> None:
    with pytest.raises(ClusterError, match=rf"403: .*:{account}\" cannot list .*; the Role in gitops/pipelines"):
        login(account).get(PODS)


def test_refused_when_it_is_another_object_than_the_named_one(login: Login) -> None:
    assert login("supervisor").get(f"{POD_TEMPLATES}/gpu-probe")["kind"] == "PodTemplate"
    with pytest.raises(ClusterError, match="403"):
        login("supervisor").get(f"{POD_TEMPLATES}/another")


def test_refused_when_token_or_certificate_is_wrong(login: Login, tmp_path: Path) -> None:
    cluster = login("supervisor")
    assert cluster.account
    (cluster.account / "token").write_text("another")
    with pytest.raises(ClusterError, match="401: Unauthorized"):
        cluster.get(RUNS)
    certificate(tmp_path, "127.0.0.1")[0].replace(cluster.account / "ca.crt")
    with pytest.raises(ClusterError, match="certificate verify failed"):
        cluster.create(RUNS, RUN)


@pytest.mark.parametrize(
    "failure",
    [ConnectionRefusedError("refused"), NoAnswerError("timed out"), HTTPResponse(b"away", status=503)],
)
def test_a_look_succeeds_when_the_api_was_away_for_a_while(
    login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: object
) -> None:
    account = login("supervisor").account
    assert account
    cluster, calls, ask = Cluster(account, patience_s=10, pause_s=0), iter([failure, failure]), PoolManager.request

    def flaky(*given: Any, **named: Any) -> Any:
        failed = next(calls, None)
        if isinstance(failed, Exception):
            raise failed
        return ask(*given, **named) if failed is None else failed

    monkeypatch.setattr(PoolManager, "request", flaky)
    assert cluster.get(RUNS)["items"] == []
    away, back = capsys.readouterr().out.splitlines()
    assert "does not answer" in away
    assert "answers again" in back


@pytest.fixture
def kubeconfig(namespace: Namespace, login: Login, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    """kubectl is logged in: the fixture's parameter is an account, and where its kubeconfig differs."""
    name, changes = request.param
    account = login(name).account
    assert account
    token = changes.get("token") or (account / "token").read_text()
    cluster = {key: value for key, value in changes.items() if key != "token"}
    monkeypatch.setenv("KUBECONFIG", str(namespace.server.write_kubeconfig(name, token, **cluster)))


@pytest.mark.parametrize("kubeconfig", [("supervisor", {})], indirect=True)
def test_kubectl_is_asked_when_this_is_no_pod(namespace: Namespace, tmp_path: Path, kubeconfig: None) -> None:
    cluster = Cluster(tmp_path / "no account")
    assert cluster.create(PODS, POD | {"apiVersion": "v1"})["metadata"]["uid"]
    assert [each["metadata"]["name"] for each in cluster.get(PODS)["items"]] == ["p"]
    cluster.delete(f"{PODS}/p")
    cluster.delete(f"{PODS}/p")
    assert namespace.list("pods") == []


@pytest.mark.parametrize(
    ("kubeconfig", "kind", "said"),
    [
        (("supervisor", {}), MissingError, "NotFound"),
        (("trainer", {}), ClusterError, "Forbidden"),
        (("supervisor", {"token": "another"}), ClusterError, "Unauthorized"),
        (("supervisor", {"server": "https://127.0.0.1:9"}), UnreachableError, "refused"),
    ],
    ids=["missing", "no right", "no login", "nobody answers"],
    indirect=["kubeconfig"],
)
def test_kubectl_is_quoted_when_it_fails(tmp_path: Path, kubeconfig: None, kind: type[Exception], said: str) -> None:
    with pytest.raises(ClusterError, match=said) as caught:
        Cluster(tmp_path / "no account").get(f"{PODS}/p")
    assert type(caught.value) is kind
