"""A run by hand or by the clock: made of the template, only when it disturbs nobody."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.__main__ import main
from runner.errors import ConfigError
from runner.retrain import kubernetes
from runner.retrain.start import BusyError, commit_values, fill, start
from tests.projects import IDENTITY
from tests.retrain.kubernetes import Api
from tests.unit.runner.retrain.conftest import Login

SHA = "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"


def params_of(run: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in run["spec"]["params"]}


def test_a_run_has_the_templates_defaults_when_nothing_is_given(api: Api, login: Login) -> None:
    name = start(login("starter"), SHA, [], {}, now=False)
    (run,) = api.list("pipelineruns")
    assert run["metadata"]["name"] == name
    assert params_of(run) == {"revision": SHA, "overrides": "[]", "gpu": "auto", "gpu-timeout": "20m"}


def test_values_reach_the_run_as_they_are_when_given(api: Api, login: Login) -> None:
    values = ['split.group="^a b"', "train.epochs=3", "model.name=$(params.revision)"]
    start(login("starter"), SHA, values, {"gpu": "off"}, now=False)
    params = params_of(api.list("pipelineruns")[0])
    assert params["gpu"] == "off"
    assert json.loads(params["overrides"].replace("$$(", "$(")) == values


def test_refused_when_another_run_is_at_work(api: Api, login: Login) -> None:
    first = start(login("starter"), SHA, [], {}, now=False)
    for values in ([], ["train.epochs=3"]):
        with pytest.raises(BusyError, match=f"{first} is at work"):
            start(login("starter"), SHA, values, {}, now=False)
    second = start(login("starter"), SHA, [], {}, now=True)
    assert {each["metadata"]["name"] for each in api.list("pipelineruns")} == {first, second}


def test_a_run_of_the_commits_own_values_starts_when_a_trial_is_at_work(api: Api, login: Login) -> None:
    start(login("starter"), SHA, ["train.epochs=3"], {}, now=False)
    name = start(login("starter"), SHA, [], {}, now=False)
    assert ("pipelineruns", name) in api.objects


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


def head(repository: Path, revision: str = "HEAD") -> str:
    done = subprocess.run(["git", "rev-parse", revision], cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_branchs_head_is_trained_when_nothing_else_is_said(
    repository: Path, api: Api, login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    login("starter")
    monkeypatch.setattr(kubernetes.Cluster.__init__, "__defaults__", (api.account("starter"),))
    assert main(["retrain", "NUM_EPOCHS=3", "GPU_TIMEOUT=5m", "GPU=N"]) == 0
    params = params_of(api.list("pipelineruns")[0])
    assert params == {
        "revision": head(repository),
        "overrides": '["train.epochs=3"]',
        "gpu": "off",
        "gpu-timeout": "5m",
    }
    assert "with train.epochs=3: published, never pinned" in capsys.readouterr().out
    assert main(["retrain"]) == 0
    there = api.list("pipelineruns")
    assert main(["retrain", "--if-idle"]) == 0
    assert "nothing started: retrain-" in capsys.readouterr().out
    assert main(["retrain"]) == 1
    assert api.list("pipelineruns") == there


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
