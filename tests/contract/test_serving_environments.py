import json
import re
from pathlib import Path

import jsonschema
import pytest

from serving.monitoring import Metrics
from serving.origins import parse_origins, parse_urls
from serving.settings import Settings
from tests.contract.test_gitops_references import PLATFORMS
from tests.support.gitops import GITOPS, PROJECT, Leaf, Manifest, environments, leaf, render, template
from tests.support.trees import swap

ENVIRONMENTS = environments()
PIN = {
    "MODEL_URI": "s3://flyingthings/models/flyingthings/{n}/manifest.json",
    "MODEL_SHA256": "0" * 63 + "{n}",
    "MODEL_VERSION": "{n}",
    "MODEL_COMMIT": "4f26cd9",
    "MODEL_MAP50": "0.93",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("copy"))


def pinned(copy: Path, environment: str, number: int | None) -> None:
    text = "".join(f"{key}={'' if number is None else value.format(n=number)}\n" for key, value in PIN.items())
    (copy / f"serving/environments/{environment}/model.env").write_text(text)


def deployment(leaf: Leaf) -> Manifest:
    return next(leaf.of_kind("Deployment"))


def container(environment: str) -> tuple[Manifest, dict[str, Manifest]]:
    """Return the pod's spec of an environment, and the variables of its server by name."""
    pod = deployment(leaf(f"serving/overlays/openshift/{environment}"))["spec"]["template"]["spec"]
    return pod, {entry["name"]: entry for entry in pod["containers"][0]["env"]}


def test_every_platform_has_an_environment_when_it_has_a_pin() -> None:
    for platform in PLATFORMS:
        assert sorted(path.name for path in (GITOPS / "serving/overlays" / platform).iterdir()) == ENVIRONMENTS
    for environment in ENVIRONMENTS:
        lines = (GITOPS / f"serving/environments/{environment}/model.env").read_text().splitlines()
        assert [line.partition("=")[0] for line in lines] == list(PIN)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_replicas_when_nothing_is_pinned(copy: Path, environment: str) -> None:
    pinned(copy, environment, None)
    assert deployment(render(f"serving/overlays/openshift/{environment}", copy))["spec"]["replicas"] == 0
    pinned(copy, environment, 1)
    served = deployment(render(f"serving/overlays/kubernetes/{environment}", copy))
    # prod leaves the number to its autoscaler
    assert served["spec"].get("replicas") == {"prod": None, "staging": 2}.get(environment, 1)
    assert served["metadata"]["annotations"]["flywheel/model"] == PIN["MODEL_URI"].format(n=1)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_servers_know_how_many_they_are(copy: Path, environment: str) -> None:
    pinned(copy, environment, 1)
    served = render(f"serving/overlays/kubernetes/{environment}", copy)
    counts = [it["spec"]["maxReplicas"] for it in served.of_kind("HorizontalPodAutoscaler")]
    counts += [deployment(served)["spec"].get("replicas", 1)]
    variables = deployment(served)["spec"]["template"]["spec"]["containers"][0]["env"]
    said = next((int(each["value"]) for each in variables if each["name"] == "REPLICAS"), Settings().replicas)
    assert said == max(counts)


