"""What a version is made of: it needs the gate's verdict on this very model, and says what Git knows of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner.errors import StageError, StoreError
from runner.release.contents import Release, releasing
from runner.release.gate import gate
from runner.release.verdict import verdict_file
from tests.support.projects import IDENTITY
from tests.support.trained import Trained, blind


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A project that the gate has judged, not in a repository."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    trained = Trained(tmp_path / "project")
    monkeypatch.chdir(trained.folder)
    gate(trained.folder)
    return trained


def release_of(trained: Trained) -> Release:
    with releasing(trained.folder) as release:
        return release


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *IDENTITY, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_refused_when_the_gate_was_not_asked(trained: Trained) -> None:
    verdict_file(trained.folder / ".work").unlink()
    with pytest.raises(StageError, match=r"verdict\.json is missing, expected the gate's verdict .*runner gate` first"):
        release_of(trained)


def test_refused_when_the_verdict_is_about_another_model(trained: Trained) -> None:
    trained.repro(blind())
    with pytest.raises(StageError, match=r"verdict\.json: is about another model\.onnx \([0-9a-f]{12}…\); run `python"):
        release_of(trained)


def test_refused_when_the_criteria_are_others_now(trained: Trained) -> None:
    trained.set(gate={"min_map50": 0.1})
    with pytest.raises(StageError, match="was given by other criteria than the section gate says now; run `python"):
        release_of(trained)


def test_the_verdict_holds_when_only_deploy_changed(trained: Trained) -> None:
    trained.set(gate={"deploy": True})
    assert release_of(trained).manifest["verdict"]["deploy"] is False


@pytest.mark.parametrize("content", ["", "{}", '{"passed": "yes"}', "[" * 10_000])
def test_refused_when_the_verdict_is_none(trained: Trained, content: str) -> None:
    verdict_file(trained.folder / ".work").write_text(content)
    with pytest.raises(StageError, match=r"verdict\.json: not a verdict \(.*\); run `python -m runner gate` first"):
        release_of(trained)


@pytest.mark.parametrize("file", ["dvc.lock", "artifacts/model/best.pt", "artifacts/report/report.json"])
def test_refused_when_a_file_of_the_run_is_missing(trained: Trained, file: str) -> None:
    (trained.folder / file).unlink()
    with pytest.raises(StageError, match=rf"{file} is missing; `dvc repro` makes it, `dvc pull` fetches it"):
        release_of(trained)


def test_the_commit_is_said_when_there_is_none(trained: Trained) -> None:
    manifest = release_of(trained).manifest
    assert manifest["commit"] is None
    assert manifest["work_tree"].startswith("no commit: git rev-parse: fatal: not a git repository")
    git(trained.folder, "init", "-q")
    assert release_of(trained).manifest["work_tree"].startswith("no commit: ")


def test_the_commit_is_named_when_the_work_tree_is_clean(trained: Trained) -> None:
    git(trained.folder, "init", "-q")
    git(trained.folder, "add", "params.yaml", "conf")
    git(trained.folder, "commit", "-qm", "first")
    manifest = release_of(trained).manifest
    assert manifest["commit"] == git(trained.folder, "rev-parse", "HEAD")
    assert manifest["work_tree"] == "as committed"  # artifacts, dvc.lock and the store do not count


def test_changes_are_said_when_they_are_not_committed(trained: Trained) -> None:
    git(trained.folder, "init", "-q")
    git(trained.folder, "add", "params.yaml", "conf")
    git(trained.folder, "commit", "-qm", "first")
    (trained.folder / "params.yaml").write_text((trained.folder / "params.yaml").read_text() + "# a note\n")
    (trained.folder / "conf/new.yaml").write_text("")
    assert release_of(trained).manifest["work_tree"] == "changed since: params.yaml, conf/new.yaml"


def test_nothing_is_left_behind_when_it_was_released(trained: Trained) -> None:
    release_of(trained)
    assert not list((trained.folder / ".work").glob("publish-*"))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("yolo.pt", None, StoreError, r"yolo\.pt: there is no such file"),
        ("yolo.pt", b"<html>", StoreError, r"yolo\.pt: not weights of torch"),
        ("yolo.onnx", b"x", StoreError, r"yolo\.onnx: its name is not one for weights"),
    ],
)
def test_a_baseline_is_refused_when_it_is_not_weights(
    trained: Trained, tmp_path: Path, name: str, content: bytes | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message), releasing(trained.folder, tmp_path / name):
        pass
