"""Command line of the Tasks of gitops/pipelines.

The Tasks set the environment: RUN (the PipelineRun's name), REVISION, REPO_URL, BRANCH, and OVERRIDES (a JSON list of
KEY=VALUE).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from runner.errors import ConfigError, RunnerError, StoreError

NAMES = ("supersede", "await-gpu", "task", "pin", "report")
_WITH_STORE = ("task", "pin", "report")  # without STORE_URI the store would be a folder, lost with the Task's pod


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to `python -m runner`."""
    supersede = commands.add_parser("supersede", help="task: cancel runs of older commits, wait for one that publishes")
    supersede.add_argument("--superseded", type=Path, required=True, metavar="FILE", help="for the newer commit")
    supersede.add_argument("--patience", default="45m", help="how long to wait (default: 45m)")
    gpu = commands.add_parser("await-gpu", help="task: wait for a GPU; say where to train")
    gpu.add_argument("--mode", required=True, help="auto | require | off")
    gpu.add_argument("--timeout", required=True, help="such as 20m")
    gpu.add_argument("--device", type=Path, required=True, metavar="FILE", help="for the answer: gpu | cpu")
    gpu.add_argument("--fallback", type=Path, required=True, metavar="FILE", help="for: true | false")
    _add_tasks(commands.add_parser("task", help="task: plan, prepare, train, gate or publish, with the run's data"))
    pin = commands.add_parser("pin", help="task: bring dvc.lock, and dev's pin, to the branch")
    pin.add_argument("--model", required=True)
    pin.add_argument("--version", type=int, required=True)
    pin.add_argument("--mode", required=True, help="push | pull-request")
    pin.add_argument("--said", type=Path, required=True, metavar="FILE", help="for what was done")
    pin.add_argument(
        "--staging", type=Path, required=True, metavar="FILE", help="for the proposal to staging; else empty"
    )
    commands.add_parser("report", help="task: tell what became of the run, also when it failed")


def _add_tasks(parser: argparse.ArgumentParser) -> None:
    names = parser.add_subparsers(dest="name", required=True)
    plan = names.add_parser("plan", help="what is there to do?")
    plan.add_argument("--answer", type=Path, required=True, metavar="FILE", help="for train, gate-only or nothing")
    names.add_parser("prepare", help="fetch, check and deal the pictures")
    train = names.add_parser("train", help="run the stages that are left")
    train.add_argument("--cache", type=Path, required=True, metavar="FOLDER", help="of DVC")
    train.add_argument(
        "--fallback", required=True, choices=("true", "false"), help="no GPU came: the CPU's limits hold"
    )
    names.add_parser("gate", help="judge the model")
    publish = names.add_parser("publish", help="bring the model into the store, unless a newer commit is there")
    for name in ("superseded", "model", "version", "pin-mode"):
        publish.add_argument(f"--{name}", type=Path, required=True, metavar="FILE", help="for the result")


def run(given: argparse.Namespace) -> int:
    """Run one of the commands; return its exit status. A Task without STORE_URI is an error."""
    if given.command in _WITH_STORE:
        _env("STORE_URI")
    {
        "supersede": _supersede,
        "await-gpu": _await_gpu,
        "task": _task,
        "pin": _pin,
        "report": _report,
    }[given.command](given)
    return 0


def _supersede(given: argparse.Namespace) -> None:
    from runner.cluster.api import Cluster
    from runner.cluster.waiting import seconds
    from runner.retrain.supersede import supersede

    name, patience = _env("RUN"), seconds(given.patience)
    reason = "" if _overrides() else supersede(Cluster(), name, _newer_commit, patience=patience)
    print(reason or "nothing takes its place", flush=True)
    given.superseded.write_text(reason)


def _await_gpu(given: argparse.Namespace) -> None:
    from runner.cluster.api import Cluster
    from runner.cluster.waiting import seconds
    from runner.retrain.await_gpu import await_gpu

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a cancelled run removes its Pod
    kind = os.environ.get("GPU", "none")
    device = await_gpu(Cluster(), _env("RUN"), mode=given.mode, kind=kind, timeout=seconds(given.timeout))
    given.device.write_text(device.name)
    given.fallback.write_text(str(device.is_fallback).lower())


