"""Fixtures that every kind of test shares."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import s3 as servers
from tests.support.label_studio import LabelStudio, labelling
from tests.support.projects import Run

PROJECT = Path(__file__).resolve().parents[1]
SHARED_DATA = PROJECT.parent / "shared" / "data"
settings.register_profile("flywheel", deadline=None)  # machines that are busy are slow
settings.load_profile("flywheel")


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than cores: while a test waits for its server to start, another has the core."""
    return (os.cpu_count() or 1) + 2


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the repository."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets and odd pictures that stands beside a developer's checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared test data (../shared/data) are not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment of a user's shell: this Python first on PATH, nothing of the test run."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "DVC_", "RUNNER_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return environment


@pytest.fixture(scope="session")
def run(environment: dict[str, str]) -> Run:
    """Run a command in a folder and return what it printed."""

    def run(*command: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=cwd, env=environment | extra, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3]:
    """A MinIO that all tests share: each takes a bucket of its own, and none stops it."""
    with servers.serving_s3("minio", tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3]:
    """Another kind of server, which keeps neither versions nor tags; shared like `minio`."""
    with servers.serving_s3("rclone", tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3]:
    """A server that may take MinIO's place, with versions, tags, locks and users; shared like `minio`."""
    with servers.serving_s3("seaweedfs", tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(params=servers.NAMES)
def s3(request: pytest.FixtureRequest) -> servers.S3:
    """Each kind of server in turn, shared."""
    server: servers.S3 = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def own_minio(tmp_path: Path) -> Iterator[servers.S3]:
    """A MinIO that the test may kill and start again."""
    with servers.serving_s3("minio", tmp_path / "minio") as server:
        yield server


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A Label Studio that all tests share: each makes a project of its own, and none stops it."""
    with labelling(tmp_path_factory.mktemp("label-studio")) as server:
        yield server


@pytest.fixture
def own_label_studio(tmp_path: Path) -> Iterator[LabelStudio]:
    """A Label Studio that the test may kill and start again."""
    with labelling(tmp_path / "label-studio") as server:
        yield server
