"""Facts are taken from a cluster by the real client: kubectl asks a server on loopback that answers as clusters do."""

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import facts as cluster_env
from runner.cluster.discover import discover
from runner.cluster.git_addresses import PATH as ADDRESSES
from runner.cluster.git_addresses import require_addresses
from runner.cluster.gpu_nodes import MACHINE_TYPE, WORKER
from runner.errors import ClusterError, ConfigError
from tests.support import gitops
from tests.unit.runner.cluster.conftest import Answers, log_in

MACHINE_SETS = "/apis/machine.openshift.io/v1beta1/namespaces/openshift-machine-api/machinesets"
INGRESS = "/apis/config.openshift.io/v1/ingresses/cluster"
MONITORING = "/api/v1/namespaces/openshift-monitoring/configmaps/cluster-monitoring-config"
INFRASTRUCTURE = "/apis/config.openshift.io/v1/infrastructures/cluster"
STORAGE = "/apis/storage.k8s.io/v1/storageclasses"
NODES = "/api/v1/nodes"


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    """A project's folder with the files as they ship, and no Git remote."""
    for path in (cluster_env.PATH, ADDRESSES, WORKER, MACHINE_TYPE):
        target = tmp_path / "flywheel" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project / path, target)
    return tmp_path / "flywheel"


def named(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}}


def storage_class(name: str, created: str = "2025-01-01T00:00:00Z", *, default: bool = False) -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return named(name, creationTimestamp=created, annotations=annotations) | {"provisioner": "ebs.csi.aws.com"}


def worker(zone: str, role: str = "worker") -> dict[str, Any]:
    """A MachineSet on AWS in a zone."""
    found = copy.deepcopy(gitops.WORKERS[gitops.AWS])
    found["metadata"]["name"] = f"c-x7k2p-{role}-{zone}"
    template = found["spec"]["template"]
    template["metadata"]["labels"]["machine.openshift.io/cluster-api-machine-role"] = role
    template["spec"]["providerSpec"]["value"]["placement"]["availabilityZone"] = zone
    return found


def gpu_node(machine: str = "") -> dict[str, Any]:
    annotations = {"machine.openshift.io/machine": f"openshift-machine-api/{machine}"} if machine else {}
    return named("g", annotations=annotations) | {"status": {"capacity": {"nvidia.com/gpu": "2"}}}


def openshift(machine_sets: list[Any] | None, cloud: str = "AWS") -> Answers:
    platform = {"type": cloud} | ({"aws": {"region": "eu-central-1"}} if cloud == "AWS" else {})
    status: Answers = {"infrastructureName": "c-x7k2p", "platform": cloud, "platformStatus": platform}
    monitoring = {"data": {"config.yaml": "enableUserWorkload: true\n"}}
    answers: Answers = {
        INFRASTRUCTURE: named("cluster") | {"status": status},
        INGRESS: named("cluster") | {"spec": {"domain": "apps.c.example.com"}},
        MONITORING: monitoring,
        STORAGE: [storage_class("gp2-csi"), storage_class("gp3-csi", default=True)],
        NODES: [named("n1") | {"status": {"capacity": {"cpu": "4"}}}],
    }
    return answers | ({MACHINE_SETS: machine_sets} if machine_sets is not None else {})


def values(folder: Path) -> dict[str, str]:
    return cluster_env.read(folder / cluster_env.PATH)


def commented(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("#")]


@pytest.mark.parametrize("kind", gitops.WORKERS)
def test_a_workers_whole_provider_spec_is_copied_when_gpu_nodes_come_and_go(
    cluster: Answers, folder: Path, kind: str
) -> None:
    found = gitops.WORKERS[kind]
    cluster |= openshift([found], cloud=kind)
    cluster_env.merge(folder / cluster_env.PATH, {"GPU": "autoscaled"})
    before, comments = (folder / WORKER).read_bytes(), commented(folder / WORKER)
    assert f"{WORKER}: would be written" in discover(folder, write=False)
    assert (folder / WORKER).read_bytes() == before
    report = discover(folder, write=True)
    assert f"{WORKER}: written" in report
    assert (str(MACHINE_TYPE) in report) == (kind != gitops.AWS)
    patch = gitops.load(folder / WORKER)
    assert patch["metadata"]["annotations"] == {"flywheel/copy-of": found["metadata"]["name"]}
    template = patch["spec"]["template"]
    selector = patch["spec"]["selector"]["matchLabels"]
    assert selector == {"machine.openshift.io/cluster-api-cluster": "c-x7k2p"}
    assert selector == patch["metadata"]["labels"] == template["metadata"]["labels"]
    value = found["spec"]["template"]["spec"]["providerSpec"]["value"]
    text = json.dumps({key: each for key, each in value.items() if key != "metadata"}, separators=(",", ":"))
    assert template["spec"]["providerSpec"]["value"] == json.loads(re.sub(r'"\w+":null,', "", text))
    assert commented(folder / WORKER) == comments
    assert f"{WORKER}: nothing to change" in discover(folder, write=True)


