"""A commit retrains: the rendered pipeline, run by Tekton's rules with real Git, a real MinIO and the smoke preset.

The first run is made once; a test that goes on from there gets a copy of its repository and of its store.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import s3
from tests.e2e.conftest import SMOKE
from tests.projects import Run, copy_project, set_params
from tests.retrain.installation import Installation, installed
from tests.retrain.pod import can_run
from tests.servers import running

pytestmark = pytest.mark.slow
BUCKET = "flyingthings"
EASY = {"gate": {"min_map50": 0.0, "max_latency": 100.0, "max_class_drop": 1.0}}  # so little training learns nothing
PIN = "gitops/serving/overlays/dev/model.env"
TRAINED = ["supersede", "plan", "prepare", "await-gpu", "train-gpu", "gate", "publish", "pin", "summary"]


@contextmanager
def an_installation(project: Path, folder: Path, environment: dict[str, str]) -> Iterator[Installation]:
    with s3.serving_s3("minio", folder / "minio") as server:
        if not server.client().bucket_exists(BUCKET):
            server.client().make_bucket(BUCKET)
        with installed(project, server, server.environment(BUCKET), folder / "here", environment) as made:
            made.api.gpus = 1
            yield made


@pytest.fixture(scope="session")
def prepared(project: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the smoke preset and a gate that lets everything pass."""
    if reason := can_run():
        pytest.skip(f"no namespaces for the steps' containers: {reason}")
    copy = copy_project(project, tmp_path_factory.mktemp("fork") / "flywheel", environment)
    set_params(copy, SMOKE | EASY)
    return copy


