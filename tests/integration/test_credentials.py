"""The Job that makes every generated Secret: once, with rights that cannot do more."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.s3 import free_port
from tests.support.secret_job import HOME, SecretJob

NAMESPACES = (HOME, *(f"flywheel-{name}" for name in ("labels", "pipelines", "dev", "staging", "prod", "baseline")))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretJob]:
    it = SecretJob(tmp_path_factory.mktemp("apiserver"))
    yield it
    it.stop()


@pytest.fixture
def job(shared: SecretJob) -> SecretJob:
    """With no Secret made yet."""
    for namespace in NAMESPACES:
        shared.remove(namespace)
    return shared


def test_every_secret_made_when_there_is_none(job: SecretJob) -> None:
    done = job.run()
    assert (done.returncode, done.stderr) == (0, "")
    secrets = job.secrets()
    lines = done.stdout.splitlines()
    assert {"/".join(name) for name in secrets} == {line.partition(":")[0] for line in lines if line.endswith(": made")}
    assert [line for line in lines if not line.endswith(": made")] == [
        "flywheel-pipelines/argocd-webhook: not made: argocd-secret may be read in none of argocd, flywheel-gitops, "
        "openshift-gitops; `make bootstrap` gives the right"
    ]
    users = {name: data for (_, name), data in secrets.items() if name.startswith("store-user-")}
    assert len(users) == 7
    for name, data in users.items():
        assert data["AWS_ACCESS_KEY_ID"] == name.removeprefix("store-user-")
    assert secrets["flywheel-prod", "store"] == users["store-user-server-prod"]
    assert secrets["flywheel-pipelines", "store"] == users["store-user-runner"]
    assert secrets["flywheel-pipelines", "store-publisher"] == users["store-user-publisher"]
    assert set(secrets["flywheel-labels", "label-studio"]) == {"password", "token", "secret-key"}
    made = [value for data in secrets.values() for value in data.values() if len(value) == 40]
    assert all(re.fullmatch("[0-9a-f]{40}", value) for value in made)
    assert len(set(made)) == len(made) - 8  # the copies
    assert not any(value in done.stdout for value in made)
    # Argo CD neither tracks nor prunes what has no label of its own.
    assert not any({"labels", "annotations"} & it["metadata"].keys() for it in job.found())


def test_nothing_changed_when_run_again(job: SecretJob) -> None:
    mine = ["--from-literal=user=mine", "--from-literal=password=kept"]
    job.server.kubectl("create", "secret", "generic", "minio-root", "--namespace", HOME, *mine)
    job.run()
    before = job.found()
    again = job.run()
    assert again.returncode == 0
    assert all(re.search(r": (is there, left alone|not made: .*)$", line) for line in again.stdout.splitlines())
    assert job.found() == before
    assert job.secrets()[HOME, "minio-root"] == {"user": "mine", "password": "kept"}


def test_a_copy_made_again_when_someone_deleted_it(job: SecretJob) -> None:
    job.run()
    kept = job.secrets()["flywheel-dev", "store"]
    job.remove("flywheel-dev", "store")
    assert "flywheel-dev/store: made" in job.run().stdout
    assert job.secrets()["flywheel-dev", "store"] == kept


def test_said_and_made_later_when_the_api_server_is_away(job: SecretJob) -> None:
    failed = job.run(port=str(free_port()))
    assert failed.returncode == 1
    assert "error: flywheel-minio/minio-root: <urlopen error [Errno 111] Connection refused>" in failed.stderr
    assert job.secrets() == {}
    assert job.run().returncode == 0
    assert (HOME, "minio-root") in job.secrets()


def test_refused_when_the_account_is_another(job: SecretJob) -> None:
    job.server.kubectl("create", "serviceaccount", "someone", "--namespace", HOME)
    done = job.run(account="someone")
    assert done.returncode == 1
    assert "error: flywheel-dev/model-api: 403" in done.stderr
    assert job.secrets() == {}


@pytest.mark.parametrize(
    ("verb", "secret", "namespace", "may"),
    [
        ("create", "", "flywheel-dev", "yes"),
        ("get", "store-user-runner", HOME, "yes"),
        ("get", "minio-root", HOME, "no"),
        ("get", "model-api", "flywheel-dev", "no"),
        ("list", "", HOME, "no"),
        ("update", "minio-root", HOME, "no"),
        ("delete", "store-user-runner", HOME, "no"),
        ("create", "", "kube-system", "no"),
    ],
)
def test_rights_end_at_making_when_asked(verb: str, secret: str, namespace: str, may: str, shared: SecretJob) -> None:
    who = f"--as=system:serviceaccount:{HOME}:credentials"
    what = f"secrets/{secret}" if secret else "secrets"
    assert shared.server.kubectl("auth", "can-i", verb, what, "--namespace", namespace, who).stdout.strip() == may
