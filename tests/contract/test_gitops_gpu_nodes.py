"""GPU nodes on each cloud: a worker's providerSpec, with the machine type that the comments name for it."""

import re
from pathlib import Path

import pytest

from runner.cluster.gpu_nodes import MACHINE_TYPE, WORKER, patch, require_patches
from runner.sweep.queue import gpus_of
from tests.support import gitops

TYPES = {
    gitops.AWS: {"instanceType": "g4dn.xlarge"},
    "AzureMachineProviderSpec": {"vmSize": "Standard_NC4as_T4_v3"},
    "GCPMachineProviderSpec": {
        "machineType": "n1-standard-4",
        "gpus": [{"type": "nvidia-tesla-t4", "count": 1}],
        "onHostMaintenance": "Terminate",
    },
    "VSphereMachineProviderSpec": {},
}


def choose(path: Path, kind: str) -> None:
    """Comment out the machine type, and take the comment off the one of a cloud."""
    head, value, block = path.read_text(encoding="utf-8").partition("        value:\n")
    block = re.sub(r"^( +)(\w+: )", r"\1# \2", block, flags=re.MULTILINE)
    clouds = re.split(r"(?=^ +# (?!\w+: ).*$)", block, flags=re.MULTILINE)
    chosen = [re.sub(r"^( +)# (\w+: )", r"\1\2", each, flags=re.MULTILINE) for each in clouds if kind in each]
    path.write_text(head + value + "".join(chosen), encoding="utf-8")


@pytest.mark.parametrize("kind", gitops.WORKERS)
def test_a_gpu_node_is_a_worker_with_another_machine_type(tmp_path: Path, kind: str) -> None:
    root = gitops.copy_with(gitops.SAMPLE, tmp_path)
    (tmp_path / WORKER).write_text(patch(tmp_path, gitops.WORKERS[kind], gitops.INFRASTRUCTURE))
    choose(tmp_path / MACHINE_TYPE, kind)
    require_patches(tmp_path, gitops.SAMPLE)
    (ours,) = gitops.render("gpu/overlays/autoscaled", root).of_kind("MachineSet")
    copied = gitops.load(tmp_path / WORKER)["spec"]["template"]["spec"]["providerSpec"]["value"]
    assert ours["spec"]["template"]["spec"]["providerSpec"]["value"] == copied | TYPES[kind]
    labels = ours["spec"]["template"]["metadata"]["labels"]
    assert labels["machine.openshift.io/cluster-api-cluster"] == gitops.INFRASTRUCTURE
    assert ours["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert ours["spec"]["template"]["spec"]["taints"]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_the_gpus_of_a_training_are_those_of_cluster_env(tmp_path: Path, count: int) -> None:
    values = gitops.SAMPLE | {"GPU_COUNT": str(count), "GPU_QUOTA": str(2 * count), "GPU_TYPE": "nvidia-l40s"}
    root = gitops.copy_with(values, tmp_path)
    pipelines = gitops.render("pipelines/overlays/openshift", root)
    (template,) = pipelines.of_kind("TriggerTemplate")
    (probe,) = pipelines.of_kind("PodTemplate")
    of_probe = probe["template"]["spec"]["containers"][0]["resources"]["limits"]
    of_training = next(
        each["stepSpecs"][0]["computeResources"]["limits"]
        for each in template["spec"]["resourcetemplates"][0]["spec"]["taskRunSpecs"]
        if each["pipelineTaskName"] == "train-gpu"
    )
    assert of_probe["nvidia.com/gpu"] == of_training["nvidia.com/gpu"] == str(count)
    assert gpus_of(template) == count
    (retrain,) = (each for each in pipelines.of_kind("ConfigMap") if each["metadata"]["name"] == "retrain")
    assert retrain["data"]["GPU_COUNT"] == str(count)

    for mode, hard in (("autoscaled", 2 * count), ("fixed", 2 * count), ("none", 0)):
        (quota,) = gitops.render(f"gpu/overlays/{mode}", root).of_kind("ResourceQuota")
        assert quota["spec"]["hard"] == {"requests.nvidia.com/gpu": str(hard)}
    found = {each["kind"]: each for each in gitops.render("gpu/overlays/autoscaled", root).objects}
    limit = {"type": "nvidia-l40s", "min": 0, "max": 2 * count}
    assert found["ClusterAutoscaler"]["spec"]["resourceLimits"]["gpus"] == [limit]
    assert found["MachineAutoscaler"]["spec"]["maxReplicas"] == 2 * count
    machines = found["MachineSet"]
    assert machines["spec"]["template"]["spec"]["metadata"]["labels"]["cluster-api/accelerator"] == "nvidia-l40s"
    labels = machines["metadata"]["annotations"]["capacity.cluster-autoscaler.kubernetes.io/labels"]
    assert labels == "kubernetes.io/arch=amd64,cluster-api/accelerator=nvidia-l40s"
