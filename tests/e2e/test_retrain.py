"""A commit retrains: the rendered pipeline, run by Tekton's rules with real Git, a real MinIO and the smoke preset.

The first run is made once, as README says; a test that goes on from there gets a copy of its repository and its store.
"""

from __future__ import annotations

import json
import re
import resource
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import s3
from tests.e2e.conftest import SMOKE
from tests.projects import Run, copy_project, set_params
from tests.retrain.installation import Installation, installed
from tests.retrain.pod import can_run
from tests.retrain.tekton import State
from tests.servers import running

pytestmark = pytest.mark.slow
BUCKET = "flyingthings"
ROOT = (f"root{secrets.token_hex(6)}", secrets.token_hex(16))
RUNNER, PUBLISHER = (
    {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)} for user in ("runner", "publisher")
)
# So little training learns nothing, and few pictures show as much.
EASY = {
    "gate": {"min_map50": 0.0, "max_latency": 100.0, "max_class_drop": 1.0},
    "prepare": {"min_pictures": 10, "min_per_class": 1},
    "dataset": {"sample": {"pictures": 24, "seed": 0}},
    "train": {"epochs": 1},
}
PIN = "gitops/serving/overlays/dev/model.env"
TRAINED = ["supersede", "plan", "prepare", "await-gpu", "train-gpu", "gate", "publish", "pin", "summary"]
JUDGED = ["supersede", "plan", "gate", "publish", "pin", "summary"]
PLANNED = ["supersede", "plan", "summary"]


class First(NamedTuple):
    """An installation after its first commit was trained and pinned; `told` is what README's commands printed."""

    folder: Path
    commit: str
    run: str
    told: list[str]


