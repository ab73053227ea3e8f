"""An earlier version is led over to this one, as gitops/README.md says: `make cluster-upgrade`, on an empty cluster.

The version is BEFORE, another one with UPGRADE_FROM=<commit>.
"""

import os
import re

import pytest

from runner.cluster import facts as cluster_env
from tests.cluster import gitea
from tests.cluster.conftest import DESK, NOTES, QUICK, require, settle
from tests.cluster.desk import (
    ARGO_CD,
    Desk,
    applications,
    fill_in,
    fork,
    get,
    items,
    refresh,
    set_images,
    supply_secrets,
    until,
)
from tests.cluster.runs import PIN, assert_pinned_and_served, client, ended, pins, run_of

# The last whose Applications were called root, minio, pipelines … and whose pins were in gitops/serving/overlays/<env>.
BEFORE = os.environ.get("UPGRADE_FROM", "50621d48b3d20fdbad2559262287203e5c809c74")
PIN_BEFORE = "gitops/serving/overlays/dev/model.env"
SECRETS_IN = ("flywheel-pipelines", "flywheel-labels")


@pytest.fixture
def earlier() -> Desk:
    """A cluster that follows the earlier version and serves a first model."""
    require()
    assert not NOTES.exists(), "the cluster has an installation; `make cluster-upgrade` begins with an empty one"
    desk = fork(DESK, gitea.Gitea().make(), QUICK, BEFORE)
    fill_in(desk)
    set_images(desk)
    desk.type("make bootstrap PLATFORM=kubernetes")
    # Argo CD's first look at the forge may come before the forge's CA does, and this version's bootstrap does not wait.
    until(applied, 300, "Applications", every=10)
    until(lambda: all(get("namespace", name) for name in SECRETS_IN), 300, "namespaces")
    supply_secrets(desk)
    settle()
    with desk.forge.silent():  # its listener takes no webhook of Gitea
        desk.retrain("The first training", epochs=2)
    desk.type("make first-run")
    return desk


def applied() -> bool:
    """Whether Argo CD has read the fork; tell it to, if not."""
    refresh()
    return len(applications()) > 10


def seen() -> str:
    """Return the commit that Argo CD compared the Applications with last."""
    root = get("application", "flywheel-root", f"--namespace={ARGO_CD}")
    return str(root["status"].get("sync", {}).get("revision", "")) if root else ""


def uids(kind: str) -> dict[str, str]:
    """Return the UIDs of all objects of a kind in our namespaces."""
    found = [each["metadata"] for each in items(kind, "--all-namespaces")]
    ours = [each for each in found if each["namespace"].startswith("flywheel-")]
    return {f"{each['namespace']}/{each['name']}": each["uid"] for each in ours}


def merge(desk: Desk) -> None:
    """Merge this version into the fork: gitops/README.md, An earlier version, step 2."""
    pin = (desk.clone / PIN_BEFORE).read_text(encoding="utf-8")
    desk.shell("git fetch --quiet upstream HEAD")
    desk.shell("git merge --quiet --no-edit FETCH_HEAD", fails=True)
    conflicts = set(desk.shell("git diff --name-only --diff-filter=U").splitlines())
    assert conflicts - {"params.yaml"} == {str(cluster_env.PATH)}
    for values in conflicts & {"params.yaml"}:
        desk.shell(f"git checkout --ours {values}")  # the fork's own
    before, now = (f"gitops/serving/{folder}/$each/model.env" for folder in ("overlays", "environments"))
    desk.type(f"for each in baseline dev prod staging; do git show ORIG_HEAD:{before} > {now}; done")
    drop = "sed -i '/^# Only for GPU=autoscaled/,$d' gitops/cluster/cluster.env"
    desk.type(f"git checkout --ours gitops/cluster/cluster.env && {drop} && git commit --all --no-edit")
    pins_now = {file.parent.name: file.read_text(encoding="utf-8") for file in desk.clone.glob(PIN.replace("dev", "*"))}
    assert pins_now.pop("dev") == pin
    assert not any("s3://" in text for text in pins_now.values()), pins_now
    assert not (desk.clone / PIN_BEFORE).exists()
    (desk.clone / ".venv/.ready").touch()


def test_servers_answer_and_volumes_stay_when_an_earlier_installation_is_led_over(earlier: Desk) -> None:
    desk, before, pinned = earlier, {kind: uids(kind) for kind in ("pvc", "deployments")}, pins(earlier)
    assert len(pinned) == 1
    desk.pull()
    with client() as asking:
        merge(desk)
        desk.type("git push origin main main:platform")
        told = desk.type("make bootstrap PLATFORM=kubernetes")
        (narrow,) = re.findall(r"^ *(kubectl delete clusterrolebinding .*)$", told, re.MULTILINE)
        desk.shell(narrow)
        head = desk.shell("git rev-parse HEAD")
        refresh()
        until(lambda: seen() == head, 300, "Argo CD sees the merge", every=5)
        settle()
        assert asking.asked
        assert not asking.lost, asking.lost
        for kind, there in before.items():
            assert there.items() <= uids(kind).items(), kind
        assert all(name.startswith("flywheel-") for name in applications())
        projects = {each["metadata"]["name"] for each in items("appprojects", f"--namespace={ARGO_CD}")}
        assert {name for name in projects if not name.startswith("flywheel-")} <= {"default"}
        commit = desk.retrain("After the upgrade", epochs=2)
        run = run_of(commit)
        ended(run)
        assert assert_pinned_and_served(desk, commit, run, pinned) == 2
    assert not asking.lost, asking.lost
