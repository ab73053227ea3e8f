"""What comes of a commit: by README's words; and of one that is tried out, refused, proposed, or gets no GPU."""

import json
import re
from typing import Any

import pytest
import yaml

from runner.cluster.tunnel import opened
from tests.cluster.conftest import settle
from tests.cluster.desk import (
    Desk,
    Object,
    blocks,
    get,
    items,
    kubectl,
    refresh,
    the_store,
    typed,
    until,
    values_of,
    versions,
)
from tests.cluster.gitea import REPOSITORY
from tests.cluster.runs import (
    NAMESPACE,
    PIN,
    assert_pinned_and_served,
    ended,
    log,
    pins,
    revision_of,
    run_of,
    status_of,
    tasks,
)
from tests.support.projects import set_params

pytestmark = [pytest.mark.slow, pytest.mark.faults]
MODEL = "flyingthings"
GPU_NAMESPACE = "nvidia-gpu-operator"
PLANNED = {"supersede", "plan", "summary"}
JUDGED = PLANNED | {"gate", "publish", "pin"}  # nothing is trained


def commit(desk: Desk, message: str, *, trains: bool = True, **sections: Any) -> str:
    """Push other values of params.yaml, with another seed where a model is to be trained; return the commit."""
    desk.pull()
    if trains:
        sections["seed"] = yaml.safe_load((desk.clone / "params.yaml").read_text(encoding="utf-8"))["seed"] + 1
    set_params(desk.clone, sections)
    return desk.push(message)


def started(said: str) -> str:
    """Return the PipelineRun that `make retrain` says it has started."""
    found = re.search(r"(retrain-\w+) trains ", said)
    assert found, said
    return found[1]


def read(desk: Desk, key: str) -> str:
    with opened(values_of(desk), "store") as store:
        return store.read(key).decode()


def pinned(desk: Desk) -> str:
    """Return what main pins to dev."""
    desk.pull()
    return (desk.clone / PIN).read_text(encoding="utf-8")


def revisions() -> set[str]:
    return {revision_of(each) for each in items("pipelineruns", NAMESPACE)}


def open_pulls(desk: Desk) -> list[Object]:
    found: list[Object] = desk.forge.ask("GET", f"{REPOSITORY}/pulls?state=open")
    return found


def test_a_model_is_served_when_the_readme_is_followed_and_a_commit_is_trained_once(desk: Desk) -> None:
    with desk.forge.silent():
        commit(desk, "Another seed, and other epochs than README's", train={"epochs": 3})
    desk.shell("git branch --quiet --set-upstream-to=origin/main")
    change, look = blocks(desk.clone / "README.md", "**…let a commit retrain.**", "\n**…")
    before = pins(desk)
    told = [desk.shell(line) for line in typed(change)]
    assert "answer: train" in "\n".join(told)
    revision = desk.shell("git rev-parse HEAD")
    run = run_of(revision)
    ended(run)
    number = assert_pinned_and_served(desk, revision, run, before)
    with the_store() as environment:
        said = "\n".join(desk.shell(line, environment=environment) for line in typed(look))
    (shown,) = set(look) - {f"$ {line}" for line in typed(look)}
    assert re.search(re.sub(r"\d+", r"\\d+", re.escape(shown.removesuffix("…"))), said), said
    assert re.search(rf"{MODEL} +{number} .*dev", said), said
    assert desk.shell("git show --name-only --format= HEAD").split() == ["dvc.lock", PIN]
    message = desk.shell("git show --no-patch --format=%an%n%B HEAD")
    assert message.startswith(f"flywheel\ndev runs {MODEL} {number}, mAP50 ")
    assert message.endswith(f"Flywheel-Pin: {MODEL}/{number}")
    assert status_of(desk, revision)[0] == "success"
    summary = read(desk, f"runs/{MODEL}/{number}/summary/{run}.md")
    for part in (
        f"## {MODEL} {number}: dev runs {MODEL} {number}",
        "| device | cpu |",
        "| train.epochs | 2 |",
        "The gate",
    ):
        assert part in summary

    bot, stored = desk.pull(), versions(desk)
    again = started(desk.shell(f'make retrain ARGS="--revision {revision}"'))
    assert ended(again)["status"] == "True"
    assert set(tasks(again)) == JUDGED
    assert "Running stage 'train'" not in log(again, "gate")
    assert (desk.pull(), versions(desk)) == (bot, stored)
    assert status_of(desk, revision)[0] == "success"
    assert "nothing to commit" in status_of(desk, revision)[1]

    assert bot not in revisions()  # its commit started nothing
    kubectl("create", "job", "--from=cronjob/nightly", "nothing-missed", NAMESPACE)
    nightly = run_of(bot, 120)
    assert ended(nightly)["status"] == "True"
    assert set(tasks(nightly)) == PLANNED
    assert status_of(desk, bot)[0] == "success"
    assert (desk.pull(), versions(desk)) == (bot, stored)


