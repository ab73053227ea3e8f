"""PipelineRuns of the retrain as the cluster has them, and what a retrain must leave behind."""

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.cluster.desk import Desk, Object, get, items, kubectl, until, versions
from tests.support.pictures import encoded, gradient

NAMESPACE = "--namespace=flywheel-pipelines"
DEV = "https://flywheel-dev.apps.flywheel.test"
PIN = "gitops/serving/environments/dev/model.env"
TRAINING_S = 900  # at most, from a push to its end


def run_of(commit: str, seconds: float = 60) -> str:
    """Return the name of the PipelineRun of a commit, the newest one."""

    def found() -> str:
        runs = [each for each in items("pipelineruns", NAMESPACE) if revision_of(each) == commit]
        runs.sort(key=lambda each: str(each["metadata"]["creationTimestamp"]))
        return str(runs[-1]["metadata"]["name"]) if runs else ""

    return str(until(found, seconds, f"a PipelineRun of {commit[:12]}"))


def revision_of(run: Object) -> str:
    return next(str(each["value"]) for each in run["spec"]["params"] if each["name"] == "revision")


def condition(run: str) -> Object:
    """Return the condition Succeeded of a PipelineRun; empty before it has one."""
    conditions = get("pipelinerun", run, NAMESPACE).get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == "Succeeded"), {})


def ended(run: str, seconds: float = TRAINING_S) -> Object:
    """Wait for the end of a PipelineRun; return its condition."""

    def is_over() -> Object:
        found = condition(run)
        return found if found.get("status", "Unknown") != "Unknown" else {}

    return dict(until(is_over, seconds, f"the end of {run}", every=1))


def tasks(run: str) -> dict[str, Object]:
    """Return the TaskRuns of a PipelineRun, by the Task of the Pipeline."""
    found = items("taskruns", NAMESPACE, f"--selector=tekton.dev/pipelineRun={run}")
    return {each["metadata"]["labels"]["tekton.dev/pipelineTask"]: each for each in found}


def pod_of(run: str, task: str, seconds: float = TRAINING_S) -> str:
    """Wait until a Task's own step runs; return its Pod."""

    def running() -> str:
        each = tasks(run).get(task, {}).get("status", {})
        states = {step["name"]: step for step in each.get("steps", [])}
        begun = any("running" in state and name != "clone" for name, state in states.items())
        return str(each.get("podName", "")) if begun else ""

    return str(until(running, seconds, f"{task} of {run} at work", every=0.3))


def log(run: str, task: str) -> str:
    """Return what a Task's last Pod printed."""
    pod = tasks(run)[task]["status"]["podName"]
    return kubectl("logs", pod, NAMESPACE, "--all-containers", fails=True)


def seconds_of(run: str) -> dict[str, float]:
    """Return how long each Task took, in the order in which they began."""
    found = {}
    for name, each in sorted(tasks(run).items(), key=lambda pair: str(pair[1]["status"].get("startTime", "~"))):
        status = each["status"]
        if "completionTime" in status:
            begun, done = (datetime.fromisoformat(status[key]) for key in ("startTime", "completionTime"))
            found[name] = (done - begun).total_seconds()
    return found


def served(environment: str = "dev", key: str = "") -> Object:
    """Return the manifest of the model that an environment answers with; empty where it does not."""
    url = f"https://flywheel-{environment}.apps.flywheel.test/model"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"X-API-Key": key}), timeout=5) as answer:
            return dict(json.load(answer)["manifest"])
    except (OSError, ValueError):
        return {}


def rolled_out(environment: str) -> bool:
    """Whether an environment has servers, and all of them are of the newest pin."""
    model = get("deployment", "model", f"--namespace=flywheel-{environment}")
    wanted, status = model["spec"]["replicas"], model["status"]
    counts = {status.get(key) for key in ("readyReplicas", "updatedReplicas", "replicas")}
    return bool(wanted) and counts == {wanted} and status["observedGeneration"] == model["metadata"]["generation"]


def detect() -> Object:
    """Send dev a picture, as serving/README.md does; return its answer."""
    with TemporaryDirectory() as folder:
        picture = Path(folder, "base.jpg")
        picture.write_bytes(encoded(gradient(320, 240)))
        form, url = f"file=@{picture}", f"{DEV}/detect"
        done = subprocess.run(["curl", "-sS", "-F", form, url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def pins(desk: Desk) -> list[str]:
    """Return what the bot's commits on main pinned, newest first: flyingthings/2, flyingthings/1."""
    messages = [str(each["commit"]["message"]) for each in desk.forge.commits()]
    return [
        line.partition(": ")[2] for text in messages for line in text.splitlines() if line.startswith("Flywheel-Pin: ")
    ]


def assert_pinned_and_served(desk: Desk, commit: str, run: str, before: list[str]) -> int:
    """Hold the end of a retrain against what it must be; return the version.

    One pin more and no other commit of the bot, the store has every version from 1, dev answers a picture with the
    newest and has the digest that Git names, and no Pod of the run is left at work.

    Args:
        desk: of the fork.
        commit: that was trained.
        run: its PipelineRun, which has ended.
        before: what `pins` said before the push.
    """
    assert condition(run)["status"] == "True", condition(run)
    after = pins(desk)
    assert after[1:] == before, after
    name, _, newest = after[0].partition("/")
    number = int(newest)
    assert versions(desk, name) == list(range(1, number + 1))
    desk.pull()
    pin = dict(line.split("=", 1) for line in (desk.clone / PIN).read_text().splitlines() if "=" in line)
    assert (pin["MODEL_VERSION"], pin["MODEL_COMMIT"]) == (str(number), commit)
    until(lambda: served().get("version") == number and rolled_out("dev"), 420, f"dev serves version {number}")
    # The Ingress may send a request to a former Pod for two more seconds.
    until(lambda: detect()["model"]["version"] == str(number), 30, f"dev detects with version {number}")
    maps = [each.get("data", {}) for each in items("configmaps", "--namespace=flywheel-dev")]
    assert pin["MODEL_SHA256"] in {each.get("MODEL_SHA256") for each in maps}
    assert not at_work(), at_work()
    return number


def at_work() -> list[str]:
    """Return the Pods of retrains that run or wait."""
    pods = items("pods", NAMESPACE, "--selector=tekton.dev/pipelineRun")
    return [each["metadata"]["name"] for each in pods if each["status"]["phase"] in ("Running", "Pending")]


@dataclass
class Client:
    """Somebody who asks dev for its model every 200 ms, through the Ingress."""

    asked: int = 0
    lost: list[str] = field(default_factory=list)


@contextmanager
def client() -> Iterator[Client]:
    """Ask until the block ends."""
    it, over = Client(), threading.Event()

    def ask() -> None:
        while not over.wait(0.2):
            it.asked += 1
            try:
                with urllib.request.urlopen(f"{DEV}/model", timeout=10) as answer:
                    answer.read()
            except (OSError, urllib.error.URLError) as error:
                it.lost.append(f"{time.strftime('%T')} {error}")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield it
    finally:
        over.set()
        thread.join()


def status_of(desk: Desk, commit: str) -> Any:
    """Return the newest status of a commit: its state and what it says."""
    found = desk.forge.statuses(commit)
    return (found[0]["status"], found[0]["description"]) if found else ("", "")