@pytest.mark.parametrize("kind", gitops.WORKERS)
def test_gpu_nodes_come_and_go_when_there_is_a_machine_type_for_them(cluster: Answers, folder: Path, kind: str) -> None:
    cluster |= openshift([gitops.WORKERS[kind]], cloud=kind)
    report = discover(folder, write=True)
    found = values(folder)
    assert found["GPU"] == ("autoscaled" if kind == gitops.AWS else "none")
    assert (str(WORKER) in report) == (kind == gitops.AWS)
    assert (str(MACHINE_TYPE) in report) == (kind != gitops.AWS)
    assert (found["PLATFORM"], found["STORAGE_CLASS"]) == ("openshift", "gp3-csi")
    assert (found["APPS_DOMAIN"], found["INGRESS_CLASS"]) == ("apps.c.example.com", "unused")
    assert "to be set by hand in gitops/cluster/cluster.env: REPO_URL, PLATFORM_REVISION" in report
    assert "note:" not in report


def test_the_worker_that_was_chosen_stays_when_several_zones_have_some(cluster: Answers, folder: Path) -> None:
    edge = worker("eu-central-1a-edge")
    edge["spec"]["template"]["spec"]["metadata"] = {"labels": {"machine.openshift.io/zone-type": "local-zone"}}
    ours = worker("eu-central-1a") | {"metadata": {"name": "flywheel-gpu"}}
    zones = ("eu-central-1c", "eu-central-1a", "eu-central-1b")
    cluster |= openshift([worker("eu-central-1a", "infra"), ours, edge, *map(worker, zones)])
    report = discover(folder, write=True)
    assert "name one of c-x7k2p-worker-eu-central-1b, c-x7k2p-worker-eu-central-1c in" in report
    (folder / WORKER).write_text((folder / WORKER).read_text().replace("worker-eu-central-1a", "worker-eu-central-1b"))
    discover(folder, write=True)
    (annotation,) = gitops.load(folder / WORKER)["metadata"]["annotations"].values()
    assert annotation == "c-x7k2p-worker-eu-central-1b"


@pytest.mark.parametrize(
    ("answers", "gpu"),
    [
        pytest.param(openshift(None), "none", id="hosted-control-plane"),
        pytest.param(openshift([]), "none", id="no-machine-sets"),
        pytest.param(openshift(None, "None") | {NODES: [gpu_node()]}, "fixed", id="fixed-nodes"),
        pytest.param(openshift([worker("a")]) | {NODES: [gpu_node("flywheel-gpu-abcde")]}, "autoscaled", id="our-own"),
    ],
)
def test_a_worker_is_copied_when_gpu_nodes_come_and_go_alone(
    cluster: Answers, folder: Path, answers: Answers, gpu: str
) -> None:
    cluster |= answers
    assert (str(WORKER) in discover(folder, write=True)) == (gpu == "autoscaled")
    assert values(folder)["GPU"] == gpu