def test_pods_replaced_when_the_pin_changes(copy: Path) -> None:
    templates = []
    for number in (1, 2, 1):
        pinned(copy, "dev", number)
        templates.append(deployment(render("serving/overlays/openshift/dev", copy))["spec"]["template"])
    assert templates[0] != templates[1]
    assert templates[0] == templates[2]  # a revert is a roll-back


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_reachable_at_its_namespace_and_with_its_key(environment: str) -> None:
    (route,) = leaf(f"serving/overlays/openshift/{environment}").of_kind("Route")
    (ingress,) = leaf(f"serving/overlays/kubernetes/{environment}").of_kind("Ingress")
    assert route["spec"]["host"].startswith(f"flywheel-{environment}.")
    assert ingress["spec"]["rules"][0]["host"] == route["spec"]["host"]
    _, values = container(environment)
    assert values["API_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "model-api", "key": "key"}}
    assert values["API_KEY_FOR"]["value"] == ("all" if environment in ("staging", "prod") else "feedback")


def test_pages_compare_with_the_servers_that_know_them() -> None:
    """A page may ask another environment just where that environment names the page's origin."""
    asks, answers = set(), set()
    for environment in ENVIRONMENTS:
        (route,) = leaf(f"serving/overlays/openshift/{environment}").of_kind("Route")
        origin = f"https://{route['spec']['host']}".lower()  # as browsers write it
        _, values = container(environment)
        given = {name: entry["value"] for name, entry in values.items() if "value" in entry}
        places = [
            list(values).index(name) for name in ("APPS_DOMAIN", "COMPARE_URLS", "CORS_ORIGINS") if name in values
        ]
        assert min(places) == places[0]  # a variable refers to those before it
        said = {name: value.replace("$(APPS_DOMAIN)", given["APPS_DOMAIN"]) for name, value in given.items()}
        asks |= {(origin, f"{url.rstrip('/')}") for url in parse_urls(said.get("COMPARE_URLS"))}
        answers |= {(other, origin) for other in parse_origins(said.get("CORS_ORIGINS"))}
    assert asks == answers != set()


def test_time_to_finish_when_a_pod_is_told_to_stop(project: Path) -> None:
    pod, values = container("prod")
    graceful = re.search(r'"--timeout-graceful-shutdown", "(\d+)"', (project / "serving/Containerfile").read_text())
    assert graceful
    drain, finish = float(values["DRAIN_SECONDS"]["value"]), int(graceful[1])
    # Longer than it takes for a router to hear of it: two failed probes, and HAProxy reloads every 5 s.
    probe = pod["containers"][0]["readinessProbe"]
    assert drain >= probe["periodSeconds"] * probe["failureThreshold"] + 5
    assert pod["terminationGracePeriodSeconds"] >= drain + finish + 10
    assert float(values["VIDEO_WORK_SECONDS"]["value"]) + 30 <= finish  # and UPLOAD_SECONDS


def admitted(obj: Manifest, file: str) -> None:
    """Hold an object against its CRD's schema, where that is beside the checkout."""
    path = PROJECT.parent / "shared/manifests/schemas" / file
    if path.is_file():
        jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8"))).validate(obj)


def behind_cluster(root: Path, path: str, component: str) -> Leaf:
    """Render an overlay with a component listed last, as gitops/serving/README.md says."""
    file, line = root / path / "kustomization.yaml", "- ../../../../cluster\n"
    added = f"{line}- ../../../components/{component}\n"
    swap(file, line, added)
    try:
        return render(path, root)
    finally:
        swap(file, added, line)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(("environment", "number"), [("dev", 1), ("staging", 2), ("staging", None)])
def test_kserve_runs_the_pod_of_the_deployment(copy: Path, platform: str, environment: str, number: int | None) -> None:
    path = f"serving/overlays/{platform}/{environment}"
    pinned(copy, environment, number)
    before = {(obj["kind"], obj["metadata"]["name"]): obj for obj in render(path, copy).objects}
    after = {(obj["kind"], obj["metadata"]["name"]): obj for obj in behind_cluster(copy, path, "kserve").objects}
    service, spec = after.pop(("InferenceService", "model")), before.pop(("Deployment", "model"))["spec"]
    assert after == before
    admitted(service, "serving.kserve.io/inferenceservice_v1beta1.json")
    pod = service["spec"]["predictor"]
    assert pod.pop("minReplicas") == spec["replicas"]
    assert pod.pop("deploymentStrategy") == spec["strategy"]
    assert pod.pop("labels") == spec["template"]["metadata"]["labels"]
    pod["containers"][0]["name"] = "model"
    assert pod == spec["template"]["spec"]


@pytest.mark.parametrize("number", [None, 1])
def test_the_queue_of_the_server_sets_the_replicas_when_keda_is_there(copy: Path, number: int | None) -> None:
    path = "serving/overlays/kubernetes/staging"
    pinned(copy, "staging", number)
    served = behind_cluster(copy, path, "autoscale-by-queue")
    (scaler,) = served.of_kind("ScaledObject")
    admitted(scaler, "keda.sh/scaledobject_v1alpha1.json")
    assert deployment(served)["spec"].get("replicas") == (None if number else 0)
    paused = scaler["metadata"]["annotations"].get("autoscaling.keda.sh/paused-replicas")
    assert paused == (None if number else "0")
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment(served)["metadata"]["name"]
    variables = deployment(served)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "REPLICAS", "value": str(scaler["spec"]["maxReplicaCount"])} in variables
    (queue,) = (each["metadata"] for each in scaler["spec"]["triggers"] if each["type"] == "prometheus")
    (metric,) = re.findall(r"flywheel_\w+", queue["query"])
    assert f"# TYPE {metric} gauge" in Metrics().text().decode()
