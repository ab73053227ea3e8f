"""What components change that no overlay of the repository lists: that, and nothing else.

The rules for pods (test_gitops_workloads.py) hold for these renderings too.
"""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from runner.store.users import ACCESS
from serving.settings import Settings
from tests.contract.test_gitops_references import made, named
from tests.contract.test_gitops_workloads import pod
from tests.support import gitops
from tests.support.trees import swap

STORED = [leaf for leaf in gitops.variants() if leaf.path.endswith(", external-store")]
SHADOWED = [leaf for leaf in gitops.variants() if leaf.path.endswith(", shadow")]
BACKED_UP = [leaf for leaf in gitops.variants() if leaf.path.endswith(", backup")]
BACKED = [leaf for leaf in gitops.variants() if leaf.path.endswith(", ml-backend")]
ON_SEAWEEDFS = [leaf for leaf in gitops.variants() if leaf.path.endswith(", seaweedfs")]
ON_GPU = [leaf for leaf in gitops.variants() if leaf.path.endswith(", gpu")]
SCHEMAS = gitops.PROJECT.parent / "shared/manifests/schemas"  # of upstream, where they are beside the checkout
Name = tuple[str, str]


def of(leaf: gitops.Leaf) -> dict[Name, gitops.Manifest]:
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in leaf.objects}


def changed(leaf: gitops.Leaf) -> dict[Name, gitops.Manifest]:
    """Return the objects of a variant that are not as in the leaf itself."""
    before, after = of(gitops.leaf(leaf.path.partition(",")[0])), of(leaf)
    assert before.keys() == after.keys()
    return {name: obj for name, obj in after.items() if obj != before[name]}


@pytest.mark.parametrize("leaf", STORED, ids=lambda leaf: leaf.path)
def test_only_the_way_to_the_store_changes_when_it_is_outside(leaf: gitops.Leaf) -> None:
    found = changed(leaf)
    assert found.keys() == {("ConfigMap", "store"), ("NetworkPolicy", "to-store")}
    assert found["ConfigMap", "store"]["data"] == {
        "STORE_URI": "s3://flyingthings",
        "AWS_ENDPOINT_URL": "https://minio.flywheel-minio.svc:9000",  # STORE_ENDPOINT, which people set
        "CA_BUNDLE": "",
    }
    (way,) = found["NetworkPolicy", "to-store"]["spec"]["egress"]
    assert way == {"ports": [{"protocol": "TCP", "port": 443}]}
    others = [obj for name, obj in of(leaf).items() if name != ("ConfigMap", "store")]
    assert [text for text in gitops.strings(others) if "minio" in text] == []


@pytest.mark.parametrize("leaf", SHADOWED, ids=lambda leaf: leaf.path)
def test_only_the_server_gets_a_challenger(leaf: gitops.Leaf) -> None:
    before, after = of(gitops.leaf(leaf.path.partition(",")[0])), of(leaf)
    ((kind, name),) = after.keys() - before.keys()
    assert (kind, name.rpartition("-")[0]) == ("ConfigMap", "shadow")
    assert {name for name in before if before[name] != after[name]} == {("Deployment", "model")}
    (container,) = after["Deployment", "model"]["spec"]["template"]["spec"]["containers"]
    (old,) = before["Deployment", "model"]["spec"]["template"]["spec"]["containers"]
    added = [each for each in container["env"] if each not in old["env"]]
    assert {each["valueFrom"]["configMapKeyRef"]["name"] for each in added} == {name}
    assert {each["name"] for each in added} == after[kind, name]["data"].keys()