def test_values_by_hand_are_published_and_never_pinned(desk: Desk) -> None:
    head, before, stored = desk.pull(), pins(desk), versions(desk)
    said = desk.shell("make retrain GPU=N SET=gate.max_latency=50")
    run = started(said)
    assert "gate.max_latency=50: published, never pinned" in said
    assert ended(run)["status"] == "True"
    number = stored[-1] + 1
    assert (desk.pull(), pins(desk), versions(desk)) == (head, before, [*stored, number])
    statuses = {each["context"]: each for each in reversed(desk.forge.statuses(head))}
    assert statuses["flywheel/try"]["status"] == "success"
    assert statuses["flywheel/try"]["description"].startswith(f"{MODEL} {number}: not pinned: ")


def test_a_refused_model_is_pinned_without_a_training_when_the_bar_is_lower(desk: Desk) -> None:
    before, pin = pins(desk), pinned(desk)
    refused = commit(desk, "A higher bar", train={"epochs": 1}, gate={"min_map50": 0.9})
    try:
        ended(run_of(refused))
        number = versions(desk)[-1]
        assert pinned(desk) == pin
        assert desk.shell("git show --name-only --format= HEAD") == "dvc.lock"
        assert pins(desk) == [f"{MODEL}/{number}", *before]  # its trailer stands there without a pin too
        state, said = status_of(desk, refused)
        assert state == "failure"
        assert re.match(rf"{MODEL} {number} did not pass the gate: mAP50 0\.\d+ \(.+\), at least 0\.900 ", said), said

        before = pins(desk)
        passing = commit(desk, "A lower bar", trains=False, gate={"min_map50": 0.0, "deploy": True})
        run = run_of(passing)
        ended(run)
        assert set(tasks(run)) == JUDGED
        assert "gate.min_map50: 0.9 → 0.0" in log(run, "plan")
        assert assert_pinned_and_served(desk, passing, run, before) == number + 1
        manifests = [json.loads(read(desk, f"models/{MODEL}/{each}/manifest.json")) for each in (number, number + 1)]
        assert manifests[0]["onnx_sha256"] == manifests[1]["onnx_sha256"]
        (pull,) = open_pulls(desk)
        assert (pull["head"]["ref"], pull["base"]["ref"]) == ("flywheel/staging", "main")
        assert "What staging runs" in pull["body"]
    finally:
        for pull in open_pulls(desk):
            desk.forge.ask("PATCH", f"{REPOSITORY}/pulls/{pull['number']}", {"state": "closed"})
        with desk.forge.silent():
            commit(desk, "As before", trains=False, gate={"min_map50": 0.0, "deploy": False})


