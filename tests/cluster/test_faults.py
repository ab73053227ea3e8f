"""What breaks on purpose while a commit retrains: each test asserts the state in the end, not the way there."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import gitea
from tests.cluster.conftest import not_settled, settle
from tests.cluster.desk import ARGO_CD, Desk, Object, get, items, kubectl, refresh, until, versions
from tests.cluster.places import outside, script
from tests.cluster.runs import (
    NAMESPACE,
    Client,
    assert_pinned_and_served,
    client,
    condition,
    ended,
    log,
    pins,
    pod_of,
    rolled_out,
    run_of,
    served,
    status_of,
    tasks,
)

pytestmark = [pytest.mark.slow, pytest.mark.faults]
PIPELINES = "flywheel-pipelines"
MINIO = ("pod", "minio-0", "--namespace=flywheel-minio", "--grace-period=0", "--force")
CONTROLLER = ("pod", "argocd-application-controller-0", f"--namespace={ARGO_CD}")


@pytest.fixture(autouse=True)
def asking(desk: Desk) -> Iterator[Client]:
    """A client of dev, which loses nothing, whatever breaks; a test that takes the node away forgives it."""
    with client() as it:
        yield it
    assert it.asked
    assert not it.lost, it.lost


@contextmanager
def retraining(desk: Desk, message: str, **train: object) -> Iterator[str]:
    """Push another training and give its PipelineRun; after the block, wait for its end: it is pinned and served."""
    before = pins(desk)
    commit = desk.retrain(message, **train)
    run = run_of(commit)
    yield run
    ended(run)
    assert_pinned_and_served(desk, commit, run, before)


def test_a_training_goes_on_when_its_pod_is_deleted_killed_for_its_memory_and_evicted(desk: Desk) -> None:
    with retraining(desk, "Twenty-four epochs", epochs=24) as run:
        first = pod_in_epoch(3, run)
        kubectl("delete", "pod", first, NAMESPACE, "--wait=false")
        second = pod_in_epoch(8, run, first)
        limit_memory(second, "step-train")
        evict(pod_in_epoch(13, run, first, second))
    assert "continuing after epoch" in log(run, "train-cpu")
    attempts = get("taskrun", f"{run}-train-cpu", NAMESPACE)["status"]["retriesStatus"]
    assert len(attempts) == 3
    (step,) = (each for each in attempts[1]["steps"] if each["name"] == "train")
    assert step["terminated"]["reason"] == "OOMKilled"


def pod_in_epoch(number: int, run: str, *former: str) -> str:
    """Wait for one of twenty-four epochs; return the Pod that trains, another one than former attempts had."""

    def reached() -> str:
        pod = pod_of(run, "train-cpu")
        said = "" if pod in former else kubectl("logs", pod, NAMESPACE, "--all-containers", fails=True)
        return pod if f"{number}/24" in said else ""

    return str(until(reached, 300, f"epoch {number}", every=0.2))


def evict(pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": PIPELINES}}
    path = f"/api/v1/namespaces/{PIPELINES}/pods/{pod}/eviction"
    kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))


def limit_memory(pod: str, container: str) -> None:
    """Let the kernel kill what a container runs: it may have no more memory than it has now, and more is wanted."""
    found = get("pod", pod, NAMESPACE)
    (status,) = (each for each in found["status"]["containerStatuses"] if each["name"] == container)
    identity = status["containerID"].rpartition("/")[2]
    groups = Path("/sys/fs/cgroup")
    files = {  # cgroups of version 1, of version 2
        f"memory/**/{identity}/memory.limit_in_bytes": "memory.usage_in_bytes",
        f"**/{identity}/memory.max": "memory.current",
    }
    limit, used = next((each, each.with_name(used)) for name, used in files.items() for each in groups.glob(name))

    def limited() -> bool:
        try:
            if (empty := limit.with_name("memory.force_empty")).is_file():
                empty.write_text("0")  # what was read from files would be given up first
            limit.write_text(used.read_text())
        except OSError:  # it has more by now
            return False
        return True

    until(limited, 10, f"{limit} takes a limit", every=0.01)
    # The largest process of the group is killed, and that is not this one.
    more = f"{sys.executable} -c 'more = bytes([1]) * (64 << 20)'"
    enter = f"echo $$ > {limit.parent}/cgroup.procs; exec {more}"
    subprocess.run(["sh", "-c", enter], check=False, timeout=60)


def test_nothing_is_half_published_when_the_store_is_full(desk: Desk) -> None:
    before, stored = pins(desk), versions(desk)
    with a_full_store():
        commit = desk.retrain("The store is full", epochs=2)
        run = run_of(commit)
        assert ended(run)["status"] == "False"
        assert until(lambda: status_of(desk, commit)[0], 60, "a status") == "error"
    assert (pins(desk), versions(desk)) == (before, stored)
    desk.shell("make retrain")
    again = run_of(commit)
    assert again != run
    ended(again)
    assert_pinned_and_served(desk, commit, again, before)


@contextmanager
def a_full_store() -> Iterator[None]:
    """Give MinIO a volume that has next to no room, as local-path's have all of the disk; then its own again."""
    claim = get("pvc", "data-minio-0", "--namespace=flywheel-minio")
    folder = Path(get("pv", claim["spec"]["volumeName"])["spec"]["local"]["path"])
    image = folder.with_suffix(".image")
    used = int(subprocess.run(["du", "-sm", folder], capture_output=True, text=True, check=True).stdout.split()[0])
    with image.open("wb") as file:
        file.truncate((used + used // 50 + 12) << 20)  # inodes take a fiftieth, the kernel at most 4 MB
    outside("mkfs.ext4", "-q", "-m", "0", "-b", "1024", "-i", "16384", "-O", "^has_journal,^resize_inode", image)
    small = folder.with_suffix(".small")
    small.mkdir()
    outside("mount", "-o", "loop", image, small)
    outside("cp", "-a", f"{folder}/.", small)
    outside("umount", small)
    outside("mount", "-o", "loop", image, folder)
    restart_minio()
    try:
        yield
    finally:
        outside("sh", "-c", 'umount --lazy "$0" || true', folder)  # it may have gone with the former pod's own mount
        restart_minio()
        image.unlink()
        small.rmdir()


def restart_minio() -> None:
    kubectl("delete", *MINIO)
    kubectl("rollout", "status", "statefulset/minio", "--namespace=flywheel-minio", "--timeout=180s")


def test_the_newer_push_wins_when_an_older_one_trains_and_is_delivered_again(desk: Desk) -> None:
    before = pins(desk)
    older = desk.retrain("Forty epochs", epochs=40)
    first = run_of(older)
    pod_of(first, "train-cpu")
    newer = desk.retrain("Three epochs", epochs=3)
    second = run_of(newer)
    pod_of(second, "train-cpu")
    desk.forge.redeliver(older)  # late, with a signature that holds
    assert run_of(older) != first
    ended(second)
    assert_pinned_and_served(desk, newer, second, before)
    assert condition(first)["status"] == "False"
    late = run_of(older)
    ended(late)
    assert "train-cpu" not in tasks(late)


def test_a_wrong_value_is_said_at_the_commit_and_nothing_is_trained(desk: Desk) -> None:
    before = pins(desk)
    commit = desk.retrain("No epoch", epochs=0)
    run = run_of(commit)
    assert ended(run)["status"] == "False"
    state, said = until(lambda: status_of(desk, commit) if status_of(desk, commit)[0] else None, 60, "a status")
    assert state == "error"
    assert "train.epochs" in said
    assert pins(desk) == before
    with desk.forge.silent():
        desk.retrain("Epochs again", epochs=2)


def test_nothing_starts_when_the_signature_is_wrong(desk: Desk) -> None:
    runs = {each["metadata"]["name"] for each in items("pipelineruns", NAMESPACE)}
    number = desk.forge.hook("https://retrain.apps.flywheel.test/", "another secret")
    try:
        desk.forge.ask("POST", f"{gitea.REPOSITORY}/hooks/{number}/tests")
        time.sleep(10)
    finally:
        desk.forge.ask("DELETE", f"{gitea.REPOSITORY}/hooks/{number}")
    assert {each["metadata"]["name"] for each in items("pipelineruns", NAMESPACE)} == runs


def test_a_run_ends_well_when_the_store_is_killed_in_gate_and_publish_and_argo_cd_restarts(desk: Desk) -> None:
    with retraining(desk, "The store is killed", epochs=2) as run:
        for task in ("gate", "publish"):
            pod_of(run, task)
            kubectl("delete", *MINIO)
        kubectl("rollout", "restart", "deployment/argocd-repo-server", f"--namespace={ARGO_CD}")
        kubectl("delete", *CONTROLLER, "--wait=false")


def test_a_run_ends_well_when_the_forge_is_away_and_a_sync_is_cut(desk: Desk) -> None:
    """The forge is away for a minute at clone and at pin; Argo CD's controller is killed while it applies the pin."""
    last = sync_of_dev()
    with retraining(desk, "The forge is away", epochs=2) as run:
        for task in ("prepare", "pin"):
            until(lambda task=task: task in tasks(run), 600, task, every=0.2)  # type: ignore[misc]
            gitea.stop()
            time.sleep(60)
            gitea.start()

        def begun() -> bool:
            found = sync_of_dev()
            return found.get("phase") == "Running" and found["startedAt"] != last.get("startedAt")

        until(begun, 600, "a sync of the pin", every=0.1)
        kubectl("delete", *CONTROLLER, "--grace-period=0", "--force")
    settle(300)


def sync_of_dev() -> Object:
    """Return the state of dev's newest sync; empty where Argo CD has none."""
    status = get("application", "flywheel-serving-dev", f"--namespace={ARGO_CD}")["status"]
    return dict(status.get("operationState", {}))


def test_a_run_ends_well_when_the_api_server_is_away_for_two_minutes_and_dns_for_one(desk: Desk) -> None:
    with retraining(desk, "The API server is away", epochs=2) as run:
        pod_of(run, "train-cpu")
        script("down", "--only", "kube-apiserver")
        time.sleep(120)
        script("up", "--node")
        pod_of(run, "gate")
        kubectl("scale", "deployment/coredns", "--namespace=kube-system", "--replicas=0")
        time.sleep(60)
        kubectl("scale", "deployment/coredns", "--namespace=kube-system", "--replicas=1")


def test_the_nightly_run_trains_what_no_webhook_brought(desk: Desk) -> None:
    before = pins(desk)
    with desk.forge.silent():
        commit = desk.retrain("No webhook came", epochs=2)
    kubectl("create", "job", "--from=cronjob/nightly", "by-hand", NAMESPACE)
    run = run_of(commit, 120)
    ended(run)
    assert_pinned_and_served(desk, commit, run, before)


def test_a_bad_image_of_the_store_is_taken_back_through_git(desk: Desk) -> None:
    desk.pull()
    good = desk.shell("grep -A2 'name: flywheel-minio' gitops/images/kustomization.yaml | tail -1").split()[1]
    desk.shell(f"sed -i 's/{good}/sha256:{'0' * 64}/' gitops/images/kustomization.yaml")
    desk.push("A bad image", "main", "platform")
    try:
        refresh()
        until(lambda: not_settled().get("flywheel-minio"), 420, "Argo CD sees it", every=2)
    finally:
        desk.shell("git revert --no-edit HEAD && git push --quiet origin HEAD:main HEAD:platform")
        refresh()
    settle(900)


def test_the_server_answers_on_when_its_image_has_no_digest_any_more(desk: Desk) -> None:
    desk.pull()
    before = served()
    desk.shell(
        f"sed -i '/name: flywheel-serving/,/digest/s/sha256:.*/sha256:{'0' * 64}/' gitops/images/kustomization.yaml"
    )
    desk.push("No digest", "main", "platform")
    try:
        said = desk.shell("make bootstrap PLATFORM=kubernetes", fails=True)
        assert "gitops/images/kustomization.yaml" in said
        assert "flywheel-serving" in said
        refresh()
        until(lambda: "flywheel-serving-dev" in not_settled(), 420, "Argo CD sees it", every=2)
        time.sleep(30)
        assert served() == before
    finally:
        desk.shell("git revert --no-edit HEAD && git push --quiet origin HEAD:main HEAD:platform")
        refresh()
    settle(900)
    assert served() == before


def test_all_is_as_before_when_the_node_was_restarted(desk: Desk, asking: Client) -> None:
    with retraining(desk, "The node restarts", epochs=2) as run:
        pod_of(run, "train-cpu")
        script("down", "--keep-pods")
        assert not asking.lost, asking.lost
        script("up", "--node")
        # A kubelet that starts calls a pod unready until it has probed it (kubernetes/kubernetes#100277), each 5 s.
        time.sleep(15)
        until(lambda: served() and rolled_out("dev"), 60, "dev answers")
        asking.lost.clear()


def test_all_is_as_before_when_the_nodes_power_was_cut(desk: Desk, asking: Client) -> None:
    with retraining(desk, "The power is cut", epochs=6) as run:
        pod_of(run, "train-cpu")
        script("down", "--kill")
        script("up", "--node")
        settle()
        # Applications say what they said before the cut.
        until(lambda: served() and rolled_out("dev"), 300, "dev answers")
        asking.lost.clear()  # nothing could answer meanwhile
