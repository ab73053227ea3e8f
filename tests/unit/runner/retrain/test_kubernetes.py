"""The client of the cluster's API, against a server with the rendered rights; and through kubectl."""

import json
import os
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from runner.errors import ClusterError, UnreachableError
from runner.retrain.kubernetes import POD_TEMPLATES, PODS, RUNS, Cluster, MissingError
from tests.retrain.kubernetes import Api
from tests.unit.runner.retrain.conftest import Login


def run(name: str) -> dict[str, object]:
    return {"metadata": {"name": name, "labels": {"flywheel/pipeline": "retrain"}}, "spec": {}}


def test_objects_are_made_found_changed_and_removed_when_allowed(api: Api, login: Login) -> None:
    cluster = login("supervisor")
    assert cluster.get(RUNS, labelSelector="flywheel/pipeline=retrain")["items"] == []
    api.create("pipelineruns", run("a"))
    assert [each["metadata"]["name"] for each in cluster.get(RUNS)["items"]] == ["a"]
    assert cluster.patch(f"{RUNS}/a", {"spec": {"status": "CancelledRunFinally"}})["spec"] == {
        "status": "CancelledRunFinally"
    }
    pod = cluster.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": []}})
    assert pod["metadata"]["uid"]
    cluster.delete(f"{PODS}/p")
    cluster.delete(f"{PODS}/p")  # gone is gone
    with pytest.raises(MissingError, match='pods "p" not found'):
        cluster.get(f"{PODS}/p")


@pytest.mark.parametrize("account", ["trainer", "publisher", "pinner"])
def test_refused_when_the_account_has_no_right(login: Login, account: str) -> None:
    with pytest.raises(ClusterError, match=f"403: pods is forbidden: {account} cannot list pods; the Role in gitops"):
        login(account).get(PODS)


def test_refused_when_it_is_another_object_than_the_named_one(login: Login) -> None:
    assert login("supervisor").get(f"{POD_TEMPLATES}/gpu-probe")["kind"] == "PodTemplate"
    with pytest.raises(ClusterError, match="403"):
        login("supervisor").get(f"{POD_TEMPLATES}/another")


def test_refused_when_the_token_is_wrong(api: Api, login: Login) -> None:
    cluster = login("supervisor")
    (api.account("supervisor") / "token").write_text("another")
    with pytest.raises(ClusterError, match="401: Unauthorized"):
        cluster.get(RUNS)


def test_refused_when_the_server_has_another_certificate(api: Api, login: Login, project: Path) -> None:
    cluster = login("supervisor")
    from botocore.httpsession import get_cert_path

    authorities = Path(str(get_cert_path(True))).read_text(encoding="utf-8")
    (api.account("supervisor") / "ca.crt").write_text(authorities, encoding="utf-8")
    with pytest.raises(ClusterError, match="certificate verify failed"):
        cluster.create(RUNS, run("a"))


def test_unreachable_is_said_when_nobody_answers(api: Api, login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    login("supervisor")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        Cluster(api.account("supervisor"), patience_s=0.05, pause_s=0.01).get(RUNS)


@pytest.mark.parametrize(
    "failure",
    [ConnectionRefusedError("refused"), TimeoutError("timed out"), HTTPError("/", 503, "away", Message(), None)],
)
def test_a_look_succeeds_when_the_api_was_away_for_a_while(
    api: Api, login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Exception
) -> None:
    login("supervisor")
    cluster, calls = Cluster(api.account("supervisor"), patience_s=10, pause_s=0), iter([failure, failure])
    original = urlopen

    def flaky(*given: Any, **named: Any) -> Any:
        if failed := next(calls, None):
            raise failed
        return original(*given, **named)

    monkeypatch.setattr("urllib.request.urlopen", flaky)
    assert cluster.get(RUNS)["items"] == []
    said = capsys.readouterr().out.splitlines()
    assert "does not answer" in said[0]
    assert "answers again" in said[1]


def test_an_object_is_not_made_twice_when_the_answer_is_lost(
    api: Api, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    login("supervisor")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    cluster = Cluster(api.account("supervisor"), patience_s=600)
    with pytest.raises(UnreachableError):
        cluster.create(PODS, {"metadata": {"name": "p"}})


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that writes down how it was called, and answers with a file."""
    program = tmp_path / "bin/kubectl"
    program.parent.mkdir()
    lines = [
        f'echo "$1 $2 $3 $4" > {tmp_path}/called',
        f'[ $# -lt 6 ] || cp "$6" {tmp_path}/given',
        f". {tmp_path}/answer",
    ]
    program.write_text("\n".join(["#!/bin/sh", *lines]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return tmp_path


def test_kubectl_is_asked_when_this_is_no_pod(kubectl: Path, tmp_path: Path) -> None:
    (kubectl / "answer").write_text("""echo '{"metadata": {"name": "x"}}'""")
    cluster = Cluster(tmp_path / "no account")
    assert cluster.create(RUNS, {"kind": "PipelineRun"}) == {"metadata": {"name": "x"}}
    assert (kubectl / "called").read_text() == (
        "--request-timeout=60s create --raw /apis/tekton.dev/v1/namespaces/flywheel-pipelines/pipelineruns\n"
    )
    assert json.loads((kubectl / "given").read_text()) == {"kind": "PipelineRun"}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Error from server (NotFound): nothing there", MissingError),
        ("error: You must be logged in to the server (Unauthorized)", ClusterError),
        ("Error from server (Forbidden): pipelineruns is forbidden", ClusterError),
        ("Error from server (ServiceUnavailable): the server is unable", UnreachableError),
        ("The connection to the server 127.0.0.1:6443 was refused", UnreachableError),
        ("Unable to connect to the server: net/http: TLS handshake timeout", UnreachableError),
    ],
)
def test_what_kubectl_says_is_told_when_it_fails(
    kubectl: Path, tmp_path: Path, said: str, kind: type[Exception]
) -> None:
    (kubectl / "answer").write_text(f"echo '{said}' >&2; exit 1")
    with pytest.raises(ClusterError, match=said.split(" (")[0]) as caught:
        Cluster(tmp_path / "no account").get(RUNS)
    assert type(caught.value) is kind


def test_refused_when_there_is_neither_account_nor_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="neither oc nor kubectl is on PATH"):
        Cluster(tmp_path / "no account")