def _task(given: argparse.Namespace) -> None:
    from runner.retrain import tasks

    name = _env("RUN")
    if given.name == "plan":
        given.answer.write_text(tasks.plan(name, _overrides()))
    elif given.name == "prepare":
        tasks.prepare(name)
    elif given.name == "train":
        tasks.train(name, cache=given.cache, fallback=given.fallback == "true")
    elif given.name == "gate":
        tasks.gate(name)
    else:
        _publish(given, name)


def _publish(given: argparse.Namespace, name: str) -> None:
    from runner.retrain import tasks

    reason = "" if _overrides() else _newer_commit()  # a trial is never superseded
    print(reason or "still the newest", flush=True)
    given.superseded.write_text(reason)
    published = ("", "", "") if reason else tasks.publish(name)
    for file, value in zip((given.model, given.version, given.pin_mode), published, strict=True):
        file.write_text(str(value))


def _newer_commit() -> str:
    """Return the newer commit that supersedes the run's; empty when there is none."""
    from runner.retrain.branch import insist, newer_on

    return insist(lambda: newer_on(_env("REPO_URL"), _env("BRANCH"), _env("REVISION")))


def _pin(given: argparse.Namespace) -> None:
    from runner.retrain.argocd import tell
    from runner.retrain.bot_commit import MINE, Run, pin
    from runner.retrain.staging import propose_for_staging
    from runner.store import open_store

    run_, store = Run(_env("RUN"), _env("REVISION"), _env("REPO_URL"), _env("BRANCH")), open_store(Path.cwd())
    given.staging.write_text("")
    pinned = pin(run_, store, given.model, given.version, mode=given.mode)
    given.said.write_text(pinned.said)
    print(pinned.said, flush=True)
    if pinned.commit:
        print(tell(run_.url, run_.branch, pinned.commit, MINE, os.environ), flush=True)
    if not pinned.said.startswith("not pinned"):
        said = propose_for_staging(run_.url, run_.branch, store, given.model, given.version)
        given.staging.write_text(said)
        print(said)


def _report(given: argparse.Namespace) -> None:
    from runner.cluster.api import Cluster
    from runner.cluster.run_report import report, steps_of
    from runner.cluster.runs import task_runs
    from runner.forge.github import ask, remote_of
    from runner.retrain.branch import insist
    from runner.store import open_store

    name, revision = _env("RUN"), _env("REVISION")
    steps = [step for step in steps_of(task_runs(Cluster(), name)) if step.name != "summary"]
    try:
        store = open_store(Path.cwd())
        told = report(name, revision, _overrides(), steps, store)
        key = f"pipeline/{name}/summary.md" if told.folder is None else f"{told.folder}/summary/{name}.md"
        store.replace(key, told.text.encode())
    except StoreError as error:
        print(f"the store was not asked: {error}")
        told = report(name, revision, _overrides(), steps, None)
    print(told.text)
    where, token = remote_of(_env("REPO_URL")), os.environ.get("GITHUB_TOKEN")
    if not token or not where.api:
        print("\nno status on the commit: it needs a GitHub repository, and the key read-token of the Secret git")
        return
    line = told.line if len(told.line) <= 140 else f"{told.line[:139]}…"  # GitHub's limit
    context = "flywheel/try" if _overrides() else "flywheel/retrain"  # a trial's result is not the commit's
    status = {"state": told.state, "description": line, "context": context}
    address = f"{where.api.rstrip('/')}/repos/{where.repository}/statuses/{revision}"
    insist(lambda: ask("POST", address, token, status), tries=4)


def _overrides() -> list[str]:
    try:
        values = json.loads(os.environ.get("OVERRIDES") or "[]")
    except ValueError as error:
        raise ConfigError(f"OVERRIDES: {error}, expected a JSON list of KEY=VALUE") from error
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ConfigError(f"OVERRIDES: found {values!r}, expected a JSON list of KEY=VALUE")
    return values


def _env(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise RunnerError(f"{name} is not set; the Tasks of gitops/pipelines set it")
