"""What an environment serves follows from its model.env alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support.gitops import GITOPS, Manifest, environments, render

ENVIRONMENTS = environments()
PLATFORMS = ("openshift", "kubernetes")
PIN = {
    "MODEL_URI": "s3://flyingthings/models/flyingthings/{n}/manifest.json",
    "MODEL_SHA256": "0" * 63 + "{n}",
    "MODEL_VERSION": "{n}",
    "MODEL_COMMIT": "4f26cd9",
    "MODEL_MAP50": "0.93",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("copy") / "gitops"
    shutil.copytree(GITOPS, target)
    return target


def pinned(copy: Path, environment: str, number: int | None) -> None:
    text = "".join(f"{key}={'' if number is None else value.format(n=number)}\n" for key, value in PIN.items())
    (copy / f"serving/environments/{environment}/model.env").write_text(text)


def deployment(copy: Path, platform: str, environment: str) -> Manifest:
    return next(render(f"serving/overlays/{platform}/{environment}", copy).of_kind("Deployment"))


def test_every_platform_has_an_environment_when_it_has_a_pin() -> None:
    for platform in PLATFORMS:
        assert sorted(path.name for path in (GITOPS / "serving/overlays" / platform).iterdir()) == ENVIRONMENTS
    for environment in ENVIRONMENTS:
        lines = (GITOPS / f"serving/environments/{environment}/model.env").read_text().splitlines()
        assert [line.partition("=")[0] for line in lines] == list(PIN)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_replicas_when_nothing_is_pinned(copy: Path, platform: str, environment: str) -> None:
    pinned(copy, environment, None)
    assert deployment(copy, platform, environment)["spec"]["replicas"] == 0
    pinned(copy, environment, 1)
    served = deployment(copy, platform, environment)
    # prod leaves the number to its autoscaler
    assert served["spec"].get("replicas") == {"prod": None, "staging": 2}.get(environment, 1)
    assert served["metadata"]["annotations"]["flywheel/model"] == PIN["MODEL_URI"].format(n=1)


def test_pods_replaced_when_the_pin_changes(copy: Path) -> None:
    templates = []
    for number in (1, 2, 1):
        pinned(copy, "dev", number)
        templates.append(deployment(copy, "openshift", "dev")["spec"]["template"])
    assert templates[0] != templates[1]
    assert templates[0] == templates[2]  # a revert is a roll-back


def test_reachable_at_its_namespace_when_rendered(copy: Path) -> None:
    for environment in ENVIRONMENTS:
        route = next(render(f"serving/overlays/openshift/{environment}", copy).of_kind("Route"))
        ingress = next(render(f"serving/overlays/kubernetes/{environment}", copy).of_kind("Ingress"))
        assert route["spec"]["host"].startswith(f"flywheel-{environment}.")
        assert ingress["spec"]["rules"][0]["host"] == route["spec"]["host"]


def test_key_wanted_for_all_when_it_is_staging_or_prod(copy: Path) -> None:
    for environment in ENVIRONMENTS:
        container = deployment(copy, "openshift", environment)["spec"]["template"]["spec"]["containers"][0]
        values = {entry["name"]: entry for entry in container["env"]}
        assert values["API_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "model-api", "key": "key"}}
        assert values["API_KEY_FOR"]["value"] == ("all" if environment in ("staging", "prod") else "feedback")


def test_time_to_finish_when_a_pod_is_told_to_stop(project: Path) -> None:
    pod = next(render("serving/overlays/openshift/prod").of_kind("Deployment"))["spec"]["template"]["spec"]
    values = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    graceful = re.search(r'"--timeout-graceful-shutdown", "(\d+)"', (project / "serving/Containerfile").read_text())
    assert graceful
    drain, finish = float(values["DRAIN_SECONDS"]), int(graceful[1])
    # Longer than it takes for a router to hear of it: two failed probes, and HAProxy reloads every 5 s.
    probe = pod["containers"][0]["readinessProbe"]
    assert drain >= probe["periodSeconds"] * probe["failureThreshold"] + 5
    assert pod["terminationGracePeriodSeconds"] >= drain + finish + 10
    assert float(values["VIDEO_WORK_SECONDS"]) + 30 <= finish  # and UPLOAD_SECONDS
