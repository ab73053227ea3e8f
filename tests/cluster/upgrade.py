"""An earlier version is led over to this one, as gitops/README.md says: `make cluster-upgrade`, on an empty cluster."""

from __future__ import annotations

import re

import pytest

from tests.cluster import gitea
from tests.cluster.conftest import DESK, NOTES, QUICK, require, settle
from tests.cluster.desk import ARGO_CD, Desk, applications, fill_in, fork, items, set_images, supply_secrets, until
from tests.cluster.runs import assert_pinned_and_served, client, ended, pins, run_of

BEFORE = "50621d48b3d20fdbad2559262287203e5c809c74"  # the last whose Applications were called root, minio, pipelines …


@pytest.fixture
def earlier() -> Desk:
    """A cluster that follows the earlier version and serves a first model."""
    require()
    assert not NOTES.exists(), "the cluster has an installation; `make cluster-upgrade` begins with an empty one"
    desk = fork(DESK, gitea.Gitea().make(), QUICK, BEFORE)
    fill_in(desk)
    set_images(desk)
    desk.type("make bootstrap PLATFORM=kubernetes")
    supply_secrets(desk)
    until(lambda: len(applications()) > 10, 300, "Applications")
    settle()
    with desk.forge.silent():  # its listener takes no webhook of Gitea
        desk.retrain("The first training", epochs=2)
    desk.type("make first-run")
    return desk


def claims() -> dict[str, str]:
    """Return the UIDs of all volumes' claims."""
    found = [each["metadata"] for each in items("pvc", "--all-namespaces")]
    return {f"{each['namespace']}/{each['name']}": each["uid"] for each in found}


def test_servers_answer_and_volumes_stay_when_an_earlier_installation_is_led_over(earlier: Desk) -> None:
    desk, volumes, pinned = earlier, claims(), pins(earlier)
    assert len(pinned) == 1
    desk.pull()
    with client() as asking:
        desk.shell("git fetch --quiet upstream HEAD && git merge --quiet --no-edit FETCH_HEAD && touch .venv/.ready")
        desk.type("git push origin main main:platform")
        told = desk.type("make bootstrap PLATFORM=kubernetes")
        (narrow,) = re.findall(r"^ *(kubectl delete clusterrolebinding .*)$", told, re.MULTILINE)
        desk.shell(narrow)
        settle()
        assert asking.asked
        assert not asking.lost, asking.lost
        assert volumes.items() <= claims().items()
        assert all(name.startswith("flywheel-") for name in applications())
        projects = {each["metadata"]["name"] for each in items("appprojects", f"--namespace={ARGO_CD}")}
        assert {name for name in projects if not name.startswith("flywheel-")} <= {"default"}
        commit = desk.retrain("After the upgrade", epochs=2)
        run = run_of(commit)
        ended(run)
        assert assert_pinned_and_served(desk, commit, run, pinned) == 2
    assert not asking.lost, asking.lost
