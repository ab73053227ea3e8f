"""The installation that all tests of the cluster look at: made once in a cluster, by the steps of gitops/README.md."""

import json
import os
import re
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.cluster import gitea
from tests.cluster.desk import Desk, applications, fill_in, fork, kubectl, set_images, supply_secrets, until
from tests.cluster.places import CACHE, KUBECONFIG
from tests.cluster.runs import at_work, pins, run_of

DESK = CACHE / "state/desk"  # goes with the cluster
NOTES = DESK / "notes.json"  # the forge's tokens
# So little training learns nothing, and few pictures show as much.
QUICK = {
    "presets": {"train": "smoke"},
    "model": {"imgsz": 64},
    "gate": {"min_map50": 0.0, "min_boxes": 1, "max_latency": 100.0, "max_class_drop": 1.0},
    "prepare": {"min_pictures": 10, "min_per_class": 1},
    "dataset": {"sample": {"pictures": 40, "seed": 0}},  # so many that test has a box of every class
    "train": {"epochs": 1},
}


BY_HAND = {"flywheel-serving-prod", "serving-prod"}  # somebody syncs it; the latter of an earlier version


def not_settled() -> dict[str, str]:
    """Return the Applications that are not Synced and Healthy, and what they say."""
    found = applications()
    return {name: said for name, said in found.items() if said != "Synced Healthy" and name not in BY_HAND}


def settle(seconds: float = 600) -> None:
    """Wait until every Application is Synced and Healthy; fail with those that are not."""
    end = time.monotonic() + seconds
    while left := not_settled():
        assert time.monotonic() < end, f"not Synced and Healthy within {seconds:.0f} s: {left}"
        time.sleep(2)


def require() -> None:
    """Skip where there is no cluster, but fail in CI."""
    if KUBECONFIG.is_file() and subprocess.run(["getent", "hosts", "git.flywheel.test"], check=False).returncode == 0:
        return
    reason = "the cluster does not run: make cluster, then make cluster-test (root on a Debian-like machine, Go)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def earlier_desk() -> Desk:
    """Return the desk of the installation that the cluster has."""
    notes = json.loads(NOTES.read_text(encoding="utf-8"))
    return Desk(DESK / "flyingthings", gitea.Gitea(**notes["forge"]))


@pytest.fixture(scope="session")
def installed() -> Desk:
    """The first day, up to the Secrets: the desk of its owner, of an earlier session where the cluster has one."""
    require()
    if NOTES.is_file():
        return earlier_desk()
    desk = fork(DESK, gitea.Gitea().make(), QUICK)
    fill_in(desk)
    set_images(desk)
    told = desk.type("make bootstrap PLATFORM=kubernetes")
    (narrow,) = re.findall(r"^ *(kubectl delete clusterrolebinding .*)$", told, re.MULTILINE)
    desk.shell(narrow)  # Argo CD has the rights that are Flywheel's, and no others
    supply_secrets(desk)
    NOTES.write_text(json.dumps({"forge": asdict(desk.forge)}), encoding="utf-8")
    return desk


@dataclass
class First:
    """The first training: its commit, its PipelineRun, what `make first-run` printed, the seconds until dev served."""

    commit: str
    run: str
    told: str
    seconds: float


@pytest.fixture(scope="session")
def settled(installed: Desk) -> Desk:
    """The desk, once every Application is Synced and Healthy."""
    until(lambda: len(applications()) > 10, 300, "Applications")
    settle()
    return installed


@pytest.fixture(scope="session")
def first(settled: Desk) -> First:
    """The first push, through the forge's own webhook, and `make first-run`, which waits until dev serves."""
    if trained := pins(settled):
        return First("", trained[-1], "", 0)
    began = time.monotonic()
    commit = settled.retrain("The first training", epochs=2)
    run = run_of(commit)
    told = settled.type("make first-run")
    return First(commit, run, told, time.monotonic() - began)


@pytest.fixture
def desk(settled: Desk, first: First) -> Desk:
    """The owner's desk, once dev serves a model and nothing is at work."""
    assert first.run
    until(lambda: not at_work(), 120, "nothing is at work")
    settled.pull()
    return settled


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the loop come first: it begins with no pin, and what is broken on purpose goes on from there."""
    items.sort(key=lambda item: item.get_closest_marker("faults") is not None)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once why a test failed: the whole takes more than an hour."""
    if report.failed:
        print(f"\n{report.longreprtext}", flush=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave what helps to understand a failure."""
    folder = os.environ.get("CLUSTER_REPORT")
    if folder and session.testsfailed:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name in ("applications", "pods", "events", "pipelineruns", "taskruns"):
            said = kubectl("get", name, "--all-namespaces", "--output=wide", fails=True)
            Path(folder, f"{name}.txt").write_text(said)
