"""A run by hand, until a cluster is asked: its template filled in, wrong values refused, a pull request instead."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from runner.__main__ import main
from runner.cluster.start import commit_values, fill
from runner.errors import ConfigError
from tests.support.projects import IDENTITY

SHA = "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"


@pytest.mark.parametrize(
    ("given", "message"),
    [({"revision": SHA, "colour": "red"}, "colour: the TriggerTemplate has no such param"), ({}, "revision: ")],
)
def test_refused_when_the_template_has_no_such_param_or_no_value(
    project: Path, given: dict[str, str], message: str
) -> None:
    file = project / "gitops/pipelines/base/trigger/template.yaml"
    with pytest.raises(ConfigError, match=message):
        fill(yaml.safe_load(file.read_text(encoding="utf-8")), given)


@pytest.fixture
def repository(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a remote, as a data scientist has it."""
    clone, remote = tmp_path / "clone", tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True)
    subprocess.run(["git", "init", "-q", "-b", "main", str(clone)], check=True)
    for name in ("params.yaml", "conf", "gitops/cluster"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", project / name, clone / name], check=True)
    facts = clone / "gitops/cluster/cluster.env"
    facts.write_text(facts.read_text().replace("REPO_URL=REPLACE-ME", f"REPO_URL={remote}"))
    for command in (
        ["add", "-A"],
        [*IDENTITY, "commit", "-qm", "first"],
        ["remote", "add", "origin", str(remote)],
        ["push", "-q", "origin", "main"],
    ):
        subprocess.run(["git", *command], cwd=clone, check=True)
    monkeypatch.chdir(clone)
    for name in ("REPO_URL", "GITHUB_TOKEN", "GITHUB_API_URL", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    return clone


@pytest.mark.parametrize(
    "value", ["train.epochs=0", "NUM_EPOCHS=many", "train.epoch=3", "GPU_TIMEOUT=5", "--revision=1a2b3c4"]
)
def test_a_wrong_value_is_refused_before_anything_is_started(
    repository: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (repository / "params.yaml").read_bytes()
    assert main(["retrain", value]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert (repository / "params.yaml").read_bytes() == before


def test_a_pull_request_has_the_values_when_they_are_to_be_committed(repository: Path) -> None:
    before = (repository / "params.yaml").read_bytes()
    said = commit_values(repository, ["train.epochs=3"])
    assert "branch retrain/train.epochs-3 is pushed" in said
    remote = repository.parent / "remote.git"
    shown = subprocess.run(
        ["git", "show", "retrain/train.epochs-3:params.yaml"], cwd=remote, capture_output=True, text=True, check=True
    )
    assert yaml.safe_load(shown.stdout)["train"]["epochs"] == 3
    assert (repository / "params.yaml").read_bytes() == before
    with pytest.raises(ConfigError, match="says seed=0 already: there is nothing to propose"):
        commit_values(repository, ["seed=0"])
