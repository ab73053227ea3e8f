"""Command line of the Tasks of gitops/pipelines: `python -m runner task NAME`.

A Task reads its environment: RUN (the PipelineRun's name), REVISION, REPO_URL, BRANCH, OVERRIDES (a JSON list of
KEY=VALUE), and the variables that its function names. It writes each result to a file in the folder RUNNER_RESULTS.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from runner.errors import ConfigError, RunnerError, StoreError

_WITHOUT_STORE = ("supersede", "await-gpu")


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `task` to `python -m runner`."""
    names = commands.add_parser("task", help="a Task of gitops/pipelines").add_subparsers(dest="task", required=True)
    for name, (text, _) in TASKS.items():
        names.add_parser(name, help=text, description=text).set_defaults(run=_run)


def _run(given: argparse.Namespace) -> None:
    """Run a Task. Without STORE_URI the store would be a folder, lost with the Task's Pod: that is an error."""
    for name in ("RUN", "RUNNER_RESULTS", *(() if given.task in _WITHOUT_STORE else ("STORE_URI",))):
        _env(name)
    TASKS[given.task][1]()


def _supersede() -> None:
    from runner.cluster.api import Cluster
    from runner.retrain.supersede import supersede

    newer = "" if _overrides() else supersede(Cluster(), _env("RUN"), _newer_commit)
    print(newer or "no newer commit", flush=True)
    _write_results(superseded=newer)


def _plan() -> None:
    from runner.retrain import tasks

    _write_results(answer=tasks.plan(_env("RUN"), _overrides()))


def _prepare() -> None:
    from runner.retrain import tasks

    tasks.prepare(_env("RUN"))


def _await_gpu() -> None:
    """Wait as MODE, TIMEOUT and GPU (of cluster.env) say."""
    from runner.cluster.api import Cluster
    from runner.cluster.waiting import seconds
    from runner.retrain.await_gpu import await_gpu

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a cancelled run removes its Pod
    mode, timeout_s = _env("MODE"), seconds(_env("TIMEOUT"), "gpu-timeout")
    device = await_gpu(Cluster(), _env("RUN"), mode=mode, kind=os.environ.get("GPU", "none"), timeout_s=timeout_s)
    _write_results(device=device.name, fallback=str(device.is_fallback).lower())


def _train() -> None:
    """Train with DVC's cache in CACHE; FALLBACK: `true` when no GPU came."""
    from runner.retrain import tasks

    tasks.train(_env("RUN"), cache=Path(_env("CACHE")), fallback=_env("FALLBACK") == "true")


def _gate() -> None:
    from runner.retrain import tasks

    tasks.gate(_env("RUN"))


def _publish() -> None:
    from runner.retrain import tasks

    newer = "" if _overrides() else _newer_commit()  # a trial is never superseded
    print(newer or "no newer commit", flush=True)
    model, version, pin_mode = ("", "", "") if newer else tasks.publish(_env("RUN"))
    _write_results(superseded=newer, model=model, version=str(version), pin_mode=pin_mode)


def _pin() -> None:
    """Pin MODEL and VERSION; MODE: push or pull-request."""
    from runner.retrain.argocd import send_push
    from runner.retrain.bot_commit import BOT_FILES, Run, pin, propose_for_staging
    from runner.store import open_store

    model, version = _env("MODEL"), int(_env("VERSION"))
    run, store = Run(_env("RUN"), _env("REVISION"), _env("REPO_URL"), _env("BRANCH")), open_store(Path.cwd())
    pinned = pin(run, store, model, version, mode=_env("MODE"))
    _write_results(said=pinned.said, staging="")
    print(pinned.said, flush=True)
    if pinned.commit:
        print(send_push(run.url, run.branch, pinned.commit, BOT_FILES, os.environ), flush=True)
    if not pinned.said.startswith("not pinned"):
        proposal = propose_for_staging(run.url, run.branch, store, model, version)
        _write_results(staging=proposal)
        print(proposal)


def _summary() -> None:
    from runner.cluster.api import Cluster
    from runner.cluster.run_summary import summarize_run
    from runner.cluster.runs import steps_of
    from runner.forge.github import set_status
    from runner.store import open_store

    name, revision, overrides = _env("RUN"), _env("REVISION"), _overrides()
    steps = steps_of(Cluster(), name)
    try:
        store = open_store(Path.cwd())
        summary = summarize_run(name, revision, overrides, steps, store)
        key = f"pipeline/{name}/summary.md" if summary.folder is None else f"{summary.folder}/summary/{name}.md"
        store.replace(key, summary.text.encode())
    except StoreError as error:
        print(f"the summary is not in the store: {error}")
        summary = summarize_run(name, revision, overrides, steps, None)
    print(summary.text)
    context = "flywheel/try" if overrides else "flywheel/retrain"  # a trial's result is not the commit's
    if not set_status(_env("REPO_URL"), revision, summary.state, summary.line, context):
        print("\nno status on the commit: it needs a GitHub repository, and the key read-token of the Secret git")


def _newer_commit() -> str:
    """Return the newer commit that supersedes the run's; empty when there is none."""
    from runner.forge.git import retry
    from runner.retrain.branch import newer_on

    return retry(lambda: newer_on(_env("REPO_URL"), _env("BRANCH"), _env("REVISION")))


def _overrides() -> list[str]:
    try:
        values = json.loads(os.environ.get("OVERRIDES") or "[]")
    except ValueError as error:
        raise ConfigError(f"OVERRIDES: {error}, expected a JSON list of KEY=VALUE") from error
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ConfigError(f"OVERRIDES: found {values!r}, expected a JSON list of KEY=VALUE")
    return values


def _write_results(**results: str) -> None:
    """Write results of the Task, each to the file of its name; `_` in a name stands for `-`."""
    folder = Path(_env("RUNNER_RESULTS"))
    for name, value in results.items():
        (folder / name.replace("_", "-")).write_text(value, encoding="utf-8")


def _env(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise RunnerError(f"{name} is not set; the Tasks of gitops/pipelines set it")


TASKS = {
    "supersede": ("cancel runs of older commits, wait for one that publishes", _supersede),
    "plan": ("tell whether to train, to judge only, or nothing", _plan),
    "prepare": ("fetch, check and split the pictures", _prepare),
    "await-gpu": ("wait for a GPU; tell where to train", _await_gpu),
    "train": ("train; without the GPU that was wanted, within the CPU's limits", _train),
    "gate": ("export, measure and judge the model", _gate),
    "publish": ("publish the model, unless a newer commit supersedes it", _publish),
    "pin": ("commit dvc.lock, and dev's pin, to the branch", _pin),
    "summary": ("tell the run's outcome, also after a failure", _summary),
}
