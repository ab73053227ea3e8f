"""GPU nodes on each cloud: a worker's providerSpec, with the machine type that the comments name for it."""

import re
from pathlib import Path

import pytest

from runner.cluster.gpu_nodes import MACHINE_TYPE, WORKER, patch, require_patches
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
