"""What Tasks hand on: each file whole, the newest one."""

from pathlib import Path

import pytest

from runner.retrain.relay import give, take
from runner.store.folder import FolderStore


@pytest.fixture
def project_of_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    (project / ".work").mkdir(parents=True)
    monkeypatch.chdir(project)
    return project


def test_nothing_is_given_or_taken_when_there_is_nothing(project_of_run: Path, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    assert give(store, project_of_run, "run") == take(store, project_of_run, "run") == []


def test_files_arrive_as_they_were_when_taken(project_of_run: Path, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    (project_of_run / "params.yaml").write_bytes(b"a: 1\r\n")
    (project_of_run / ".work/verdict.json").write_text("{}")
    assert give(store, project_of_run, "run") == ["params.yaml", "verdict.json"]
    (project_of_run / "params.yaml").write_text("b: 2\n")
    assert give(store, project_of_run, "other") == ["params.yaml", "verdict.json"]
    (project_of_run / ".work/verdict.json").unlink()
    assert take(store, project_of_run, "run") == ["params.yaml", "verdict.json"]
    assert (project_of_run / "params.yaml").read_bytes() == b"a: 1\r\n"
    assert (project_of_run / ".work/verdict.json").read_text() == "{}"