def test_an_ingress_and_its_issuer_are_found_when_the_cluster_is_plain_kubernetes(
    cluster: Answers, folder: Path
) -> None:
    report = discover(folder, write=True)
    for gap in ("STORAGE_CLASS=REPLACE-ME", "INGRESS_CLASS=REPLACE-ME"):
        assert re.search(rf"{gap}  # .*: the cluster has none yet", report)
    default = {"ingressclass.kubernetes.io/is-default-class": "true"}
    answers: Answers = {
        STORAGE: [storage_class("standard")],
        NODES: [],
        "/apis/networking.k8s.io/v1/ingressclasses": [named("internal"), named("nginx", annotations=default)],
        "/apis/cert-manager.io/v1/clusterissuers": [named("staging"), named("production")],
        "/apis/apps/v1/deployments": [named("ingress-nginx-controller", namespace="ingress-nginx")],
        "/apis/apps/v1/daemonsets": [],
        "/apis/monitoring.coreos.com/v1/prometheuses": [named("k8s", namespace="monitoring")],
    }
    cluster |= answers
    report = discover(folder, write=True)
    found = values(folder)
    assert (found["PLATFORM"], found["GPU"], found["STORAGE_CLASS"]) == ("kubernetes", "none", "standard")
    assert (found["INGRESS_CLASS"], found["INGRESS_NAMESPACE"]) == ("nginx", "ingress-nginx")
    assert found["MONITORING_NAMESPACE"] == "monitoring"
    assert re.search("CLUSTER_ISSUER=REPLACE-ME  # .*: the cluster has production, staging", report)
    assert "APPS_DOMAIN=REPLACE-ME  # " in report


@pytest.mark.parametrize(
    ("classes", "standing", "expected"),
    [
        ([storage_class("a"), storage_class("b")], "REPLACE-ME", "REPLACE-ME"),
        ([storage_class("a"), storage_class("b", default=True)], "a", "a"),
        ([storage_class("a"), storage_class("b", default=True)], "gone", "b"),
        ([storage_class("a", "2026-01-01T00:00:00Z", default=True), storage_class("b", default=True)], "gone", "a"),
    ],
)
def test_a_storage_class_is_chosen_when_the_cluster_has_several(
    cluster: Answers, folder: Path, classes: list[Any], standing: str, expected: str
) -> None:
    cluster_env.merge(folder / cluster_env.PATH, {"STORAGE_CLASS": standing})
    cluster |= openshift([]) | {STORAGE: classes}
    discover(folder, write=True)
    assert values(folder)["STORAGE_CLASS"] == expected


def test_comments_and_choices_stay_when_it_runs_twice(cluster: Answers, folder: Path) -> None:
    path = folder / cluster_env.PATH
    cluster_env.merge(path, {"REPO_URL": "https://example.com/a/b.git", "PLATFORM_REVISION": "platform", "GPU": "none"})
    comments = commented(path)
    cluster |= openshift([worker("eu-central-1a")])
    shown = discover(folder, write=False)
    assert "values would change; --write writes them" in shown
    assert values(folder)["PLATFORM"] == "REPLACE-ME"
    discover(folder, write=True)
    once = path.read_bytes()
    report = discover(folder, write=True)
    assert path.read_bytes() == once
    assert report.startswith("gitops/cluster/cluster.env: nothing to change")
    assert report.endswith("commit and push gitops/cluster/cluster.env, then `make bootstrap PLATFORM=openshift`")
    assert values(folder)["GPU"] == "none"
    assert commented(path) == comments


def test_router_and_monitoring_are_seen_when_the_cluster_is_set_up_differently(cluster: Answers, folder: Path) -> None:
    router = {"status": {"endpointPublishingStrategy": {"type": "HostNetwork"}}}
    operator = "/apis/operator.openshift.io/v1/namespaces/openshift-ingress-operator/ingresscontrollers/default"
    cluster |= openshift([]) | {operator: router}
    del cluster[MONITORING]
    domains: Answers = {"spec": {"domain": "apps.c.example.com", "appsDomain": "apps.example.org"}}
    cluster[INGRESS] = domains
    assert "note: monitoring of user workloads is off" in discover(folder, write=True)
    assert values(folder)["INGRESS_NAMESPACE"] == "openshift-host-network"
    assert values(folder)["APPS_DOMAIN"] == "apps.example.org"


