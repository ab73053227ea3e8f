"""Command line of the Tasks of gitops/pipelines: `python -m runner task NAME`.

A Task reads its environment: RUN (the PipelineRun's name), REVISION, REPO_URL, BRANCH, OVERRIDES (a JSON list of
KEY=VALUE), and the variables that its function names. It writes each result to a file in the folder RUNNER_RESULTS.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from runner.errors import ConfigError, RunnerError, StoreError

TASKS = {
    "supersede": "cancel runs of older commits, wait for one that publishes",
    "plan": "tell whether to train, to judge only, or nothing",
    "prepare": "fetch, check and split the pictures",
    "await-gpu": "wait for a GPU; tell where to train",
    "train": "train; without the GPU that was wanted, within the CPU's limits",
    "gate": "export, measure and judge the model",
    "validate": "export the model of a trial, and measure it on val",
    "publish": "publish the model, unless a newer commit supersedes it",
    "pin": "commit dvc.lock, and dev's pin, to the branch",
    "summary": "tell the run's outcome, also after a failure",
    "sweep": "record a trial of a sweep, start the next one; after the last, the table and its pull request",
}
_WITHOUT_STORE = ("supersede", "await-gpu")


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `task` to `python -m runner`."""
    task = commands.add_parser("task", help="run a Task of gitops/pipelines")
    task.set_defaults(run=_run)
    names = task.add_subparsers(dest="task", required=True)
    for name, text in TASKS.items():
        names.add_parser(name, help=text)


def _run(given: argparse.Namespace) -> None:
    """Run a Task. Without STORE_URI the store would be a folder, lost with the Task's Pod: that is an error."""
    from runner.retrain import tasks

    for name in ("RUNNER_RESULTS", *(() if given.task in _WITHOUT_STORE else ("STORE_URI",))):
        _env(name)
    run = _env("RUN")
    match given.task:
        case "supersede":
            _supersede(run)
        case "plan":
            _write_results(answer=tasks.plan(run, _overrides(), gpus=_gpus()))
        case "prepare":
            tasks.prepare(run)
        case "await-gpu":
            _await_gpu(run)
        case "train":
            tasks.train(run, cache=Path(_env("CACHE")), fallback=_env("FALLBACK") == "true")
        case "gate":
            _write_results(release=tasks.gate(run))
        case "validate":
            _write_results(figures=tasks.validate(run))
        case "publish":
            _publish(run)
        case "pin":
            _pin(run)
        case "summary":
            _summary(run)
        case "sweep":
            _sweep(run)


def _supersede(run: str) -> None:
    from runner.cluster.api import Cluster
    from runner.retrain.supersede import supersede

    newer = "" if _overrides() else supersede(Cluster(), run, _newer_commit)
    print(newer or "no newer commit", flush=True)
    _write_results(superseded=newer)


def _await_gpu(run: str) -> None:
    """Wait as MODE, TIMEOUT and GPU (of cluster.env) say."""
    from runner.cluster.api import Cluster
    from runner.cluster.waiting import seconds
    from runner.retrain.await_gpu import await_gpu

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a cancelled run removes its Pod
    mode, timeout_s = _env("MODE"), seconds(_env("TIMEOUT"), "gpu-timeout")
    device = await_gpu(Cluster(), run, mode=mode, kind=os.environ.get("GPU", "none"), timeout_s=timeout_s)
    _write_results(device=device.name, fallback=str(device.is_fallback).lower())


def _gpus() -> int:
    """Return the GPUs of a training, 0 on a CPU, as MODE, GPU and GPU_COUNT (of cluster.env) say."""
    is_on_cpu = os.environ.get("MODE") == "off" or os.environ.get("GPU", "none") == "none"
    return 0 if is_on_cpu else int(os.environ.get("GPU_COUNT", "1"))


def _publish(run: str) -> None:
    from runner.retrain import tasks

    newer = "" if _overrides() else _newer_commit()  # a trial is never superseded
    print(newer or "no newer commit", flush=True)
    results = dict.fromkeys(("model", "version", "pin_mode"), "")
    if not newer:
        results = tasks.publish(run, _env("RELEASE"), _env("REVISION"), is_trial=bool(_overrides()))
    _write_results(superseded=newer, **results)


