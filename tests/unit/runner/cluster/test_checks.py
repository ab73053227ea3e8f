"""What doctor says of a cluster, read from objects as the API server gives them."""

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import checks, forge_checks
from runner.cluster.container_images import PATH as IMAGES
from runner.errors import ClusterError, GitError, StoreError
from runner.pipeline.doctor import Diagnosis
from tests.support import gitops

VALUES = gitops.SAMPLE | {"REPO_URL": "https://git.example.com/team/things.git", "APPS_DOMAIN": "apps.invalid"}
PIPELINES = "/api/v1/namespaces/flywheel-pipelines"
APPLICATIONS = "/apis/argoproj.io/v1alpha1/applications"
CONFIG = {"url": "https://retrain.apps.invalid", "content_type": "json"}
HOOK: dict[str, Any] = {"active": True, "events": ["push"], "config": CONFIG, "last_response": {"code": 202}}


class Objects:
    """A cluster, by the paths of its API; the log of Tekton's interceptors, and what the forge answers."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {"/version": {}, PIPELINES: {}}
        self.log: str | None = ""
        self.hooks: list[dict[str, Any]] | GitError = [HOOK]
        self.status = "422: no such commit"
        self.refused: tuple[str, ...] = ()

    def secret(self, namespace: str, name: str, **data: str) -> None:
        content = {key.replace("_", "-"): base64.b64encode(text.encode()).decode() for key, text in data.items()}
        self.objects[f"/api/v1/namespaces/{namespace}/secrets/{name}"] = {"data": content}

    def application(self, name: str, sync: str, health: str, url: str = VALUES["REPO_URL"], **status: Any) -> None:
        self.objects.setdefault(APPLICATIONS, {"items": []})["items"].append(
            {
                "metadata": {"name": name, "namespace": "argocd"},
                "spec": {"source": {"repoURL": url}},
                "status": {"sync": {"status": sync}, "health": {"status": health}, **status},
            }
        )

    def get(self, path: str, *, labels: str = "") -> Any:
        if isinstance(found := self.objects.get(path), Exception):
            raise found
        return found

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, int(self.log is None), self.log or "", "forbidden")

    def ask(self, method: str, url: str, token: str, content: object = None) -> Any:
        if method == "POST":
            raise GitError(f"POST {url} answered {self.status}; look at it there")
        if isinstance(self.hooks, GitError):
            raise self.hooks
        return self.hooks

    def git(self, project: Path, *arguments: str, environment: object = None) -> str:
        if arguments[0] in self.refused:
            raise GitError(f"git {arguments[0]}: 403")
        return ""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Objects:
    made = Objects()
    for name in ("cluster.kubectl.get", "cluster.kubectl.run", "cluster.forge_checks.ask", "cluster.forge_checks.git"):
        monkeypatch.setattr(f"runner.{name}", getattr(made, name.rpartition(".")[2]))
    for name in ("GITHUB_API_URL", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    gitops.copy_with(VALUES, tmp_path)
    return tmp_path


def failures(check: Iterator[Diagnosis]) -> list[str]:
    return [finding.what for finding in check if finding.remedy]


def test_no_cluster_is_examined_when_there_is_none_or_it_is_empty(tmp_path: Path, cluster: Objects, fork: Path) -> None:
    assert list(checks.check_cluster(tmp_path / "elsewhere")) == []
    del cluster.objects[PIPELINES]
    (finding,) = checks.check_cluster(fork)
    assert "make bootstrap" in finding.remedy
    cluster.objects["/version"] = ClusterError("no login")
    (finding,) = checks.check_cluster(fork)
    assert "no login" in finding.what
    assert not finding.remedy


def test_a_check_that_may_not_look_leaves_the_others(
    cluster: Objects, fork: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.objects[APPLICATIONS] = ClusterError("applications: forbidden")
    monkeypatch.setattr(checks, "CHECKS", {name: checks.CHECKS[name] for name in list(checks.CHECKS)[:2]})
    found = list(checks.check_cluster(fork))
    assert found[0] == Diagnosis("the Applications of Argo CD could not be examined", "applications: forbidden")
    assert any("Secret webhook" in each.what for each in found)


def test_applications_are_named_with_their_message_when_they_are_not_well(cluster: Objects, fork: Path) -> None:
    assert failures(checks._applications(fork, VALUES)) == ["Argo CD has no Application of this repository"]
    cluster.application("minio", "Synced", "Healthy")
    cluster.application("flywheel-serving-prod", "OutOfSync", "Missing")
    cluster.application("others", "OutOfSync", "Degraded", url="https://git.example.com/team/others.git")
    cluster.application("root", "Unknown", "Unknown", conditions=[{"message": 'configmap "argocd-cm" not found'}])
    broken = {"kind": "StatefulSet", "name": "postgresql", "health": {"status": "Degraded", "message": "no image"}}
    cluster.application("labels", "Synced", "Degraded", url="git@git.example.com:team/things", resources=[broken])
    assert failures(checks._applications(fork, VALUES)) == [
        "Application labels: Synced, Degraded: StatefulSet postgresql: no image",
        'Application root: Unknown, Unknown: configmap "argocd-cm" not found',
    ]


def test_secrets_are_named_when_people_have_not_supplied_them(cluster: Objects, fork: Path) -> None:
    cluster.objects["/apis/batch/v1/namespaces/flywheel-labels/cronjobs/labels-pull"] = {"kind": "CronJob"}
    cluster.secret("flywheel-pipelines", "webhook", secret=" ")
    assert failures(checks._secrets(fork, VALUES))[:3] == [
        "Secret git in flywheel-pipelines has no token",
        "Secret webhook in flywheel-pipelines has no secret",
        "Secret git in flywheel-labels has no token",
    ]
    for namespace in ("flywheel-pipelines", "flywheel-labels"):
        cluster.secret(namespace, "git", token="t", read_token="r")
    for name in ("webhook", "argocd-webhook"):
        cluster.secret("flywheel-pipelines", name, secret="s")
    assert failures(checks._secrets(fork, VALUES)) == []


GOOD, WRONG = "Interceptor response is: {Continue:true}", "response is: {Message:payload signature check failed}"


@pytest.mark.parametrize(
    ("log", "is_wrong"),
    [("", False), (GOOD, False), (f"{WRONG}\n{GOOD}", False), (f"{GOOD}\n{WRONG}", True), (None, False)],
)
def test_a_wrong_secret_is_seen_when_the_last_delivery_had_it(
    cluster: Objects, fork: Path, log: str | None, is_wrong: bool
) -> None:
    cluster.log = log
    assert bool(failures(checks._webhook(fork, VALUES))) is is_wrong


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
def test_the_webhook_is_told_as_the_forge_has_it(cluster: Objects, hooks: Any, word: str) -> None:
    cluster.hooks = hooks
    found = failures(forge_checks.deliveries(VALUES, "token"))
    assert len(found) == bool(word)
    assert all(word in what for what in found)


def test_tokens_are_named_when_the_forge_refuses_them(cluster: Objects, fork: Path) -> None:
    both = {"token": "t", "read-token": "r"}
    assert failures(forge_checks.tokens(fork, VALUES, both)) == []
    assert list(forge_checks.tokens(fork, VALUES, {})) == []
    cluster.refused, cluster.status = ("push", "ls-remote"), "403: no"
    refused = failures(forge_checks.tokens(fork, VALUES, both))
    assert [what.split(" ")[0] for what in refused] == ["token", "read-token", "read-token"]
    assert "statuses" in refused[2]


def test_the_store_is_asked_as_each_user(cluster: Objects, fork: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_label_studio_is_named_when_it_does_not_run_or_answer(cluster: Objects, fork: Path) -> None:
    assert failures(checks._label_studio(fork, VALUES)) == ["Label Studio does not run"]
    path = "/apis/apps/v1/namespaces/flywheel-labels/deployments/label-studio"
    cluster.objects[path] = {"status": {"availableReplicas": 1}}
    (what,) = failures(checks._label_studio(fork, VALUES))
    assert "https://label-studio.apps.invalid/health" in what
