"""A run by hand, until a cluster is asked: its template filled in, wrong values refused, a pull request instead."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.__main__ import main
from runner.cluster.start import commit_values, fill
from runner.errors import ConfigError
from tests.support import gitops
from tests.support.forks import make_fork
from tests.support.projects import Run

SHA = "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"


@pytest.fixture
def template(project: Path) -> Any:
    return yaml.safe_load((project / "gitops/pipelines/base/trigger/template.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("given", "name"), [({"revision": SHA, "colour": "red"}, "colour"), ({}, "revision")])
def test_refused_when_the_template_has_no_such_param_or_no_value(
    template: Any, given: dict[str, str], name: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: "):
        fill(template, given)


def test_a_value_reaches_the_run_as_it_is_when_it_has_quotes_and_variables(template: Any) -> None:
    filled = fill(template, {"revision": SHA, "overrides": '["a=\\"é $(params.revision)\\""]'})
    params = {each["name"]: each["value"] for each in filled["spec"]["params"]}
    assert params["revision"] == SHA
    assert params["overrides"] == '["a=\\"é $$(params.revision)\\""]'  # which Tekton reads as $(…) and leaves alone


@pytest.fixture
def fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a remote, as a data scientist has it."""
    clone = make_fork(tmp_path, gitops.SAMPLE, monkeypatch, "params.yaml", "conf")
    monkeypatch.chdir(clone)
    return clone


@pytest.mark.parametrize(
    "value", ["train.epochs=0", "NUM_EPOCHS=many", "train.epoch=3", "GPU_TIMEOUT=5", "--revision=1a2b3c4"]
)
def test_a_wrong_value_is_refused_before_anything_is_started(
    fork: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (fork / "params.yaml").read_bytes()
    assert main(["retrain", value]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert (fork / "params.yaml").read_bytes() == before


def test_cluster_env_is_named_when_no_cluster_is_set_up(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gitops" / "cluster").mkdir(parents=True)
    shutil.copy(project / "gitops/cluster/cluster.env", tmp_path / "gitops" / "cluster")
    monkeypatch.chdir(tmp_path)
    assert main(["retrain"]) == 1
    assert "error: gitops/cluster/cluster.env" in capsys.readouterr().err


def test_a_pull_request_has_the_values_when_they_are_to_be_committed(fork: Path, run: Run) -> None:
    before = (fork / "params.yaml").read_bytes()
    said = commit_values(fork, ["train.epochs=3"])
    assert "branch retrain/train.epochs-3 is pushed" in said
    shown = run("git", "show", "retrain/train.epochs-3:params.yaml", cwd=fork.parent / "remote")
    assert yaml.safe_load(shown.stdout)["train"]["epochs"] == 3
    assert (fork / "params.yaml").read_bytes() == before
    with pytest.raises(ConfigError, match="seed=0"):
        commit_values(fork, ["seed=0"])
