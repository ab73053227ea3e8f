"""What doctor says of a cluster, read from objects as the API server gives them."""

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runner.cluster import checks, forge_checks, kubectl
from runner.cluster.container_images import PATH as IMAGES
from runner.cluster.facts import OWN_CA
from runner.cluster.facts import PATH as CLUSTER_ENV
from runner.errors import GitError, StoreError
from runner.forge.rest import Api, ApiError
from runner.pipeline.doctor import Diagnosis
from runner.store.signatures import FOLDER
from tests.support import gitops
from tests.unit.runner.cluster.conftest import Answers

URL = "https://git.example.com/team/things.git"
VALUES = gitops.SAMPLE | {"REPO_URL": URL, "FORGE": "auto", "APPS_DOMAIN": "apps.invalid"}
PIPELINES = "/api/v1/namespaces/flywheel-pipelines"
APPLICATIONS = "/apis/argoproj.io/v1alpha1/applications"
CONFIG = {"url": "https://retrain.apps.invalid", "content_type": "json"}
HOOK: dict[str, Any] = {"active": True, "events": ["push"], "config": CONFIG, "last_response": {"code": 202}}


def secret(namespace: str, name: str, **data: str) -> Answers:
    content = {key.replace("_", "-"): base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return {f"/api/v1/namespaces/{namespace}/secrets/{name}": {"data": content}}


def application(name: str, sync: str, health: str, url: str = VALUES["REPO_URL"], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "argocd"},
        "spec": {"source": {"repoURL": url}},
        "status": {"sync": {"status": sync}, "health": {"status": health}, **status},
    }


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    gitops.copy_with(VALUES, tmp_path)
    return tmp_path


def failures(check: Iterator[Diagnosis]) -> list[str]:
    return [finding.what for finding in check if finding.remedy]


def test_no_cluster_is_examined_when_there_is_none_or_it_is_empty(tmp_path: Path, cluster: Answers, fork: Path) -> None:
    assert list(checks.check_cluster(tmp_path / "elsewhere")) == []
    (finding,) = checks.check_cluster(fork)
    assert "make bootstrap" in finding.remedy
    cluster["/version"] = 401
    (finding,) = checks.check_cluster(fork)
    assert "log in again" in finding.what
    assert not finding.remedy
    file = fork / "gitops" / "cluster" / "cluster.env"
    revision = f"DETECTOR_REVISION={VALUES['DETECTOR_REVISION']}"
    file.write_text(file.read_text().replace(revision, "DETECTOR_REVISION=REPLACE-ME"))
    (finding,) = checks.check_cluster(fork)
    assert "DETECTOR_REVISION is still REPLACE-ME" in finding.what
    file.write_text(file.read_text().replace(f"REPO_URL={URL}", "REPO_URL=REPLACE-ME"))
    (finding,) = checks.check_cluster(fork)
    assert str(CLUSTER_ENV) in finding.what and "to mend" not in finding.what
    assert not finding.remedy


def test_a_check_that_may_not_look_leaves_the_others(
    cluster: Answers, fork: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster |= {PIPELINES: {}, APPLICATIONS: 403}
    monkeypatch.setattr(checks, "CHECKS", {name: checks.CHECKS[name] for name in list(checks.CHECKS)[:2]})
    first, *others = checks.check_cluster(fork)
    assert first.what == "the Applications of Argo CD could not be examined"
    assert "is not allowed" in first.remedy
    assert any("Secret webhook" in each.what for each in others)


def test_applications_are_named_with_their_message_when_they_are_not_well(cluster: Answers, fork: Path) -> None:
    assert failures(checks._applications(fork, VALUES)) == ["Argo CD has no Application of this repository"]
    broken = {"kind": "StatefulSet", "name": "postgresql", "health": {"status": "Degraded", "message": "no image"}}
    cluster[APPLICATIONS] = [
        application("minio", "Synced", "Healthy"),
        application("flywheel-serving-prod", "OutOfSync", "Missing"),
        application("others", "OutOfSync", "Degraded", url="https://git.example.com/team/others.git"),
        application("root", "Unknown", "Unknown", conditions=[{"message": 'configmap "argocd-cm" not found'}]),
        application("labels", "Synced", "Degraded", url="git@git.example.com:team/things", resources=[broken]),
    ]
    assert failures(checks._applications(fork, VALUES)) == [
        "Application labels: Synced, Degraded: StatefulSet postgresql: no image",
        'Application root: Unknown, Unknown: configmap "argocd-cm" not found',
    ]


def test_secrets_are_named_when_people_have_not_supplied_them(cluster: Answers, fork: Path) -> None:
    cluster["/apis/batch/v1/namespaces/flywheel-labels/cronjobs/labels-pull"] = {"kind": "CronJob"}
    cluster |= secret("flywheel-pipelines", "webhook", secret=" ")
    assert failures(checks._secrets(fork, VALUES))[:3] == [
        "Secret git in flywheel-pipelines has no token",
        "Secret webhook in flywheel-pipelines has no secret",
        "Secret git in flywheel-labels has no token",
    ]
    for namespace in ("flywheel-pipelines", "flywheel-labels"):
        cluster |= secret(namespace, "git", token=f"of a bot for {namespace}", read_token="r", status_token="s")
    for name in ("webhook", "argocd-webhook"):
        cluster |= secret("flywheel-pipelines", name, secret="s")
    assert failures(checks._secrets(fork, VALUES)) == []
    cluster |= secret("flywheel-labels", "git", token="of a bot for flywheel-pipelines")
    (what,) = failures(checks._secrets(fork, VALUES))
    assert "have one token" in what


def policy(name: str, pods: dict[str, str], *egress: dict[str, Any]) -> dict[str, Any]:
    selector = {"matchLabels": pods} if pods else {}
    metadata = {"name": name, "namespace": "flywheel-pipelines"}
    return {"metadata": metadata, "spec": {"podSelector": selector, "egress": list(egress)}}


@pytest.mark.parametrize(("cidr", "remedies"), [("192.0.2.0/24", 0), ("0.0.0.0/0", 1), ("128.0.0.0/1", 1), ("::/0", 1)])
def test_open_egress_is_named_as_the_cluster_has_it(cluster: Answers, fork: Path, cidr: str, remedies: int) -> None:
    port = {"ports": [{"port": 443}]}
    cluster["/apis/networking.k8s.io/v1/networkpolicies"] = [
        policy("to-git", {}, {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}, {"ipBlock": {"cidr": cidr}}], **port}),
        policy("to-outside", {"flywheel/apis": "client"}, port),
        policy("to-store", {}, {"to": [{"podSelector": {}}]}),
        policy("from-ingress", {}),
    ]
    found = list(checks._egress(fork, VALUES))
    assert len([each for each in found if each.remedy]) == remedies == len(found) - 1
    assert "to-outside lets flywheel/apis=client reach any address on port 443" in found[-1].what


