from pathlib import Path

import pytest

from runner.errors import StageError, StoreError
from runner.release.contents import releasing
from runner.release.verdict import verdict_file
from serving.storage.manifest import Manifest
from tests.support.projects import IDENTITY, git
from tests.support.trained import Trained, blind


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A project that the gate has judged, not in a repository."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    trained = Trained(tmp_path / "project")
    monkeypatch.chdir(trained.folder)
    trained.judge()
    return trained


def manifest_of(trained: Trained) -> Manifest:
    with releasing(trained.folder) as release:
        return release.manifest


def test_refused_when_the_verdict_is_about_another_model_or_other_criteria(trained: Trained) -> None:
    trained.set(gate={"deploy": True})
    verdict = manifest_of(trained).verdict
    assert verdict is not None and not verdict.deploy  # no criterion: what the gate read counts
    trained.set(gate={"min_map50": 0.1})
    with pytest.raises(StageError, match=r"verdict\.json: .* criteria"):
        manifest_of(trained)
    trained.repro(blind())
    with pytest.raises(StageError, match=rf"verdict\.json: .*another model.*{verdict.onnx_sha256[:12]}"):
        manifest_of(trained)


@pytest.mark.parametrize("content", [None, "", '{"passed": []}'])
def test_refused_when_there_is_no_verdict(trained: Trained, content: str | None) -> None:
    file = verdict_file(trained.folder / ".work")
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(StageError, match=r"verdict\.json"):
        manifest_of(trained)


@pytest.mark.parametrize("file", ["dvc.lock", "artifacts/model/best.pt", "artifacts/report/report.json"])
def test_refused_when_a_file_of_the_run_is_missing(trained: Trained, file: str) -> None:
    (trained.folder / file).unlink()
    with pytest.raises(StageError, match=rf"{file} is missing"):
        manifest_of(trained)


def test_commit_and_changes_are_said_when_there_are_any(trained: Trained) -> None:
    manifest = manifest_of(trained)
    assert manifest.commit is None and manifest.work_tree.startswith("no commit: git rev-parse: fatal: not a git")
    git(trained.folder, "init", "-q")
    assert manifest_of(trained).work_tree.startswith("no commit: ")
    git(trained.folder, "add", "params.yaml", "conf")
    git(trained.folder, *IDENTITY, "commit", "-qm", "first")
    manifest = manifest_of(trained)
    assert manifest.commit == git(trained.folder, "rev-parse", "HEAD")
    assert manifest.work_tree == "as committed"  # artifacts, dvc.lock and the store do not count
    (trained.folder / "params.yaml").write_text((trained.folder / "params.yaml").read_text() + "# a note\n")
    (trained.folder / "conf/new.yaml").write_text("")
    assert manifest_of(trained).work_tree == "changed since: params.yaml, conf/new.yaml"
    assert not list((trained.folder / ".work").glob("publish-*"))  # the scratch folders of all these


def test_a_baseline_is_refused_when_it_is_not_weights(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "yolo.pt").write_bytes(b"<html>")
    with pytest.raises(StoreError, match=r"yolo\.pt"), releasing(trained.folder, tmp_path / "yolo.pt"):
        pass
