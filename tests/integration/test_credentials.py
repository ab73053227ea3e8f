"""The Job that makes every generated Secret, as gitops/credentials renders it, against an API server on loopback."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gitops import render
from tests.kube import Kube
from tests.pods import ACCOUNT, Pod, config_maps, pod_of

Run = Callable[[Kube], subprocess.CompletedProcess[str]]


@pytest.fixture
def kube(tmp_path: Path) -> Iterator[Kube]:
    server = Kube(tmp_path / "kube", render("credentials").objects, ("flywheel-minio", "credentials"))
    yield server
    server.stop()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the Job's pod once."""

    def run(kube: Kube) -> subprocess.CompletedProcess[str]:
        objects = render("credentials").objects
        known = config_maps(objects) | {"kube-root-ca.crt": kube.account}
        pod = Pod(pod_of(objects, "Job", "credentials"), known, {}, tmp_path / "pod")
        account = pod.mounts()[ACCOUNT]
        account.joinpath("token").write_text(kube.account["token"])
        where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(kube.port)}
        return pod.run(**where, SERVICE_ACCOUNT=str(account))

    return run


def test_every_secret_made_when_there_is_none(kube: Kube, run: Run) -> None:
    done = run(kube)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(kube.secrets) == len(done.stdout.splitlines()) == 20
    users = {name: data for name, data in kube.of("flywheel-minio").items() if name.startswith("store-user-")}
    assert len(users) == 6
    for name, data in users.items():
        assert data["AWS_ACCESS_KEY_ID"] == name.removeprefix("store-user-")
    assert kube.of("flywheel-prod")["store"] == users["store-user-server-prod"]
    assert kube.of("flywheel-pipelines")["store"] == users["store-user-runner"]
    assert set(kube.of("flywheel-labels")["label-studio"]) == {"password", "token", "secret-key"}
    made = [value for data in kube.secrets.values() for value in data.values() if len(value) == 40]
    assert all(re.fullmatch("[0-9a-f]{40}", value) for value in made)
    assert len(set(made)) == len(made) - 7  # the copies
    assert not any(value in done.stdout for value in made)
    # No label and no annotation: Argo CD neither tracks nor prunes them.
    assert all(set(body["metadata"]) == {"name"} for body in kube.bodies)


def test_nothing_changed_when_run_again(kube: Kube, run: Run) -> None:
    mine = {"user": "mine", "password": "kept"}
    kube.secrets["flywheel-minio", "minio-root"] = mine
    run(kube)
    before = dict(kube.secrets)
    again = run(kube)
    assert again.returncode == 0
    assert all(line.endswith(": is there, left alone") for line in again.stdout.splitlines())
    assert kube.secrets == before
    assert kube.secrets["flywheel-minio", "minio-root"] is mine


def test_the_rest_made_later_when_the_api_server_fails(kube: Kube, run: Run) -> None:
    kube.failing = True
    failed = run(kube)
    assert failed.returncode == 1
    assert "error: flywheel-minio/minio-root: 500" in failed.stderr
    assert not kube.secrets
    kube.failing = False
    assert run(kube).returncode == 0
    assert len(kube.secrets) == 20


def test_a_copy_made_again_when_someone_deleted_it(kube: Kube, run: Run) -> None:
    run(kube)
    kept = kube.secrets.pop(("flywheel-dev", "store"))
    assert "flywheel-dev/store: made" in run(kube).stdout
    assert kube.secrets["flywheel-dev", "store"] == kept


def test_rights_end_at_making_when_the_roles_are_read(kube: Kube) -> None:
    objects = render("credentials").objects
    verbs = {verb for role in objects if role["kind"] == "Role" for rule in role["rules"] for verb in rule["verbs"]}
    assert verbs == {"create", "get"}
    answer = kube.answer("GET", "/api/v1/namespaces/flywheel-labels/secrets/label-studio", "Bearer " + "x", b"")
    assert answer[0] == 401
    for path in ("flywheel-labels/secrets/label-studio", "flywheel-minio/secrets/minio-root"):
        status, _ = kube.answer("GET", f"/api/v1/namespaces/{path}", "Bearer of-the-service-account", b"")
        assert status == 403, path
