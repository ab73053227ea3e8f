"""GPU nodes that come and go: the patch that makes MachineSet flywheel-gpu out of a worker of this cluster.

A worker's providerSpec (machine.openshift.io/v1beta1) is copied whole, whatever the cloud: no name in it can be derived
from the infrastructure's id. The machine type comes from another patch, which people write.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from runner.cluster.facts import PATH, UNSET, with_comments_of
from runner.errors import ConfigError

Manifest = Mapping[str, Any]
FOLDER = Path("gitops/gpu/overlays/autoscaled")
WORKER = FOLDER / "worker.yaml"
MACHINE_TYPE = FOLDER / "machine-type.yaml"
OURS = "flywheel-gpu"
COPY_OF = "flywheel/copy-of"  # annotation: the MachineSet that it is a copy of
GPUS = "machine.openshift.io/GPU"  # annotation: GPUs of a node
CLUSTER = "machine.openshift.io/cluster-api-cluster"
ROLE = "machine.openshift.io/cluster-api-machine-role"
EDGE = "machine.openshift.io/zone-type"  # Local Zones and the like: not every instance type, no shared volumes


def workers(machine_sets: Sequence[Manifest]) -> list[Manifest]:
    """Return the installer's MachineSets of plain workers, ordered by name; any others when there are none."""
    others = [
        item
        for item in sorted(machine_sets, key=lambda item: str(item["metadata"]["name"]))
        if item["metadata"]["name"] != OURS and EDGE not in _labels(item["spec"]["template"]["spec"])
    ]
    return [item for item in others if _labels(item["spec"]["template"]).get(ROLE) == "worker"] or others


def standing(project: Path) -> str:
    """Return the name of the MachineSet that the patch is a copy of, or shall be."""
    return str(_read(project / WORKER)["metadata"]["annotations"][COPY_OF])


def fits(project: Path, worker: Manifest) -> bool:
    """Whether the machine type is one of the worker's cloud."""
    return _provider_spec(_read(project / MACHINE_TYPE)).get("kind") == _provider_spec(worker).get("kind")


def patch(project: Path, worker: Manifest, cluster: str) -> str:
    """Return the text of the patch for a worker; `cluster` is the infrastructure's id. The file's comments stay."""
    value = _without_nulls({key: each for key, each in _provider_spec(worker).items() if key != "metadata"})
    content = {
        "apiVersion": "machine.openshift.io/v1beta1",
        "kind": "MachineSet",
        "metadata": {
            "name": OURS,
            "namespace": "openshift-machine-api",
            "labels": {CLUSTER: cluster},
            "annotations": {COPY_OF: worker["metadata"]["name"]},
        },
        "spec": {
            "selector": {"matchLabels": {CLUSTER: cluster}},
            "template": {"metadata": {"labels": {CLUSTER: cluster}}, "spec": {"providerSpec": {"value": value}}},
        },
    }
    return with_comments_of(project / WORKER, content)


def require_patches(project: Path, values: Mapping[str, str]) -> None:
    """Raise ConfigError when GPU nodes are to come and go, and a patch is missing, wrong or of another cloud."""
    if values["GPU"] != "autoscaled":
        return
    worker = _read(project / WORKER)
    if standing(project) == UNSET:
        raise ConfigError(f"{WORKER}: still {UNSET}; `python -m runner discover --write` copies a worker's MachineSet")
    if not fits(project, worker):
        kind = _provider_spec(worker).get("kind")
        raise ConfigError(f"{MACHINE_TYPE}: expected a machine type of {kind}; the comments there name some")
    count, quota = (int(values.get(key, "1")) for key in ("GPU_COUNT", "GPU_QUOTA"))
    of_node = _gpus(project)
    if of_node < count or quota % of_node:
        raise ConfigError(
            f"{MACHINE_TYPE}: a node of {of_node} GPUs ({GPUS}) for GPU_COUNT={count}, GPU_QUOTA={quota} of "
            f"{PATH}; a node must have as many as a training takes, and the quota must be a multiple of a node's"
        )


def _gpus(project: Path) -> int:
    text = str((_read(project / MACHINE_TYPE)["metadata"].get("annotations") or {}).get(GPUS, ""))
    if not text.isdecimal() or not int(text):
        raise ConfigError(
            f"{MACHINE_TYPE}: the annotation {GPUS} is {text!r}, expected the GPUs of a node, such as '1'"
        )
    return int(text)


def _labels(item: Manifest) -> Mapping[str, str]:
    return (item.get("metadata") or {}).get("labels") or {}


def _provider_spec(item: Manifest) -> Mapping[str, Any]:
    return item["spec"]["template"]["spec"]["providerSpec"].get("value") or {}


def _without_nulls(value: Any) -> Any:
    """Return a value without its nulls, which a patch would take for deletions."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _read(path: Path) -> Manifest:
    try:
        found: Manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        _provider_spec(found)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: no patch of a MachineSet ({error!r}); take the file as this version has it"
        ) from error
    return found
