from pathlib import Path

import pytest

from tests.support.annotating import Bench
from tests.support.label_studio import LabelStudio


@pytest.fixture
def bench(tmp_path: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose store is a folder, so that Label Studio keeps the pictures of tasks."""
    return _bench(tmp_path, label_studio, {"STORE_URI": str(tmp_path / "store")}, monkeypatch)


@pytest.fixture
def bucket_bench(
    request: pytest.FixtureRequest, tmp_path: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """A bench whose store is a bucket of MinIO, from which Label Studio shows the pictures of tasks."""
    return _bench(tmp_path, label_studio, request.getfixturevalue("minio").bucket(), monkeypatch)


@pytest.fixture(params=["bench", "bucket_bench"])
def either_bench(request: pytest.FixtureRequest) -> Bench:
    bench: Bench = request.getfixturevalue(request.param)
    return bench


@pytest.fixture
def own_bench(tmp_path: Path, own_label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose Label Studio may be killed; its store is a folder."""
    return _bench(tmp_path, own_label_studio, {"STORE_URI": str(tmp_path / "store")}, monkeypatch)


def _bench(folder: Path, label_studio: LabelStudio, store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name, value in (label_studio.environment | store).items():
        monkeypatch.setenv(name, value)
    for name in ("CA_BUNDLE", "MODEL_URI", "MODEL_SHA256", "FORGE_TOKEN", "GITHUB_TOKEN", "RUNNER_WORK"):
        monkeypatch.delenv(name, raising=False)
    bench = Bench(folder / "a project ü", label_studio)
    monkeypatch.chdir(bench.project)
    return bench
