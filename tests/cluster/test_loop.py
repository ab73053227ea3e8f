"""From an empty cluster to a model that is served, and on to the next one: real controllers, a real forge."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest

from tests.cluster.conftest import Installation
from tests.cluster.desk import applications, get, items, kubectl, supply_secrets, until

pytestmark = pytest.mark.slow
DEV = "https://flywheel-dev.apps.flywheel.test"
BY_HAND = {"serving-prod"}  # somebody syncs it


def settled() -> dict[str, str]:
    """Return the Applications that are not what they should be."""
    found = applications()
    return {name: said for name, said in found.items() if said != "Synced Healthy" and name not in BY_HAND}


def served() -> str:
    """Return the version that dev answers with; empty where it does not."""
    try:
        with urllib.request.urlopen(f"{DEV}/model", timeout=5) as answer:
            return str(json.load(answer)["manifest"]["version"])
    except OSError:
        return ""


def test_every_application_is_synced_and_healthy_when_the_readme_was_followed(installation: Installation) -> None:
    supply_secrets(installation.desk, installation.webhook)
    until(lambda: len(applications()) > 10, 300, "Applications")
    until(lambda: not settled(), 600, "every Application Synced and Healthy", every=2)


def test_a_push_leads_to_a_served_model(installation: Installation) -> None:
    forge, desk = installation.forge, installation.desk
    forge.hook("https://retrain.apps.flywheel.test", installation.webhook)
    began = time.monotonic()
    commit = desk.retrain("One epoch more", epochs=2)
    (run,) = until(lambda: items("pipelineruns", "--namespace=flywheel-pipelines"), 60, "a PipelineRun of the push")
    desk.shell("make first-run")
    print(f"from push to served {time.monotonic() - began:.0f} s")
    assert served() == "1"
    said = forge.statuses(commit)[0]
    assert (said["status"], said["context"]) == ("success", "flywheel/retrain")
    name = run["metadata"]["name"]
    done = get("pipelinerun", name, "--namespace=flywheel-pipelines")
    (condition,) = done["status"]["conditions"]
    assert condition["status"] == "True", condition
    pins = [each for each in forge.commits() if "Flywheel-Pin: " in each["commit"]["message"]]
    assert len(pins) == 1
    assert not kubectl(
        "get",
        "pods",
        "--namespace=flywheel-pipelines",
        "--field-selector=status.phase=Running",
        "--selector=tekton.dev/pipelineRun",
        "--output=name",
    )