@pytest.mark.parametrize(("release", "count"), [("4.16.40", 1), ("4.20.1", 0)])
def test_the_image_of_nfd_is_noted_when_the_release_needs_one(
    cluster: Answers, folder: Path, release: str, count: int
) -> None:
    version = named("version") | {"status": {"desired": {"version": release}}}
    cluster |= openshift([worker("eu-central-1a")])
    cluster["/apis/config.openshift.io/v1/clusterversions/version"] = version
    assert discover(folder, write=False).count("components/openshift-4.16") == count


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({INFRASTRUCTURE: 403}, "infrastructures/cluster is not allowed; log in as a user who may"),
        ({INFRASTRUCTURE: 401}, "does not know the user; log in again"),
        ({"/version": 404}, "the server answers, but not as a Kubernetes cluster does"),
        ({"/version": b"<html>login</html>"}, "/version: the answer is no JSON"),
        ({INGRESS: {"spec": {"domain": 'a.example.com\nREPO_URL="https://evil.example"'}}}, "APPS_DOMAIN is "),
    ],
)
def test_the_file_stays_and_the_reason_is_given_when_the_cluster_refuses_or_answers_nonsense(
    cluster: Answers, folder: Path, answers: Answers, message: str
) -> None:
    before = (folder / cluster_env.PATH).read_bytes()
    cluster |= openshift([]) | answers
    with pytest.raises((ClusterError, ConfigError), match=message):
        discover(folder, write=True)
    assert (folder / cluster_env.PATH).read_bytes() == before


def test_the_reason_is_given_when_there_is_no_cluster(
    cluster: Answers, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(tmp_path, monkeypatch, 9)  # where nobody answers
    with pytest.raises(ClusterError, match=r"does not answer; is this the right one .* refused"):
        discover(folder, write=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="neither oc nor kubectl is on PATH"):
        discover(folder, write=False)


@pytest.mark.parametrize(
    "remote",
    ["https://me:secret@example.com/a/b.git", "git@example.com:a/b.git", "ssh://git@example.com:2222/a/b.git"],
)
def test_the_cluster_reads_by_https_and_without_a_token_when_the_remote_is_another(
    cluster: Answers, folder: Path, run: Any, remote: str
) -> None:
    run("git", "init", "-q", cwd=folder)
    run("git", "remote", "add", "origin", remote, cwd=folder)
    cluster |= openshift([])
    assert "secret" not in discover(folder, write=True)
    assert values(folder)["REPO_URL"] == "https://example.com/a/b.git"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ("", "", cluster_env.PUBLIC_CA)),
        ({"httpsProxy": "http://p.example.com:3128/"}, ("http://p.example.com:3128", "", cluster_env.PUBLIC_CA)),
        (
            {"httpsProxy": "http://p.example.com:3128", "noProxy": ".example.com", "trustedCA": {"name": "ours"}},
            ("http://p.example.com:3128", ".example.com", cluster_env.OWN_CA),
        ),
        ({"httpsProxy": "http://me:secret@p.example.com:3128"}, ("", "", cluster_env.PUBLIC_CA)),
    ],
)
def test_the_proxy_of_the_cluster_is_taken_without_a_password(
    folder: Path, cluster: Answers, spec: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    cluster |= openshift([]) | {"/apis/config.openshift.io/v1/proxies/cluster": named("cluster") | {"spec": spec}}
    said = discover(folder, write=True)
    assert "secret" not in said and ("password" in said) == ("@" in str(spec))
    found = values(folder)
    assert (found["HTTPS_PROXY"], found["NO_PROXY"], found["GIT_SSL_CAINFO"]) == expected
    require_addresses(folder, found)
    assert ("port: 3128" in (folder / ADDRESSES).read_text(encoding="utf-8")) == bool(expected[0])


def test_addresses_of_git_are_written_as_cluster_env_names_them(folder: Path, cluster: Answers) -> None:
    cluster_env.merge(folder / cluster_env.PATH, {"GIT_CIDRS": "192.0.2.0/24,2001:db8::7/128"})
    values = cluster_env.read(folder / cluster_env.PATH)
    with pytest.raises(ConfigError, match=r"git-addresses\.yaml: has other addresses"):
        require_addresses(folder, values)
    before = (folder / ADDRESSES).read_text(encoding="utf-8").splitlines()[0]
    assert f"{ADDRESSES}: would be written" in discover(folder, write=False)
    assert f"{ADDRESSES}: written" in discover(folder, write=True)
    require_addresses(folder, values)
    text = (folder / ADDRESSES).read_text(encoding="utf-8")
    assert text.startswith(before) and "cidr: 2001:db8::7/128" in text
    assert str(ADDRESSES) not in discover(folder, write=True)