@pytest.mark.parametrize(
    ("proxy", "settings", "authorities", "named"),
    [
        ("", {"HTTPS_PROXY": ""}, "", []),
        ("http://p:1", {"HTTPS_PROXY": ""}, "", ["names no proxy"]),
        ("http://me:secret@p:1", {"HTTPS_PROXY": "http://p:1"}, "", []),
        ("", {"HTTPS_PROXY": "http://p:1", "GIT_SSL_CAINFO": OWN_CA}, "-----BEGIN CERTIFICATE-----", ["minio has 0"]),
    ],
)
def test_the_way_out_is_held_against_the_cluster(
    cluster: Answers, fork: Path, proxy: str, settings: dict[str, str], authorities: str, named: list[str]
) -> None:
    cluster["/apis/config.openshift.io/v1/proxies/cluster"] = {"spec": {"httpsProxy": proxy}}
    for namespace in ("flywheel-pipelines", "flywheel-labels"):
        path = f"/api/v1/namespaces/{namespace}/configmaps/trusted-ca"
        cluster[path] = {"data": {"ca-bundle.crt": authorities}}
    found = list(checks._way_out(fork, VALUES | {"GIT_SSL_CAINFO": ""} | settings))
    assert "secret" not in str(found)
    wrong = [finding.what for finding in found if finding.remedy]
    assert len(wrong) == len(named) and all(text in what for text, what in zip(named, wrong, strict=True))


TOKEN = "response is: {Continue:false Status:{Code:InvalidArgument Message:Invalid X-GitLab-Token}}"
GOOD, WRONG = "Interceptor response is: {Continue:true}", "response is: {Message:payload signature check failed}"


@pytest.mark.parametrize(
    ("log", "is_wrong"),
    [("", False), (GOOD, False), (f"{WRONG}\n{GOOD}", False), (f"{GOOD}\n{WRONG}", True), (TOKEN, True), (None, False)],
)
def test_a_wrong_secret_is_seen_when_the_last_delivery_had_it(
    monkeypatch: pytest.MonkeyPatch, log: str | None, is_wrong: bool
) -> None:
    """Of the log of Tekton's interceptors, which are no part of the cluster here."""
    monkeypatch.setattr(checks, "deliveries", lambda *_: iter(()))
    monkeypatch.setattr(kubectl, "secret", lambda *_: {})
    monkeypatch.setattr(kubectl, "run", lambda *_: subprocess.CompletedProcess((), int(log is None), log))
    assert bool(failures(checks._webhook(Path(), VALUES))) is is_wrong


@pytest.mark.parametrize(
    ("hooks", "word"),
    [
        ([HOOK], ""),
        ([], "retrain.apps.invalid"),
        ([HOOK | {"config": {"url": "https://elsewhere"}}], "retrain.apps.invalid"),
        ([HOOK | {"active": False}], "not active"),
        ([HOOK | {"events": ["issues"]}], "issues"),
        ([HOOK | {"config": CONFIG | {"content_type": "form"}}], "form"),
        ([HOOK | {"last_response": {"code": 504, "message": "timed out"}}], "504 timed out"),
        (GitError("403"), ""),
    ],
)
def test_the_webhook_is_told_as_the_forge_has_it(monkeypatch: pytest.MonkeyPatch, hooks: Any, word: str) -> None:
    monkeypatch.setattr(Api, "ask", MagicMock(side_effect=[hooks]))
    found = failures(forge_checks.deliveries(VALUES, "token"))
    assert len(found) == bool(word)
    assert all(word in what for what in found)