@pytest.mark.parametrize("leaf", BACKED_UP, ids=lambda leaf: leaf.path)
def test_backups_change_nothing_else_and_all_that_they_name_is_there(leaf: gitops.Leaf) -> None:
    path, after = leaf.path.partition(",")[0], of(leaf)
    before = of(gitops.leaf(path))
    assert {name: after[name] for name in before} == before
    assert {name for kind, name in after.keys() - before.keys() if kind == "CronJob"} == {"backup", "restore"}
    there = made(path.rpartition("/")[2])
    there |= {(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in leaf.objects}
    assert [name for obj in leaf.objects for name in named(obj) if name not in there] == []


@pytest.mark.parametrize("leaf", BACKED, ids=lambda leaf: leaf.path)
def test_label_studio_alone_reaches_its_model_server(leaf: gitops.Leaf) -> None:
    before, after = of(gitops.leaf(leaf.path.partition(",")[0])), of(leaf)
    policies = {name: obj["spec"] for (kind, name), obj in after.items() if kind == "NetworkPolicy"}
    added = {(kind, name) for kind, name in after.keys() - before.keys() if not name.startswith("signers-")}
    assert added == {
        *((kind, "ml-backend") for kind in ("Deployment", "Service", "ServiceAccount", "NetworkPolicy")),
        ("NetworkPolicy", "label-studio-with-ml-backend"),
    }
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {("Deployment", "label-studio"), ("CronJob", "labels-setup")}
    labels = {"app.kubernetes.io/name": "ml-backend"}
    assert pod(after["Deployment", "ml-backend"], leaf.path).labels.items() >= labels.items()
    reaching = [
        policy
        for policy in policies.values()
        if policy["podSelector"].get("matchLabels") == labels
        for rule in policy.get("ingress", ())
        for peer in rule["from"]
    ]
    assert reaching == [policies["ml-backend"]]
    (peer,) = policies["ml-backend"]["ingress"][0]["from"]
    assert peer == {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "label-studio"}}}


@pytest.mark.parametrize("leaf", BACKED, ids=lambda leaf: leaf.path)
def test_both_sides_of_the_model_server_have_one_key_and_one_address(leaf: gitops.Leaf) -> None:
    found = of(leaf)
    (server,) = pod(found["Deployment", "ml-backend"], leaf.path).spec["containers"]
    (setup,) = pod(found["CronJob", "labels-setup"], leaf.path).spec["containers"]
    served, asked = ({each["name"]: each for each in side["env"]} for side in (server, setup))
    assert served["API_KEY"]["valueFrom"] == asked["LABEL_STUDIO_ML_BACKEND_KEY"]["valueFrom"]
    port = found["Service", "ml-backend"]["spec"]["ports"][0]["port"]
    assert asked["LABEL_STUDIO_ML_BACKEND_URL"]["value"] == f"http://ml-backend:{port}/ml"
    known = {name.upper() for name in Settings.model_fields}
    assert {each["name"] for each in server["env"]} <= known | {"STORE_URI"}


@pytest.mark.parametrize("leaf", BACKED, ids=lambda leaf: leaf.path)
def test_what_decodes_for_the_annotators_writes_no_dataset(leaf: gitops.Leaf) -> None:
    (server,) = pod(of(leaf)["Deployment", "ml-backend"], leaf.path).spec["containers"]
    (secret,) = (each["secretRef"]["name"] for each in server["envFrom"] if "secretRef" in each)
    table = (gitops.PROJECT / "gitops/credentials/tables/store.txt").read_text(encoding="utf-8")
    copies = dict(line.split(" from flywheel-minio/store-user-") for line in table.splitlines() if " from " in line)
    access = ACCESS[{name.strip(): user for name, user in copies.items()}[f"flywheel-labels/{secret}"]]
    assert {"captures", "datasets", "models"} <= set(access.reads) and access.writes == ("feedback",)


