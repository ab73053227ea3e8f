"""A model that tells pictures apart by their brightness, a server that runs it, and Kubernetes' own API server."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver

from runner.store import Store, open_store
from runner.store.s3 import S3Store
from tests.support.apiserver import ApiServer
from tests.support.browsers import headless
from tests.support.gitea import Gitea, serving_gitea
from tests.support.s3 import Use
from tests.support.servers import Server, running
from tests.unit.conftest import model

#                        cx  cy  w   h  airplane, helicopter; input 32x32; brightness adds to the airplane
GRID = np.array([[16, 16, 8, 8, 0, 0], [8, 16, 8, 8, 0, 0.6]], np.float32).T


@pytest.fixture(scope="session")
def bright_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finds a helicopter with confidence 0.6, and an airplane whose confidence is the picture's brightness."""
    path = tmp_path_factory.mktemp("model") / "bright.onnx"
    path.write_bytes(model(GRID, bright=(4, 0)))
    return path


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Lets the environment name a bucket, and nothing else of a store; returns it."""
    for name in ("STORE_USERS", "CA_BUNDLE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    def use(environment: dict[str, str]) -> S3Store:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store = open_store(Path())
        assert isinstance(store, S3Store)
        return store

    return use


@pytest.fixture
def store_of(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Use
) -> Callable[[str], Store]:
    """Lets the environment name a new store of a kind (folder, or the name of a server); returns it."""

    def named(kind: str) -> Store:
        if kind != "folder":
            return use(request.getfixturevalue(kind).bucket())
        monkeypatch.setenv("STORE_URI", str(tmp_path / "store"))
        return open_store(tmp_path)

    return named


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, bright_model: Path) -> Iterator[Server]:
    """A server that runs `bright_model` and keeps captures."""
    folder = tmp_path_factory.mktemp("server")
    with running(
        folder, MODEL_URI=str(bright_model), CAPTURE_URI=str(folder / "store"), RECENT_BYTES="2000000"
    ) as started:
        yield started


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Headless Chromium that reaches this machine and nothing else."""
    with headless(tmp_path / "profile", "127.0.0.1") as driver:
        yield driver


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A Kubernetes API server that files share: each applies what it needs, and removes what another may have left."""
    with closing(ApiServer(tmp_path_factory.mktemp("apiserver"))) as server:
        yield server


@pytest.fixture(scope="session")
def gitea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gitea]:
    with serving_gitea(tmp_path_factory.mktemp("gitea")) as made:
        yield made


OFFLINE = """
import json, sys
from pathlib import Path
from runner.stages.offline import ultralytics_offline
ultralytics_offline(Path(sys.argv[1]))
from ultralytics import YOLO
"""


@pytest.fixture
def ultralytics(project: Path, tmp_path: Path) -> Any:
    """Runs a script after the lines above in a process of its own, and gives the JSON that it printed last."""

    def run(script: str, *arguments: str | Path) -> Any:
        command = [sys.executable, "-c", OFFLINE + script, str(tmp_path / "settings"), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env={"PYTHONPATH": str(project)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run
