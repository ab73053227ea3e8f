"""A server like the cluster's API with the rights that gitops/pipelines renders, and a Pod's way to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from runner.retrain.kubernetes import Cluster
from tests.retrain.kubernetes import Api, serving_api

Login = Callable[[str], Cluster]


@pytest.fixture
def server(project: Path, tmp_path: Path) -> Iterator[tuple[Api, int]]:
    folder = project / "gitops/pipelines/base"
    files = [*sorted((folder / "rights").glob("*.yaml")), folder / "gpu-probe.yaml", folder / "trigger/template.yaml"]
    objects = [each for file in files for each in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    with serving_api(objects, tmp_path / "api") as made:
        yield made


@pytest.fixture
def api(server: tuple[Api, int]) -> Api:
    return server[0]


@pytest.fixture
def login(server: tuple[Api, int], monkeypatch: pytest.MonkeyPatch) -> Login:
    """Return the client of a Pod that runs as a ServiceAccount."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server[1]))
    return lambda account: Cluster(server[0].account(account))