@pytest.mark.parametrize("leaf", ON_SEAWEEDFS, ids=lambda leaf: leaf.path)
def test_seaweedfs_is_the_only_store_and_reached_as_minio_is(leaf: gitops.Leaf) -> None:
    before, after = of(gitops.leaf(leaf.path.partition(",")[0])), of(leaf)
    assert {name for kind, name in after if kind in ("StatefulSet", "Service")} == {"seaweedfs"}
    assert {name for name in before.keys() - after.keys() if name[0] != "NetworkPolicy"} == {
        (kind, "minio")
        for kind in ("StatefulSet", "Service", "ServiceAccount", "ConfigMap", "PrometheusRule", "ServiceMonitor")
    }
    template = after["StatefulSet", "seaweedfs"]["spec"]["template"]
    selector = after["NetworkPolicy", "from-clients"]["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()
    container = template["spec"]["containers"][0]
    (port,) = after["Service", "seaweedfs"]["spec"]["ports"]
    assert {"name": port["targetPort"], "containerPort": port["port"]} in container["ports"]
    secrets = {volume["secret"]["secretName"] for volume in template["spec"]["volumes"] if "secret" in volume}
    issued = {obj["spec"]["secretName"] for (kind, _), obj in after.items() if kind == "Certificate"}
    annotations = after["Service", "seaweedfs"]["metadata"].get("annotations", {})
    assert secrets <= issued | set(annotations.values())


IMAGE = "registry.redhat.io/openshift4/ose-node-feature-discovery-rhel9:v4.16"


@pytest.mark.parametrize(
    ("path", "line", "kind", "field", "value"),
    [
        ("builds", "- components/private", "BuildConfig", "source", {"sourceSecret": {"name": "git"}}),
        ("operators/nfd/instance", "- components/openshift-4.16", "NodeFeatureDiscovery", "operand", {"image": IMAGE}),
    ],
)
def test_nothing_else_changes_when_a_component_is_no_comment_any_more(
    path: str, line: str, kind: str, field: str, value: dict[str, Any], tmp_path: Path
) -> None:
    root = gitops.copy_with(gitops.SAMPLE, tmp_path)
    expected = gitops.render(path, root).objects
    for obj in expected:
        if obj["kind"] == kind:
            obj["spec"][field] |= value
    swap(root / path / "kustomization.yaml", f"# {line}", line)  # as gitops/README.md says
    assert gitops.render(path, root).objects == expected


@pytest.mark.parametrize("platform", ["openshift", "kubernetes"])
def test_the_pod_of_the_gpu_alone_is_in_a_queue_when_kueue_is_there(platform: str, tmp_path: Path) -> None:
    path = f"pipelines/overlays/{platform}"
    before = gitops.leaf(path).objects
    root = gitops.template(tmp_path)
    swap(root / path / "kustomization.yaml", "# - ../../components/kueue", "- ../../components/kueue")
    after = gitops.render(path, root).objects
    (queue,) = (obj for obj in after if obj["kind"] == "LocalQueue")
    after.remove(queue)
    template = next(obj for obj in after if obj["kind"] == "TriggerTemplate")
    specs = template["spec"]["resourcetemplates"][0]["spec"]["taskRunSpecs"]
    labelled = {each["pipelineTaskName"]: each.pop("metadata") for each in specs if "metadata" in each}
    name = queue["metadata"]["name"]
    assert labelled == {"train-gpu": {"labels": {"kueue.x-k8s.io/queue-name": name}}}
    assert after == before

    text = (gitops.GITOPS / "pipelines/README.md").read_text(encoding="utf-8")
    by_hand = list(yaml.safe_load_all(text.partition("kind: ResourceFlavor")[2].partition("```")[0]))
    (of_cluster,) = (obj for obj in by_hand if obj.get("kind") == "ClusterQueue")
    assert queue["spec"]["clusterQueue"] == of_cluster["metadata"]["name"]
    namespace = {"kubernetes.io/metadata.name": queue["metadata"]["namespace"]}
    assert of_cluster["spec"]["namespaceSelector"]["matchLabels"] == namespace
    for obj in (queue, of_cluster):
        file = SCHEMAS / f"kueue.x-k8s.io/{obj['kind'].lower()}_v1beta1.json"
        if file.is_file():
            jsonschema.Draft202012Validator(json.loads(file.read_text(encoding="utf-8"))).validate(obj)


@pytest.mark.parametrize("leaf", ON_GPU, ids=lambda leaf: leaf.path)
def test_only_the_pods_change_when_a_model_is_served_on_a_gpu(leaf: gitops.Leaf) -> None:
    before = of(gitops.leaf(leaf.path.partition(",")[0]))["Deployment", "model"]["spec"]["template"]["spec"]
    found = changed(leaf)
    assert found.keys() == {("Deployment", "model")}
    after = copy.deepcopy(found["Deployment", "model"]["spec"]["template"]["spec"])
    assert after.pop("tolerations") == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (container,), (plain,) = after.pop("containers"), before["containers"]
    assert container.pop("image") == f"registry.example.com/flywheel-serving-gpu@sha256:{'9' * 64}"
    resources = container.pop("resources")
    assert resources["limits"] == plain["resources"]["limits"] | {"memory": "4Gi", "nvidia.com/gpu": 1}
    assert resources["requests"] == plain["resources"]["requests"] | {"memory": "2Gi"}
    assert container.items() <= plain.items()  # and everything else stays
    assert after.items() <= before.items()
