"""The queue of a sweep's trials, on Kubernetes' own API server; the test writes what Tekton's controller would."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.__main__ import main
from runner.cluster.runs import TaskOutcome
from runner.cluster.start import start
from runner.errors import ClusterError
from runner.retrain.await_gpu import Device, await_gpu
from runner.store.folder import FolderStore
from runner.sweep.queue import add_missing, start_next
from runner.sweep.record import end_trial
from runner.sweep.trials import Sweep
from tests.integration.retrain.conftest import Login, Namespace, path
from tests.integration.retrain.test_await_gpu import let_run, probe
from tests.support import gitops
from tests.support.forks import make_fork
from tests.support.listener import tekton_program
from tests.support.processes import meanwhile, until
from tests.support.projects import git

SHA = "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"
GRID = Sweep(words=["train.lr0=0.1,0.2", "presets.model=a,b"], revision=SHA, params={"gpu": "require"})
SEARCH = Sweep(words=["train.lr0=interval(0.1,0.2)"], search=3, revision=SHA)


def set_gpus(namespace: Namespace, count: int) -> None:
    hard = {"requests.nvidia.com/gpu": str(count)}
    content = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpu"}, "spec": {"hard": hard}}
    namespace.create("resourcequotas", content)


def tell(namespace: Namespace, name: str, *tasks: str, ended: str = "") -> None:
    """Write the status of a run: the Tasks that have begun, and how it ended (True, False)."""
    children = [{"name": f"{name}-{task}", "pipelineTaskName": task} for task in tasks]
    conditions = [{"type": "Succeeded", "status": ended, "reason": "Cancelled"}] if ended else []
    status = {"status": {"childReferences": children, "conditions": conditions}}
    namespace.server.ask("PATCH", f"{path('pipelineruns')}/{name}", status)


def outcomes(map50: float | None = None) -> list[TaskOutcome]:
    """Return the Tasks of a trial that trained for two minutes; None: its training failed."""
    trained = TaskOutcome("train-gpu", "failed" if map50 is None else "done", 120, {"error": "no memory"})
    figures = {"map50": map50, "map50_low": 0.5, "map50_high": 0.9, "map50_95": 0.4}
    return [
        trained,
        *([] if map50 is None else [TaskOutcome("validate", "done", 60, {"figures": json.dumps(figures)})]),
    ]


def pending(namespace: Namespace) -> list[str]:
    runs = namespace.list("pipelineruns")
    return sorted(each["metadata"]["name"] for each in runs if each["spec"].get("status") == "PipelineRunPending")


def test_trials_start_in_order_as_gpus_become_free_and_end_as_a_table(
    namespace: Namespace, login: Login, tmp_path: Path
) -> None:
    cluster, store = login("sweeper"), FolderStore(tmp_path)
    set_gpus(namespace, 2)
    names = [GRID.trial_name(number) for number in range(4)]
    assert add_missing(cluster, GRID) == pending(namespace) == names
    made = "---\n".join(yaml.safe_dump(each) for each in namespace.list("pipelineruns"))
    done = subprocess.run([tekton_program(), "validate", "-"], input=made, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert start_next(cluster) == names[:2]
    assert (add_missing(cluster, GRID), start_next(cluster), pending(namespace)) == ([], [], names[2:])

    push = start(login("starter"), SHA, [], {}, now=False)  # no trial is in its way
    tell(namespace, push, "supersede")
    tell(namespace, names[0], "train-gpu", "validate", "sweep")
    assert end_trial(cluster, store, names[0], outcomes(0.7)) == (GRID, [])
    assert pending(namespace) == names[3:]
    tell(namespace, names[0], "sweep", ended="True")
    tell(namespace, names[1], "train-gpu", "sweep")
    assert end_trial(cluster, store, names[1], outcomes()) == (GRID, [])
    assert pending(namespace) == []
    tell(namespace, names[3], "plan", ended="False")  # killed, so it tells nothing itself

    tell(namespace, names[2], "sweep")
    sweep, trials = end_trial(cluster, store, names[2], outcomes(0.8))
    assert (sweep, [(each.number, each.state) for each in trials]) == (
        GRID,
        [(0, "done"), (1, "failed"), (2, "done"), (3, "failed")],
    )
    assert trials[2].values == ["++train.lr0=0.2", "++presets.model=a"]
    assert (trials[2].seconds, trials[2].gpu_minutes, trials[1].said) == (180, 2, "train-gpu: no memory")
    table = store.read(f"runs/sweeps/{GRID.name}/table.md").decode()
    assert "| 2 | 0.2 | a | 0.800 (95 %: 0.50-0.90) | 0.400 | 3.0 | 2.0 | done |" in table
    assert "Best on val of 2 measured trials: trial 2" in table


def test_a_search_makes_a_trial_of_what_it_was_told_when_one_ends(
    namespace: Namespace, login: Login, tmp_path: Path
) -> None:
    cluster, store = login("sweeper"), FolderStore(tmp_path)  # no quota: one at a time
    values = []
    for number in range(SEARCH.size):
        name = SEARCH.trial_name(number)
        if number == 0:
            assert (add_missing(cluster, SEARCH), start_next(cluster)) == ([name], [name])
        assert namespace.names("pipelineruns") == {SEARCH.trial_name(each) for each in range(number + 1)}
        tell(namespace, name, "sweep")
        _, trials = end_trial(cluster, store, name, outcomes(0.5))
        values += [each.values for each in trials]
        tell(namespace, name, "sweep", ended="True")
    assert len({json.dumps(each) for each in values}) == 3


def test_a_sweep_goes_on_when_its_command_is_run_again(
    namespace: Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fork = make_fork(tmp_path, gitops.SAMPLE, monkeypatch, "params.yaml", "conf")
    monkeypatch.chdir(fork)
    monkeypatch.setenv("KUBECONFIG", str(namespace.server.kubeconfig))
    command = ["sweep", "train.lr0=0.001,0.01 seed=1,2", "GPU=N"]
    assert main(command) == 0
    first, second, third, fourth = sorted(namespace.names("pipelineruns"))
    assert pending(namespace) == [second, third, fourth]
    (trial,) = (each for each in namespace.list("pipelineruns") if each["metadata"]["name"] == fourth)
    params: dict[str, Any] = {each["name"]: each["value"] for each in trial["spec"]["params"]}
    assert json.loads(params["overrides"]) == ["++train.lr0=0.01", "++seed=2"]
    assert (params["revision"], params["gpu"], params["sweep"]) == (git(fork, "rev-parse", "HEAD"), "off", fourth[:-4])

    namespace.delete("pipelineruns", third)  # as if the command had been interrupted
    tell(namespace, first, "plan", ended="False")  # killed with its Task that would have started the next one
    git(fork, "commit", "--quiet", "--allow-empty", "--message", "another")
    git(fork, "push", "--quiet", "origin", "HEAD")
    assert main(command) == 0
    assert namespace.names("pipelineruns") == {first, second, third, fourth}
    assert pending(namespace) == [third, fourth]
    assert f"1 of them new; started: {second}" in capsys.readouterr().out


def test_the_night_starts_what_a_killed_task_left_pending(
    namespace: Namespace, login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_gpus(namespace, 1)
    cluster, at_night = login("sweeper"), login("starter")
    first, second, third, fourth = add_missing(cluster, GRID)
    assert (start_next(cluster), start_next(at_night)) == ([first], [])
    tell(namespace, first, "plan", "sweep", ended="False")
    assert (start_next(at_night), pending(namespace)) == ([second], [third, fourth])
    tell(namespace, second, "plan", ended="False")
    monkeypatch.setenv("KUBECONFIG", str(namespace.server.kubeconfig))
    assert main(["sweep", "--go-on"]) == 0
    assert (pending(namespace), capsys.readouterr().out) == ([fourth], f"trials started: {third}\n")


def test_a_run_of_a_commit_gets_the_next_gpu_when_a_trial_waits_too(
    namespace: Namespace, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    name = start(login("starter"), SHA, ["train.lr0=0.1"], {}, now=False)
    push = start(login("starter"), SHA, [], {}, now=False)
    tell(namespace, name, "await-gpu")
    tell(namespace, push, "await-gpu")

    def go_first() -> None:
        until(lambda: "goes first" in capsys.readouterr().out)
        assert namespace.list("pods") == []
        tell(namespace, push, "await-gpu", "train-gpu")
        probe(namespace, name=f"gpu-probe-{name}")
        let_run(namespace, f"gpu-probe-{name}")

    with meanwhile(go_first):
        found = await_gpu(login("supervisor"), name, mode="auto", kind="fixed", timeout_s=60, pause_s=0.1)
    assert found == Device("gpu")


def test_refused_when_the_run_is_no_trial_of_a_sweep(namespace: Namespace, login: Login, tmp_path: Path) -> None:
    name = start(login("starter"), SHA, ["train.lr0=0.1"], {}, now=False)
    with pytest.raises(ClusterError, match=name):
        end_trial(login("sweeper"), FolderStore(tmp_path), name, outcomes(0.5))
