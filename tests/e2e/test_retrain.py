"""A commit retrains: the rendered pipeline run by Tekton's rules, with real Git, a real MinIO and the smoke preset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import s3
from tests.e2e.conftest import SMOKE
from tests.projects import copy_project, set_params
from tests.retrain.installation import Installation, installed
from tests.retrain.pod import can_run

pytestmark = pytest.mark.slow
ANY = {"gate": {"min_map50": 0.0, "max_latency": 100.0}}


@pytest.fixture(scope="session")
def prepared(project: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the smoke preset and a gate that lets everything pass."""
    if reason := can_run():
        pytest.skip(f"no namespaces for the steps' containers: {reason}")
    copy = copy_project(project, tmp_path_factory.mktemp("fork") / "flywheel", environment)
    set_params(copy, SMOKE | ANY)
    return copy


@pytest.fixture
def fresh(prepared: Path, own_minio: s3.S3, environment: dict[str, str], tmp_path: Path) -> Iterator[Installation]:
    """An installation in which nothing was trained yet."""
    own_minio.client().make_bucket("flyingthings")
    with installed(prepared, own_minio, own_minio.environment("flyingthings"), tmp_path / "here", environment) as made:
        yield made


def test_first(fresh: Installation) -> None:
    fresh.api.gpus = 1
    commit = fresh.commit("Three epochs", {"train": {"epochs": 3}})
    name, states = fresh.retrain(commit)
    for task in states:
        print(task, states[task])
        for attempt in range(4):
            try:
                print(fresh.log(name, task, attempt))
            except FileNotFoundError:
                pass
    print(fresh.forge.statuses, fresh.api.calls, fresh.forge.git("log", "--stat", "-2"))
    assert states["pin"].outcome == "Succeeded"
