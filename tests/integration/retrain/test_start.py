import json
from pathlib import Path
from typing import Any

import pytest

from runner.__main__ import main
from runner.cluster.start import BusyError, start
from tests.integration.retrain.conftest import Login, Namespace
from tests.support import gitops
from tests.support.forks import make_fork
from tests.support.projects import git

SHA = "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"


def params_of(run: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in run["spec"]["params"]}


def test_values_reach_the_run_as_they_are_when_given(namespace: Namespace, login: Login) -> None:
    values = ['split.group="^a b"', "train.epochs=3", "model.name=$(params.revision)"]
    name = start(login("starter"), SHA, values, {"gpu": "off"}, now=False)
    (run,) = namespace.list("pipelineruns")
    params = params_of(run)
    assert json.loads(params.pop("overrides").replace("$$(", "$(")) == values
    assert run["metadata"]["name"] == name
    assert params == {"revision": SHA, "gpu": "off", "gpu-timeout": "20m", "sweep": ""}


def test_refused_when_another_run_is_at_work(namespace: Namespace, login: Login) -> None:
    cluster = login("starter")
    trial = start(cluster, SHA, ["train.epochs=3"], {}, now=False)
    first = start(cluster, SHA, [], {}, now=False)  # no trial is in its way
    overrides = {each["metadata"]["name"]: params_of(each)["overrides"] for each in namespace.list("pipelineruns")}
    assert overrides == {trial: '["train.epochs=3"]', first: "[]"}
    with pytest.raises(BusyError, match=first):
        start(cluster, SHA, [], {}, now=False)
    with pytest.raises(BusyError, match=f"{first}|{trial}"):  # begun in the same second, so either is the newest
        start(cluster, SHA, ["train.epochs=3"], {}, now=False)
    second = start(cluster, SHA, [], {}, now=True)
    assert namespace.names("pipelineruns") == {trial, first, second}


def test_the_branchs_head_is_trained_when_nothing_else_is_said(
    namespace: Namespace,
    login: Login,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fork = make_fork(tmp_path, gitops.SAMPLE, monkeypatch, "params.yaml", "conf")
    monkeypatch.chdir(fork)
    account = login("starter").account
    assert account
    kubeconfig = namespace.server.write_kubeconfig("starter", (account / "token").read_text())
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert main(["retrain", "NUM_EPOCHS=3", "GPU_TIMEOUT=5m", "GPU=N"]) == 0
    (trial,) = namespace.list("pipelineruns")
    asked = {"overrides": '["train.epochs=3"]', "gpu": "off", "gpu-timeout": "5m", "sweep": ""}
    assert params_of(trial) == {"revision": git(fork, "rev-parse", "HEAD")} | asked
    assert "train.epochs=3: published, never pinned" in capsys.readouterr().out
    assert main(["retrain"]) == 0
    there = namespace.names("pipelineruns")
    assert main(["retrain", "--if-idle"]) == 0
    assert "nothing started: retrain-" in capsys.readouterr().out
    assert main(["retrain"]) == 1
    assert namespace.names("pipelineruns") == there
