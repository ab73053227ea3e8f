"""Worker settings of an OpenShift cluster on AWS, from its MachineSets (machine.openshift.io/v1beta1).

Names are read, never derived from the infrastructure's id: installers before OpenShift 4.16 made `<id>-worker-sg` and
`<id>-private-<zone>`, later ones make `<id>-node`, `<id>-lb` and `<id>-subnet-private-<zone>`, and a cluster in its
owner's networks has ids instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

OURS = "flywheel-gpu"
ROLE = "machine.openshift.io/cluster-api-machine-role"
EDGE = "machine.openshift.io/zone-type"  # Local Zones and the like: not every instance type, no shared volumes


class Worker(NamedTuple):
    """Values of one MachineSet, and the parts that cluster.env cannot hold."""

    name: str
    zone: str
    values: dict[str, str]
    faults: dict[str, str]  # key → why it has no value
    notes: list[str]


def workers(machine_sets: Sequence[Mapping[str, Any]]) -> list[Worker]:
    """Return the installer's MachineSets of plain workers, ordered by zone; any others when there are none."""
    others = [item for item in machine_sets if item["metadata"]["name"] != OURS and not _is_edge(item)]
    plain = [item for item in others if _at(item, "spec", "template", "metadata", "labels", ROLE) == "worker"]
    return sorted((_worker(item) for item in plain or others), key=lambda worker: (worker.zone, worker.name))


def _is_edge(item: Mapping[str, Any]) -> bool:
    return EDGE in (_at(item, "spec", "template", "spec", "metadata", "labels") or {})


def _worker(item: Mapping[str, Any]) -> Worker:
    spec: Mapping[str, Any] = _at(item, "spec", "template", "spec", "providerSpec", "value") or {}
    values, faults, notes = dict[str, str](), dict[str, str](), list[str]()

    def take(key: str, value: object, where: str) -> None:
        if isinstance(value, str) and value:
            values[key] = value
        else:
            faults[key] = f"MachineSet {item['metadata']['name']} has no {where}"

    take("AWS_REGION", _at(spec, "placement", "region"), "placement.region")
    take("AWS_ZONE", _at(spec, "placement", "availabilityZone"), "placement.availabilityZone")
    take("AWS_AMI", _at(spec, "ami", "id"), "ami.id")
    take("AWS_INSTANCE_PROFILE", _at(spec, "iamInstanceProfile", "id"), "iamInstanceProfile.id")

    match _reference(spec.get("subnet"), "subnet-id"):
        case (kind, [name]):
            values |= {"AWS_SUBNET_FILTER": kind, "AWS_SUBNET": name}
        case _:
            for key in ("AWS_SUBNET_FILTER", "AWS_SUBNET"):
                take(key, None, "subnet with one id, or one filter tag:Name")

    groups = [found for found in (_reference(g, "group-id") for g in spec.get("securityGroups") or ()) if found]
    kinds = [kind for kind, _ in groups]
    kind = "tag:Name" if "tag:Name" in kinds else "group-id"  # the installer's own; extra groups come as ids
    names = [name for its_kind, found in groups if its_kind == kind for name in found]
    if names:
        values |= {
            "AWS_SECURITY_GROUP_FILTER": kind,
            "AWS_SECURITY_GROUP": names[0],
            "AWS_SECURITY_GROUP_2": names[:2][-1],
        }
    else:
        for key in ("AWS_SECURITY_GROUP_FILTER", "AWS_SECURITY_GROUP", "AWS_SECURITY_GROUP_2"):
            take(key, None, "securityGroups with ids, or filters tag:Name")
    left = names[2:] + [name for its_kind, found in groups if its_kind != kind for name in found]
    if left:
        notes.append(
            f"workers have further security groups: {', '.join(left)}; where a GPU node needs them, "
            "add them to securityGroups in gitops/gpu/components/autoscaled/machine-set.yaml"
        )
    return Worker(str(item["metadata"]["name"]), values.get("AWS_ZONE", ""), values, faults, notes)


def _reference(reference: object, id_filter: str) -> tuple[str, list[str]] | None:
    """Return an AWSResourceReference as filter name and values; None unless it has exactly one filter."""
    if isinstance(identity := _at(reference, "id"), str) and identity:
        return id_filter, [identity]
    match _at(reference, "filters"):
        case [{"name": "tag:Name" | "subnet-id" | "group-id" as kind, "values": [_, *_] as found}]:
            return kind, [str(value) for value in found]
    return None


def _at(value: object, *path: str) -> Any:
    """Return the value at a path of an object; None when the path ends early."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