@contextmanager
def an_installation(project: Path, folder: Path, environment: dict[str, str]) -> Iterator[Installation]:
    """Give an installation whose Tasks have the store's users for them, and not its root."""
    server = s3.S3("minio", folder / "minio", s3.program_of("minio"), user=ROOT[0], password=ROOT[1])
    is_new = not server.data.is_dir()
    try:
        bucket = server.start().environment(BUCKET)
        if is_new:
            for keys in (RUNNER, PUBLISHER):
                (user := folder / "users" / keys["AWS_ACCESS_KEY_ID"]).mkdir(parents=True)
                for name, value in keys.items():
                    (user / name).write_text(value)
            command = ["python", "-m", "runner", "store", "init"]
            users = {"STORE_USERS": str(folder / "users")}
            subprocess.run(command, cwd=project, env=environment | bucket | users, check=True, capture_output=True)
        with installed(project, server, bucket | RUNNER, PUBLISHER, folder / "here", environment) as made:
            made.api.gpus = 1
            yield made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def prepared(project: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the smoke preset and a gate that lets everything pass."""
    if reason := can_run():
        pytest.skip(f"no namespaces for the steps' containers: {reason}")
    copy = copy_project(project, tmp_path_factory.mktemp("fork") / "flywheel", environment)
    set_params(copy, SMOKE | EASY)
    return copy


@pytest.fixture(scope="module")
def readme(project: Path) -> list[list[str]]:
    """The two blocks of README's "let a commit retrain": lines to type begin with $, others are what they print."""
    text = (project / "README.md").read_text(encoding="utf-8")
    section = text.partition("**…let a commit retrain.**")[2].partition("\n**…")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [[line for line in block.splitlines() if line] for block in blocks]


@pytest.fixture(scope="module")
def first(
    prepared: Path, readme: list[list[str]], environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> First:
    """What comes of README's commands; tests must not change it."""
    change, look = ([line[2:] for line in block if line.startswith("$ ")] for block in readme)
    folder = tmp_path_factory.mktemp("first")
    with an_installation(prepared, folder, environment) as made:
        told = [made.shell(line) for line in change]
        commit, began, used = made.head(), time.time(), cpu_seconds()
        name, states = made.retrain(commit)
        failed = [made.log(name, task) for task, state in states.items() if state.outcome == "Failed"]
        assert ran(states) == TRAINED, failed
        (pin,) = (each for each in made.api.list("taskruns") if each["metadata"]["name"] == f"{name}-pin")
        whole = datetime.fromisoformat(pin["status"]["completionTime"]).timestamp() - began
        training = json.loads((made.controller.folder / "claims/train-cache-cpu/work/seconds/train.json").read_text())
        print(f"\nfrom push to pin {whole:.1f} s, of which the stage `train` {training:.1f} s", end="; ")
        print(f"with the summary {cpu_seconds() - used:.1f} s of CPU")
        told += [made.shell(line) for line in look]
    return First(folder, commit, name, told)


@contextmanager
def a_copy(first: First, prepared: Path, environment: dict[str, str], folder: Path) -> Iterator[Installation]:
    (folder / "here/runs").mkdir(parents=True)
    (folder / "minio").mkdir()
    for name in ("minio/data", "here/flywheel.git", "here/checkout", "here/runs/claims"):
        subprocess.run(["cp", "-a", first.folder / name, folder / name], check=True)  # the strange user's stay his
    with an_installation(prepared, folder, environment) as made:
        yield made


@pytest.fixture
def here(first: First, prepared: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Installation]:
    """An installation of the test's own, as the first run left it."""
    with a_copy(first, prepared, environment, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(
    first: First, prepared: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation for tests that leave its repository and its models as they are."""
    with a_copy(first, prepared, environment, tmp_path_factory.mktemp("shared")) as made:
        yield made


def read(here: Installation, key: str) -> str:
    return str(here.s3.client().get_object(BUCKET, key).read(), "utf-8")


def versions(here: Installation) -> list[str]:
    keys = (str(each.object_name) for each in here.s3.client().list_objects(BUCKET, "models/", recursive=True))
    return sorted(key.split("/")[2] for key in keys if key.endswith("/manifest.json"))


def ran(states: dict[str, State]) -> list[str]:
    return [task for task, state in states.items() if state.outcome == "Succeeded"]


def cpu_seconds() -> float:
    """Return what ended processes of this one have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def until(is_so: Callable[[], bool], every: float = 0.02) -> None:
    end = time.monotonic() + 300
    while not is_so():
        assert time.monotonic() < end
        time.sleep(every)


@contextmanager
def meanwhile(do: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    yield
    thread.join()


def test_a_commit_leads_to_a_pinned_and_served_model_when_the_readme_is_followed(
    first: First, shared: Installation, readme: list[list[str]], tmp_path: Path
) -> None:
    told = "\n".join(first.told)
    assert "answer: train" in told
    (shown,) = (line for line in readme[1] if not line.startswith("$ "))
    assert re.search(re.sub(r"\d", r"\\d", re.escape(shown.removesuffix("…"))), told), told
    assert re.search(r"flyingthings +1 .*dev", told), told
    bot = "main~1"  # this cluster's facts are on top
    assert shared.changed(bot) == ["dvc.lock", PIN]
    said = shared.forge.git("show", "--no-patch", "--format=%an %s%n%B", bot)
    assert said.startswith("flywheel dev runs flyingthings 1, mAP50 0.")
    assert said.endswith("Flywheel-Pin: flyingthings/1")
    pin = shared.pin()
    assert (pin["MODEL_VERSION"], pin["MODEL_COMMIT"]) == ("1", first.commit)
    assert pin["MODEL_URI"] == f"s3://{BUCKET}/models/flyingthings/1/manifest.json"
    summary = read(shared, f"runs/flyingthings/1/summary/{first.run}.md")
    for part in ("## flyingthings 1: dev runs flyingthings 1", "| device | gpu |", "| train.epochs | 2 |", "The gate"):
        assert part in summary
    model = {"MODEL_URI": pin["MODEL_URI"], "MODEL_SHA256": pin["MODEL_SHA256"]}
    with running(tmp_path, **shared.bucket, **model) as server:
        assert server.get("/model").json()["manifest"]["version"] == 1


def test_the_bots_commit_starts_nothing(shared: Installation) -> None:
    before, bot = shared.forge.git("rev-parse", "main~2", "main~1").split()
    assert shared.listener.deliver(shared.forge.payload(before, bot)) == []


def test_nothing_is_trained_or_committed_when_a_commit_runs_again(first: First, shared: Installation) -> None:
    head, began, used = shared.head(), time.monotonic(), cpu_seconds()
    name, states = shared.retrain(first.commit)
    print(f"\nthe same commit again {time.monotonic() - began:.1f} s, {cpu_seconds() - used:.1f} s of CPU")
    assert ran(states) == JUDGED
    assert "answer: gate-only" in shared.log(name, "plan")
    assert "Running stage 'train'" not in shared.log(name, "gate")
    assert (shared.head(), versions(shared)) == (head, ["1"])
    assert shared.status(first.commit) == {
        "state": "success",
        "description": "flyingthings 1: flyingthings 1 is in Git already: nothing to commit",
        "context": "flywheel/retrain",
    }


def test_the_nightly_run_ends_after_the_plan_when_no_push_was_missed(shared: Installation) -> None:
    known = shared.api.list("pipelineruns")
    status, said = shared.controller.run_cron_job("nightly")
    assert status == 0, said
    (run,) = (each for each in shared.api.list("pipelineruns") if each not in known)
    params = {each["name"]: each["value"] for each in run["spec"]["params"]}
    assert params == {"revision": shared.head(), "overrides": "[]", "gpu": "auto", "gpu-timeout": "20m"}
    status, said = shared.controller.run_cron_job("nightly")
    assert (status, len(shared.api.list("pipelineruns"))) == (0, len(known) + 1)
    assert f"nothing started: {run['metadata']['name']} is at work" in said
    assert ran(shared.controller.run(run)) == PLANNED
    told = "nothing to train: this commit changes no input of a stage"
    assert shared.status(shared.head())["description"] == told


def test_values_given_by_hand_are_published_and_never_pinned(shared: Installation) -> None:
    (shared.checkout / ".venv").mkdir()
    (shared.checkout / ".venv/.ready").touch()  # `make setup` was here
    head, pin = shared.head(), shared.pin()
    said = shared.shell("make retrain GPU=N SET=gate.max_latency=50")
    run = shared.api.list("pipelineruns")[-1]
    assert f"{run['metadata']['name']} trains {head[:12]} with gate.max_latency=50: published, never pinned" in said
    params = {each["name"]: each["value"] for each in run["spec"]["params"]}
    assert (params["overrides"], params["gpu"]) == ('["gate.max_latency=50"]', "off")
    assert ran(shared.controller.run(run)) == JUDGED
    assert (shared.head(), shared.pin(), versions(shared)) == (head, pin, ["1", "2"])
    status = shared.status(head)
    assert (status["context"], status["state"]) == ("flywheel/try", "success")
    assert status["description"].startswith("flyingthings 2: not pinned: it was made with other values")


def test_a_killed_training_goes_on_and_is_pinned_only_when_the_gate_is_lowered(here: Installation) -> None:
    pin, checkpoints = here.pin(), here.controller.folder / "claims/train-cache-cpu/work/train"
    known = set(checkpoints.glob("*/checkpoints/0*"))
    commit = here.commit("Other weights, a higher bar", {"seed": 1, "train": {"epochs": 3}, "gate": {"min_map50": 0.9}})

    def kill() -> None:
        until(lambda: bool(set(checkpoints.glob("*/checkpoints/0*")) - known))
        here.controller.kill.add("train-gpu")

    with meanwhile(kill):
        name, states = here.retrain(commit)
    assert ran(states) == TRAINED
    assert "continuing after epoch" in here.log(name, "train-gpu", 1)
    assert (versions(here), here.pin(), here.changed()) == (["1", "2"], pin, ["dvc.lock"])
    assert here.status(commit)["state"] == "failure"
    assert re.match(
        r"flyingthings 2 did not pass the gate: 0\.\d+, at least 0\.900", here.status(commit)["description"]
    )

    commit = here.commit("A lower bar", {"gate": {"min_map50": 0.0, "deploy": True}})
    name, states = here.retrain(commit)
    assert ran(states) == JUDGED
    assert "gate.min_map50: 0.9 → 0.0" in here.log(name, "plan")
    assert "Running stage 'train'" not in here.log(name, "gate")
    assert here.pin()["MODEL_VERSION"] == "3"
    onnx = [json.loads(read(here, f"models/flyingthings/{n}/manifest.json"))["onnx_sha256"] for n in (2, 3)]
    assert onnx[0] == onnx[1]
    assert "What staging runs" in here.forge.pulls["flywheel/staging"]["body"]


def test_a_cpu_takes_over_and_nothing_is_pinned_when_no_gpu_comes(here: Installation) -> None:
    here.api.gpus = 0
    pin = here.pin()
    commit = here.commit("More epochs", {"train": {"epochs": 3}, "fallback": {"max_epochs": 1}})
    name, states = here.retrain(commit, gpu_timeout="1s")
    assert ran(states) == [*TRAINED[:4], "train-cpu", *TRAINED[5:]]
    assert "Insufficient nvidia.com/gpu" in here.log(name, "await-gpu")
    assert here.api.list("pods") == []
    assert (here.pin(), here.head(), versions(here)) == (pin, commit, ["1", "2"])
    assert here.status(commit)["state"] == "failure"
    assert (
        "not pinned: it was made with other values than the commit's (Of one run"
        in (here.status(commit)["description"])
    )


def test_the_reason_is_told_within_a_minute_when_a_commit_cannot_be_trained(here: Installation) -> None:
    began, commit = time.monotonic(), here.commit("A typo", {"train": {"epochs": 0}})
    _, states = here.retrain(commit)
    assert time.monotonic() - began < 60
    assert states["plan"].outcome == "Failed"
    assert here.status(commit)["state"] == "error"
    assert here.status(commit)["description"].startswith("plan: params.yaml: train.epochs: found 0, expected")

    file = here.checkout / "constraints-train.txt"
    text = re.sub(r"^(torch==)\S+", r"\g<1>0.0.1", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    file.write_text(text, encoding="utf-8")
    commit = here.commit("Other packages", {"train": {"epochs": 2}})
    name, states = here.retrain(commit)
    assert states["plan"].outcome == "Failed"
    assert "pinned 0.0.1): rebuild the image" in read(here, f"pipeline/{name}/summary.md")


def test_nothing_is_half_done_when_store_and_git_go_away(here: Installation, run: Run) -> None:
    """The store and the Pod of publish are killed as it writes; Git does not answer when pin comes."""
    commit = here.commit("A pin anew", {"gate": {"max_latency": 50.0}})
    claim = here.s3.data / BUCKET / "runs/flyingthings/2"

    def disturb() -> None:
        until(claim.exists, every=0.001)
        here.s3.stop(kill=True)
        here.controller.kill.add("publish")
        until(lambda: "publish" not in here.controller.kill)
        here.s3.start()
        log = next(iter(here.controller.folder.glob("retrain-*"))) / "pin-0/log"
        until(log.exists)
        here.forge.away = True
        until(lambda: "again in" in log.read_text())
        here.forge.away = False

    with meanwhile(disturb):
        name, states = here.retrain(commit)
    assert ran(states) == JUDGED
    assert "still the newest" in here.log(name, "publish", 1)
    assert (versions(here), here.pin()["MODEL_VERSION"], here.changed()) == (["1", "2"], "2", ["dvc.lock", PIN])
    verified = run("python", "-m", "runner", "store", "verify", cwd=here.checkout, **here.bucket)
    assert verified.returncode == 0, verified.stdout


def test_the_newer_of_two_pushes_is_pinned_when_both_are_quick(here: Installation) -> None:
    older = here.commit("Other weights", {"seed": 3})
    (run,) = here.push_event(older)
    states: dict[str, State] = {}
    with meanwhile(lambda: states.update(here.controller.run(run))):
        until(lambda: any(each["metadata"]["name"].endswith("-prepare") for each in here.api.list("taskruns")))
        newer = here.commit("No, a pin anew", {"seed": 0, "gate": {"max_latency": 50.0}})
        _, after = here.retrain(newer)
    assert run["spec"]["status"] == "CancelledRunFinally"
    assert "publish" not in ran(states)
    assert here.status(older)["description"].startswith("cancelled")
    assert ran(after) == JUDGED
    assert (here.pin()["MODEL_VERSION"], here.pin()["MODEL_COMMIT"]) == ("2", newer)
    assert here.forge.git("log", "--format=%an", f"{older}..main").splitlines() == ["flywheel", "somebody"]