def test_a_pin_is_served_when_somebody_merges_its_pull_request(desk: Desk) -> None:
    before = pins(desk)
    proposed = commit(desk, "Propose it", trains=False, gate={"max_latency": 90.0}, pin={"mode": "pull-request"})
    try:
        run = run_of(proposed)
        assert ended(run)["status"] == "True"
        number = versions(desk)[-1]
        assert (desk.pull(), pins(desk)) == (proposed, before)
        (pull,) = open_pulls(desk)
        assert (pull["head"]["ref"], pull["base"]["ref"]) == (f"flywheel/{MODEL}", "main")
        assert pull["title"].startswith(f"dev runs {MODEL} {number}, mAP50 ")
        until(lambda: open_pulls(desk)[0]["mergeable"], 60, "a pull request that can be merged")
        desk.forge.ask("POST", f"{REPOSITORY}/pulls/{pull['number']}/merge", {"Do": "merge"})
        assert assert_pinned_and_served(desk, proposed, run, before) == number
        assert desk.pull() not in revisions()  # the merge starts nothing
    finally:
        with desk.forge.silent():
            commit(desk, "Push again", trains=False, pin={"mode": "push"})


def test_a_cpu_trains_within_its_limits_and_nothing_is_pinned_when_no_gpu_comes(desk: Desk) -> None:
    desk.pull()
    kubectl("create", "namespace", GPU_NAMESPACE)  # an administrator's, with NVIDIA's operator
    desk.shell("sed -i 's/^GPU=.*/GPU=fixed/' gitops/cluster/cluster.env")
    facts = desk.push("GPUs that stay", "main", "platform")
    try:
        refresh()
        until(has_gpus, 420, "GPU=fixed in the cluster", every=2)
        settle(420)
        before, stored = pins(desk), versions(desk)
        with desk.forge.silent():
            wanted = commit(desk, "More than a CPU may", train={"epochs": 3}, fallback={"max_epochs": 1})
        run = started(desk.shell("make retrain GPU_TIMEOUT=20s"))
        assert ended(run)["status"] == "True"
        assert "Insufficient nvidia.com/gpu" in log(run, "await-gpu")
        assert "train-gpu" not in tasks(run)
        assert "train.epochs=1" in log(run, "train-cpu")
        assert not items("pods", NAMESPACE, "--selector=app.kubernetes.io/name=gpu-probe")
        assert (desk.pull(), pins(desk), versions(desk)) == (wanted, before, [*stored, stored[-1] + 1])
        state, said = status_of(desk, wanted)
        assert state == "failure"
        assert "not pinned: it was made with other values than the commit's" in said
    finally:
        desk.pull()
        desk.shell(f"git revert --no-edit {facts} && git push --quiet origin HEAD:main HEAD:platform")
        refresh()
        until(lambda: not has_gpus(), 420, "no GPUs in the cluster", every=2)
        settle(420)
        kubectl("delete", "namespace", GPU_NAMESPACE, "--wait=false")


def has_gpus() -> bool:
    """Whether the cluster's objects say that there are GPU nodes."""
    quota = get("resourcequota", "gpu", NAMESPACE)["spec"]["hard"]["requests.nvidia.com/gpu"]
    return bool(get("configmap", "retrain", NAMESPACE)["data"]["GPU"] == "fixed" and quota == "1")


def test_plan_refuses_a_commit_when_it_needs_another_image(desk: Desk) -> None:
    before, stored = pins(desk), versions(desk)
    desk.pull()
    desk.shell("sed -i 's/^torch==.*/torch==0.0.1/' constraints-train.txt")
    needy = desk.push("Other packages")
    try:
        run = run_of(needy)
        assert ended(run)["status"] == "False"
        assert set(tasks(run)) == PLANNED
        state, said = status_of(desk, needy)
        assert (state, said[:6]) == ("error", "plan: ")
        assert len(said) <= 140  # GitHub takes no more
        assert "pinned 0.0.1): rebuild the image" in read(desk, f"pipeline/{run}/summary.md")
        assert (pins(desk), versions(desk)) == (before, stored)
    finally:
        with desk.forge.silent():
            desk.shell(f"git revert --no-edit {needy} && git push --quiet origin HEAD:main")
        desk.shell("touch .venv/.ready")  # constraints-train.txt is as before
