"""From an empty cluster to a model that is served, and back: real controllers, a real forge."""

import pytest

from tests.cluster.conftest import First, not_settled
from tests.cluster.desk import Desk, applications, kubectl, refresh, until
from tests.cluster.runs import assert_pinned_and_served, client, ended, pins, run_of, seconds_of, served, status_of

pytestmark = pytest.mark.slow


def test_every_application_is_synced_and_healthy_when_the_readme_was_followed(settled: Desk) -> None:
    assert not not_settled(), applications()


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("create deployments -n flywheel-dev", "yes"),
        ("create deployments -n kube-system", "no"),
        ("create pods -n kube-system", "no"),
        ("get secrets -n flywheel-pipelines", "no"),
        ("create clusterrolebindings", "no"),
        ("escalate clusterroles", "no"),
        ("impersonate serviceaccounts -n flywheel-pipelines", "no"),
    ],
)
def test_argo_cd_may_do_what_it_applies_and_no_more(settled: Desk, question: str, answer: str) -> None:
    controller = "system:serviceaccount:argocd:argocd-application-controller"
    assert kubectl("auth", "can-i", *question.split(), f"--as={controller}", fails=True) == answer


def test_a_push_leads_to_a_served_model(settled: Desk, first: First) -> None:
    if not first.commit:
        pytest.skip("the installation is of an earlier session; `make cluster-down` forgets it")
    ended(first.run)
    print(f"\nfrom the first push to served {first.seconds:.0f} s: {seconds_of(first.run)}")
    assert assert_pinned_and_served(settled, first.commit, first.run, []) == 1
    assert status_of(settled, first.commit)[0] == "success"
    assert "dev serves s3://flyingthings/models/flyingthings/1/manifest.json" in first.told


@pytest.mark.faults
def test_no_request_is_lost_when_a_model_takes_the_place_of_another_and_a_revert_brings_it_back(desk: Desk) -> None:
    before = pins(desk)
    with client() as asking:
        commit = desk.retrain("Three epochs", epochs=3)
        run = run_of(commit)
        ended(run)
        number = assert_pinned_and_served(desk, commit, run, before)
        desk.shell("git revert --no-edit HEAD && git push --quiet origin HEAD:main")
        refresh()
        until(lambda: served().get("version") == number - 1, 420, "the former version")
    assert not asking.lost
    assert run_of(commit) == run  # the revert starts nothing