@pytest.mark.parametrize(
    ("status", "refused"),
    [("422: no such commit", ["read-token"]), ("403: no", ["token", "read-token", "status-token"])],
)
def test_tokens_are_named_when_the_forge_refuses_them(
    monkeypatch: pytest.MonkeyPatch, status: str, refused: list[str]
) -> None:
    def git(_: Path, command: str, *arguments: str, environment: object) -> str:
        if "403" in status and command in ("push", "ls-remote"):
            raise GitError(f"git {command}: 403")
        return ""

    refusal = ApiError(f"POST statuses answered {status}", int(status[:3]))
    monkeypatch.setattr(Api, "ask", MagicMock(side_effect=refusal))
    monkeypatch.setattr(forge_checks, "git", git)
    assert list(forge_checks.tokens(Path(), VALUES, {})) == []
    found = failures(forge_checks.tokens(Path(), VALUES, {"token": "t", "read-token": "r", "status-token": "s"}))
    assert [what.split(" ")[0] for what in found] == refused
    assert all("statuses" in what for what in found[2:])


def test_the_store_is_asked_as_each_user(cluster: Answers, fork: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    @contextmanager
    def opened(values: object, name: str, namespace: str) -> Iterator[Any]:
        asked.append((namespace, name))
        raise StoreError("AccessDenied")
        yield

    monkeypatch.setattr(checks, "opened", opened)
    assert len(failures(checks._store(fork, VALUES))) == len(asked)
    assert asked == [(namespace, name) for namespace, name, _ in checks.USERS]


def test_images_are_named_when_they_are_not_built(fork: Path) -> None:
    file = fork / IMAGES
    file.write_text(file.read_text().replace("0" * 64, "1" * 64))
    assert failures(checks._images(fork, VALUES)) == []
    file.write_text(file.read_text().replace("1" * 64, "0" * 64))
    assert failures(checks._images(fork, VALUES))


def test_label_studio_is_named_when_it_does_not_run_or_answer(cluster: Answers, fork: Path) -> None:
    assert failures(checks._label_studio(fork, VALUES)) == ["Label Studio does not run"]
    path = "/apis/apps/v1/namespaces/flywheel-labels/deployments/label-studio"
    cluster[path] = {"status": {"availableReplicas": 1}}
    (what,) = failures(checks._label_studio(fork, VALUES))
    assert "https://label-studio.apps.invalid/health" in what


def test_label_studio_is_named_when_its_last_setup_was_refused(cluster: Answers, fork: Path) -> None:
    cluster["/apis/apps/v1/namespaces/flywheel-labels/deployments/label-studio"] = {"status": {"availableReplicas": 1}}
    pods = "/api/v1/namespaces/flywheel-labels/pods"

    def pod(hour: int, phase: str, message: str = "") -> dict[str, Any]:
        ended = [{"state": {"terminated": {"message": message}}}]
        status = {"phase": phase, "initContainerStatuses": [{"state": {"terminated": {}}}], "containerStatuses": ended}
        return {"metadata": {"name": "x", "creationTimestamp": f"2026-11-30T{hour:02}:07:00Z"}, "status": status}

    cluster[pods] = [pod(9, "Failed", "error: tern: used\n"), pod(8, "Succeeded"), pod(10, "Running")]
    assert any("tern: used" in what for what in failures(checks._label_studio(fork, VALUES)))
    cluster[pods] = [pod(9, "Succeeded"), pod(8, "Failed", "error: tern: used\n")]
    assert not any("tern: used" in what for what in failures(checks._label_studio(fork, VALUES)))


def test_signatures_when_there_is_no_key_one_that_git_does_not_know_and_one_that_it_does(
    cluster: Answers, fork: Path
) -> None:
    def found() -> tuple[str, bool]:
        (finding,) = checks._signatures(fork, VALUES)
        return finding.what, bool(finding.remedy)

    signers = fork / FOLDER
    signers.mkdir(parents=True, exist_ok=True)
    what, is_wrong = found()
    assert "without a signature" in what and not is_wrong
    (signers / "signatures.env").write_text("SIGNATURES=require\n")
    assert found()[1]
    key = ec.generate_private_key(ec.SECP256R1())
    written = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    cluster |= secret("flywheel-pipelines", "signing", **{"private.pem": key.private_bytes(*written).decode()})
    assert "not among the signers" in found()[0] and found()[1]
    public = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (signers / "signers.pem").write_bytes(key.public_key().public_bytes(*public))
    assert found()[0].startswith("versions are signed by key ") and not found()[1]
