"""The client of the cluster's API, from a Pod and through kubectl, with the rendered rights."""

from __future__ import annotations

from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from runner.cluster.api import POD_TEMPLATES, PODS, RUNS, TASK_RUNS, Cluster, MissingError
from runner.errors import ClusterError, UnreachableError
from tests.integration.retrain.conftest import Login, Namespace

POD = {
    **{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}},
    "spec": {"containers": [{"name": "it", "image": "none"}]},
}


def run(name: str) -> dict[str, Any]:
    labels = {"flywheel/pipeline": "retrain"}
    return {
        **{"apiVersion": "tekton.dev/v1", "kind": "PipelineRun"},
        **{"metadata": {"name": name, "labels": labels}, "spec": {}},
    }


def test_objects_are_made_found_changed_and_removed_when_allowed(namespace: Namespace, login: Login) -> None:
    cluster = login("supervisor")
    assert cluster.get(RUNS, labelSelector="flywheel/pipeline=retrain")["items"] == []
    assert cluster.get(TASK_RUNS)["items"] == []
    namespace.create(run("a"))
    assert [each["metadata"]["name"] for each in cluster.get(RUNS)["items"]] == ["a"]
    cancelled = {"status": "CancelledRunFinally"}
    assert cluster.patch(f"{RUNS}/a", {"spec": cancelled})["spec"] == cancelled
    assert cluster.create(PODS, POD)["metadata"]["uid"]
    cluster.delete(f"{PODS}/p")
    cluster.delete(f"{PODS}/p")  # gone is gone
    with pytest.raises(MissingError, match='pods "p" not found'):
        cluster.get(f"{PODS}/p")
    with pytest.raises(MissingError, match='"b" not found'):
        cluster.patch(f"{RUNS}/b", {"spec": cancelled})


@pytest.mark.parametrize("account", ["trainer", "publisher", "pinner"])
def test_refused_when_the_account_has_no_right(login: Login, account: str) -> None:
    with pytest.raises(
        ClusterError, match=rf"403: pods is forbidden: .*:{account}\" cannot list .*; the Role in gitops"
    ):
        login(account).get(PODS)


def test_refused_when_it_is_another_object_than_the_named_one(login: Login) -> None:
    assert login("supervisor").get(f"{POD_TEMPLATES}/gpu-probe")["kind"] == "PodTemplate"
    with pytest.raises(ClusterError, match="403"):
        login("supervisor").get(f"{POD_TEMPLATES}/another")


def test_refused_when_the_object_is_there_already(login: Login) -> None:
    cluster = login("supervisor")
    cluster.create(PODS, POD)
    with pytest.raises(ClusterError, match='409: pods "p" already exists'):
        cluster.create(PODS, POD)


def test_refused_when_the_token_is_wrong(login: Login) -> None:
    cluster = login("supervisor")
    assert cluster.account
    (cluster.account / "token").write_text("another")
    with pytest.raises(ClusterError, match="401: Unauthorized"):
        cluster.get(RUNS)


def test_refused_when_the_server_has_another_certificate(login: Login) -> None:
    from botocore.httpsession import get_cert_path

    cluster = login("supervisor")
    assert cluster.account
    (cluster.account / "ca.crt").write_bytes(Path(str(get_cert_path(True))).read_bytes())
    with pytest.raises(ClusterError, match="certificate verify failed"):
        cluster.create(RUNS, run("a"))


@pytest.mark.parametrize(
    "failure",
    [ConnectionRefusedError("refused"), TimeoutError("timed out"), HTTPError("/", 503, "away", Message(), None)],
)
def test_a_look_succeeds_when_the_api_was_away_for_a_while(
    login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Exception
) -> None:
    account = login("supervisor").account
    assert account
    cluster, calls = Cluster(account, patience_s=10, pause_s=0), iter([failure, failure])

    def flaky(*given: Any, **named: Any) -> Any:
        if failed := next(calls, None):
            raise failed
        return urlopen(*given, **named)

    monkeypatch.setattr("urllib.request.urlopen", flaky)
    assert cluster.get(RUNS)["items"] == []
    said = capsys.readouterr().out.splitlines()
    assert "does not answer" in said[0]
    assert "answers again" in said[1]


def test_kubectl_is_asked_when_this_is_no_pod(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(namespace.kubeconfig("supervisor")))
    cluster = Cluster(tmp_path / "no account")
    assert cluster.create(PODS, POD)["metadata"]["uid"]
    assert [each["metadata"]["name"] for each in cluster.get(PODS)["items"]] == ["p"]
    cluster.delete(f"{PODS}/p")
    cluster.delete(f"{PODS}/p")
    assert namespace.list("pods") == []


@pytest.mark.parametrize(
    ("account", "changes", "kind", "said"),
    [
        ("supervisor", {}, MissingError, "NotFound"),
        ("trainer", {}, ClusterError, "Forbidden"),
        ("supervisor", {"token": "another"}, ClusterError, "Unauthorized"),
        ("supervisor", {"server": "https://127.0.0.1:9"}, UnreachableError, "refused"),
    ],
    ids=["missing", "no right", "no login", "nobody answers"],
)
def test_what_kubectl_says_is_told_when_it_fails(
    namespace: Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    account: str,
    changes: dict[str, str],
    kind: type[Exception],
    said: str,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(namespace.kubeconfig(account, **changes)))
    with pytest.raises(ClusterError, match=said) as caught:
        Cluster(tmp_path / "no account").get(f"{PODS}/p")
    assert type(caught.value) is kind