def _pin(run: str) -> None:
    """Pin MODEL and VERSION; MODE: push or pull-request."""
    from runner.retrain.argocd import send_push
    from runner.retrain.bot_commit import BOT_FILES, Run, pin, propose_for_staging
    from runner.store import open_store

    model, version = _env("MODEL"), int(_env("VERSION"))
    url, branch, store = _env("REPO_URL"), _env("BRANCH"), open_store(Path.cwd())
    pinned = pin(Run(run, _env("RELEASE"), _env("REVISION"), url, branch), store, model, version, mode=_env("MODE"))
    _write_results(said=pinned.said, staging="")
    print(pinned.said, flush=True)
    if pinned.commit:
        print(send_push(url, branch, pinned.commit, BOT_FILES, os.environ), flush=True)
    if not pinned.said.startswith("not pinned"):
        proposal = propose_for_staging(url, branch, store, model, version)
        _write_results(staging=proposal)
        print(proposal)


def _summary(run: str) -> None:
    from runner.cluster.api import Cluster
    from runner.cluster.run_summary import summarize_run
    from runner.cluster.runs import outcomes_of
    from runner.forge.forges import set_status
    from runner.store import open_store

    revision, overrides = _env("REVISION"), _overrides()
    outcomes = outcomes_of(Cluster(), run)
    try:
        store = open_store(Path.cwd())
        summary = summarize_run(run, revision, overrides, outcomes, store)
        key = f"pipeline/{run}/summary.md" if summary.folder is None else f"{summary.folder}/summary/{run}.md"
        store.replace(key, summary.text.encode())
    except StoreError as error:
        print(f"the summary is not in the store: {error}")
        summary = summarize_run(run, revision, overrides, outcomes, None)
    print(summary.text)
    context = "flywheel/try" if overrides else "flywheel/retrain"  # a trial's result is not the commit's
    if not set_status(_env("REPO_URL"), revision, summary.state, summary.line, context):
        print("\nno status on the commit: it needs a repository on a forge, and the key status-token of the Secret git")


def _sweep(run: str) -> None:
    from runner.cluster.api import Cluster
    from runner.cluster.runs import outcomes_of
    from runner.cluster.start import commit_values
    from runner.retrain.branch import cloned
    from runner.store import open_store
    from runner.sweep.record import end_trial
    from runner.sweep.trials import best, summary_of

    cluster, branch = Cluster(), _env("BRANCH")
    sweep, trials = end_trial(cluster, open_store(Path.cwd()), run, outcomes_of(cluster, run))
    found = best(trials)
    if not trials:
        print("other trials are left", flush=True)
        return
    print(summary_of(sweep, trials), flush=True)
    if found:
        with cloned(_env("REPO_URL"), branch, commits=True) as clone:
            try:
                text = summary_of(sweep, trials, markdown=True)
                print(commit_values(clone, found.values, topic="Sweep", body=text, base=branch), flush=True)
            except ConfigError as error:  # the branch has them already, or has changed so that it takes them no more
                print(f"no pull request: {error}", flush=True)


def _newer_commit() -> str:
    """Return the newer commit that supersedes the run's; empty when there is none."""
    from runner.forge.git import retry
    from runner.retrain.branch import newer_on

    return retry(lambda: newer_on(_env("REPO_URL"), _env("BRANCH"), _env("REVISION")))


def _overrides() -> list[str]:
    from pydantic import TypeAdapter, ValidationError

    text = os.environ.get("OVERRIDES") or "[]"
    try:
        return TypeAdapter(list[str]).validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"OVERRIDES: found {text}, expected a JSON list of KEY=VALUE") from error


def _write_results(**results: str) -> None:
    """Write results of the Task, each to the file of its name; `_` in a name stands for `-`."""
    folder = Path(_env("RUNNER_RESULTS"))
    for name, value in results.items():
        (folder / name.replace("_", "-")).write_text(value, encoding="utf-8")


def _env(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise RunnerError(f"{name} is not set; the Tasks of gitops/pipelines set it")