@pytest.fixture(scope="session")
def first(prepared: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installation after its first commit was trained and pinned; tests must not change it."""
    import os  # DEV

    if (Path(os.environ.get("FIRST", "/nonexistent")) / "run").exists():  # DEV
        return Path(os.environ["FIRST"])  # DEV
    folder = tmp_path_factory.mktemp("first") if "FIRST" not in os.environ else Path(os.environ["FIRST"])  # DEV
    with an_installation(prepared, folder, environment) as made:
        commit = made.commit("One epoch", {"train": {"epochs": 1}})
        name, states = made.retrain(commit)
        outcomes = {task: state.outcome for task, state in states.items() if state.outcome != "None"}
        assert outcomes == dict.fromkeys(TRAINED, "Succeeded"), made.log(name, list(outcomes)[-2])
        (folder / "run").write_text(json.dumps({"commit": commit, "name": name}))
    return folder


@pytest.fixture
def here(first: Path, prepared: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Installation]:
    """An installation of the test's own, as the first run left it."""
    shutil.copytree(first / "minio/data", tmp_path / "minio/data")
    (tmp_path / "here/runs").mkdir(parents=True)
    for name in ("flywheel.git", "checkout", "runs/claims"):  # with the strange user's ownership
        subprocess.run(["cp", "-a", first / "here" / name, tmp_path / "here" / name], check=True)
    with an_installation(prepared, tmp_path, environment) as made:
        yield made


def keys(here: Installation, prefix: str) -> list[str]:
    """Return the keys in the store that begin with a prefix."""
    found = here.s3.client().list_objects(BUCKET, prefix, recursive=True)
    return sorted(str(each.object_name) for each in found)


def versions(here: Installation) -> list[str]:
    return [key.split("/")[2] for key in keys(here, "models/") if key.endswith("/manifest.json")]


def ran(states: object) -> list[str]:
    assert isinstance(states, dict)
    return [task for task, state in states.items() if state.outcome == "Succeeded"]


def cpu_seconds() -> float:
    """Return what ended processes of this one have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def until(is_so: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_commit_leads_to_a_pinned_and_served_model(first: Path, here: Installation, tmp_path: Path) -> None:
    told = json.loads((first / "run").read_text())
    assert here.forge.git("log", "--format=%an %s", "-4").splitlines()[1:3] == [
        "flywheel dev runs flyingthings 1, mAP50 0.000",
        "tests One epoch",
    ]
    bot = "main~1"  # this cluster's facts are on top
    assert here.changed(bot) == ["dvc.lock", PIN]
    assert here.forge.git("show", "--no-patch", "--format=%B", bot).endswith("Flywheel-Pin: flyingthings/1")
    pin = here.pin()
    assert (pin["MODEL_VERSION"], pin["MODEL_COMMIT"]) == ("1", told["commit"])
    assert pin["MODEL_URI"] == f"s3://{BUCKET}/models/flyingthings/1/manifest.json"
    summary = here.s3.client().get_object(BUCKET, f"runs/flyingthings/1/summary/{told['name']}.md").read().decode()
    for part in ("## flyingthings 1: dev runs flyingthings 1", "| device | gpu |", "| train.epochs | 1 |", "The gate"):
        assert part in summary
    with running(tmp_path, **here.bucket, MODEL_URI=pin["MODEL_URI"], MODEL_SHA256=pin["MODEL_SHA256"]) as server:
        assert server.get("/model").json()["manifest"]["version"] == 1


def test_the_bots_commit_starts_nothing(here: Installation) -> None:
    before, bot = here.forge.git("rev-parse", "main~2", "main~1").split()
    assert here.listener.deliver(here.forge.payload(before, bot)) == []


def test_the_same_commit_again_trains_nothing_and_commits_nothing(first: Path, here: Installation) -> None:
    commit, head = json.loads((first / "run").read_text())["commit"], here.head()
    began, used = time.monotonic(), cpu_seconds()
    name, states = here.retrain(commit)
    seconds, used = time.monotonic() - began, cpu_seconds() - used
    assert ran(states) == ["supersede", "plan", "gate", "publish", "pin", "summary"]
    assert "answer: gate-only" in here.log(name, "plan")
    assert "Running stage 'train'" not in here.log(name, "gate")
    assert here.head() == head
    assert versions(here) == ["1"]
    assert here.status(commit) == {
        "state": "success",
        "description": "flyingthings 1: flyingthings 1 is in Git already: nothing to commit",
        "context": "flywheel/retrain",
    }
    print(f"\nfrom push to pin without training: {seconds:.1f} s, of which on a CPU {used:.1f} s")


def test_a_commit_of_no_consequence_ends_after_the_plan(here: Installation) -> None:
    with (here.checkout / "runner/errors.py").open("a") as file:
        file.write("# a comment\n")
    commit = here.commit("A comment")
    _, states = here.retrain(commit)
    assert ran(states) == ["supersede", "plan", "summary"]
    assert here.head() == commit
    assert here.status(commit)["description"] == "nothing to train: this commit changes no input of a stage"


def test_a_worse_one_is_published_not_pinned_and_a_lowered_gate_judges_it_anew(here: Installation) -> None:
    pin = here.pin()
    commit = here.commit("Another seed, a higher bar", {"seed": 1, "gate": {"min_map50": 0.9}})
    name, states = here.retrain(commit)
    assert ran(states) == TRAINED
    assert versions(here) == ["1", "2"]
    assert here.pin() == pin
    assert here.changed() == ["dvc.lock"]
    assert here.status(commit)["state"] == "failure"
    assert here.status(commit)["description"].startswith("flyingthings 2 did not pass the gate: 0.000, at least 0.900")

    commit = here.commit("A lower bar", {"gate": {"min_map50": 0.0}})
    name, states = here.retrain(commit)
    assert ran(states) == ["supersede", "plan", "gate", "publish", "pin", "summary"]
    assert "gate      gate.min_map50: 0.9 → 0.0" in here.log(name, "plan")
    assert "Running stage 'train'" not in here.log(name, "gate")
    assert here.pin()["MODEL_VERSION"] == "3"
    manifests = [
        json.loads(here.s3.client().get_object(BUCKET, f"models/flyingthings/{n}/manifest.json").read()) for n in (2, 3)
    ]
    assert manifests[0]["onnx_sha256"] == manifests[1]["onnx_sha256"]


def test_a_wrong_value_is_told_on_the_commit(here: Installation) -> None:
    commit = here.commit("A typo", {"train": {"epochs": 0}})
    began = time.monotonic()
    _, states = here.retrain(commit)
    assert time.monotonic() - began < 60
    assert states["plan"].outcome == "Failed"
    assert here.status(commit)["state"] == "error"
    assert here.status(commit)["description"].startswith("plan: params.yaml: train.epochs: found 0, expected")


def test_the_image_is_named_when_it_is_older_than_the_commit(here: Installation) -> None:
    file = here.checkout / "constraints.txt"
    text = file.read_text(encoding="utf-8")
    at = text.index("\nfilelock==") + 1
    file.write_text(text[:at] + "filelock==0.0.1\n" + text[text.index("\n", at) + 1 :], encoding="utf-8")
    commit = here.commit("Other packages", {"train": {"epochs": 2}})
    _, states = here.retrain(commit)
    assert states["plan"].outcome == "Failed"
    assert (
        "pinned 0.0.1): rebuild the image"
        in here.s3.client()
        .get_object(BUCKET, f"pipeline/{here.api.list('pipelineruns')[-1]['metadata']['name']}/summary.md")
        .read()
        .decode()
    )


def test_the_cpu_takes_over_when_no_gpu_comes_and_its_model_is_not_pinned(here: Installation) -> None:
    here.api.gpus = 0
    head, pin = here.commit("More epochs", {"train": {"epochs": 2}, "fallback": {"max_epochs": 1}}), here.pin()
    name, states = here.retrain(head, gpu_timeout="3s")
    assert ran(states) == [task.replace("train-gpu", "train-cpu") for task in TRAINED if task != "train-cpu"]
    assert "Insufficient nvidia.com/gpu" in here.log(name, "await-gpu")
    assert here.api.list("pods") == []
    assert versions(here) == ["1", "2"]
    assert (here.pin(), here.head()) == (pin, head)
    assert "not pinned: it was made with other values than the commit's (Of one run" in here.status(head)["description"]


def test_a_killed_training_goes_on_from_its_checkpoint(here: Installation) -> None:
    commit = here.commit("Four epochs", {"train": {"epochs": 4}})
    checkpoints = here.controller.folder / "claims/train-cache/work/train"

    def kill_after_an_epoch() -> None:
        until(lambda: bool(list(checkpoints.glob("*/checkpoints/0*"))))
        here.controller.kill.add("train-gpu")

    before = set(checkpoints.glob("*/checkpoints/0*"))
    assert not before
    thread = threading.Thread(target=kill_after_an_epoch)
    thread.start()
    name, states = here.retrain(commit)
    thread.join()
    assert ran(states) == TRAINED
    assert "continuing after epoch" in here.log(name, "train-gpu", 1)
    assert here.pin()["MODEL_VERSION"] == "2"


def test_nothing_is_half_done_when_store_and_git_go_away(here: Installation, run: Run) -> None:
    """The store is killed while publish uses it; Git does not answer when pin comes."""
    commit = here.commit("Another seed", {"seed": 2})

    def disturb() -> None:
        log = here.controller.folder
        until(lambda: any(log.glob("*/publish-0/log")))
        here.s3.stop(kill=True)
        until(lambda: any(log.glob("*/publish-1/log")))
        here.s3.start()
        here.forge.away = True
        until(lambda: any("again in" in path.read_text() for path in log.glob("*/p*-*/log")))
        here.forge.away = False

    thread = threading.Thread(target=disturb)
    thread.start()
    _, states = here.retrain(commit)
    thread.join()
    assert ran(states) == TRAINED
    assert versions(here) == ["1", "2"]
    assert here.pin()["MODEL_VERSION"] == "2"
    assert here.changed() == ["dvc.lock", PIN]
    verified = run("python", "-m", "runner", "store", "verify", cwd=here.checkout, **here.bucket)
    assert verified.returncode == 0, verified.stdout


def test_two_pushes_pin_in_order(here: Installation) -> None:
    older = here.commit("Another seed", {"seed": 3})
    (run,) = here.push_event(older)
    states: dict[str, object] = {}
    thread = threading.Thread(target=lambda: states.update(here.controller.run(run)))
    thread.start()
    until(lambda: any(each["metadata"]["name"].endswith("-prepare") for each in here.api.list("taskruns")))
    newer = here.commit("And another", {"seed": 4})
    _, after = here.retrain(newer)
    thread.join()
    assert run["spec"]["status"] == "CancelledRunFinally"
    assert "publish" not in ran(states)
    assert here.status(older)["description"].startswith("cancelled")
    assert ran(after) == TRAINED
    assert (here.pin()["MODEL_VERSION"], here.pin()["MODEL_COMMIT"]) == ("2", newer)
    assert here.forge.git("log", "--format=%an", f"{older}..main").splitlines() == ["flywheel", "tests"]


def test_staging_is_proposed_when_the_model_passes(here: Installation) -> None:
    commit = here.commit("To staging", {"gate": {"deploy": True}, "pin": {"mode": "pull-request"}})
    _, states = here.retrain(commit)
    assert ran(states) == ["supersede", "plan", "gate", "publish", "pin", "summary"]
    assert here.head() == commit
    pulls = here.forge.pulls
    assert sorted(pulls) == ["flywheel/flyingthings", "flywheel/staging"]
    assert "What staging runs" in pulls["flywheel/staging"]["body"]
    assert here.changed("flywheel/staging") == ["gitops/serving/overlays/staging/model.env"]
    assert here.changed("flywheel/flyingthings") == ["dvc.lock", PIN]


def test_the_nightly_run_is_started_when_nothing_is_at_work(here: Installation) -> None:
    status, said = here.controller.run_cron_job("nightly")
    assert status == 0, said
    (run,) = here.api.list("pipelineruns")
    params = {each["name"]: each["value"] for each in run["spec"]["params"]}
    assert params == {"revision": here.head(), "overrides": "[]", "gpu": "auto", "gpu-timeout": "20m"}
    status, said = here.controller.run_cron_job("nightly")
    assert (status, len(here.api.list("pipelineruns"))) == (0, 1)
    assert f"nothing started: {run['metadata']['name']} is at work" in said
    states = here.controller.run(run)
    assert ran(states) == ["supersede", "plan", "summary"]


def test_a_commit_retrains_when_the_readme_is_followed(here: Installation, project: Path) -> None:
    """Word for word: the commands of README's "let a commit retrain", in a clone with a developer's rights."""
    text = (project / "README.md").read_text(encoding="utf-8")
    section = text.partition("**…let a commit retrain.**")[2].partition("\n**…")[0]
    change, look = (
        [line for line in block.splitlines() if line]
        for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    )
    assert [line[:2] for line in change] == ["$ "] * len(change)
    rights = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Bearer {here.forge.write_token}",
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "somebody"),
        **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "somebody@example.invalid"),
    }

    def follow(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line.removeprefix("$ ")],
            cwd=here.checkout,
            env=here.environment | rights,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    said = "".join(map(follow, change))
    assert "train.epochs: 1 → 2" in said
    assert "answer: train" in said
    _, states = here.retrain(here.head())
    assert ran(states) == TRAINED
    said = "".join(follow(line) for line in look if line.startswith("$ "))
    (shown,) = (line for line in look if not line.startswith("$ "))
    assert shown.partition(", mAP50")[0] in said
    assert re.search(r"flyingthings +2 .*dev", said), said
