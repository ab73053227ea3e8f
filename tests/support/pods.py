"""What a kubelet makes of a container in a manifest: its environment and its command, with volumes in a folder."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.contract.test_gitops_workloads import containers, pod
from tests.support import gitops

Secrets = Mapping[str, Mapping[str, str]]  # their data by name


def container_of(kind: str, name: str, objects: Iterable[gitops.Manifest], container: str = "") -> gitops.Manifest:
    """Return a container of a workload, by default its first one that is no initContainer."""
    (owner,) = (obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name))
    spec = pod(owner, "").spec
    if not container:
        return dict(spec["containers"][0])
    return next(each for each in containers(spec) if each["name"] == container)


def environment_of(
    container: gitops.Manifest, objects: Iterable[gitops.Manifest], secrets: Secrets, folder: Path
) -> dict[str, str]:
    """Return a container's environment; what names a mounted file names it below the folder, which is made."""
    maps = {obj["metadata"]["name"]: obj.get("data", {}) for obj in objects if obj["kind"] == "ConfigMap"}
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        match source:
            case {"configMapRef": {"name": name}}:
                found |= maps[name]
            case {"secretRef": {"name": name}}:
                found |= secrets[name]
    for entry in container.get("env", ()):
        match entry:
            case {"value": value}:
                found[entry["name"]] = value
            case {"valueFrom": {"secretKeyRef": reference}} if reference["name"] in secrets:
                found[entry["name"]] = secrets[reference["name"]][reference["key"]]
            case {"valueFrom": {"configMapKeyRef": reference}} if reference["name"] in maps:
                found[entry["name"]] = maps[reference["name"]][reference["key"]]
            case {"valueFrom": {"secretKeyRef": reference} | {"configMapKeyRef": reference}}:
                assert reference.get("optional"), entry
    for variable, text in found.items():
        found[variable] = _mounted(container, re.sub(r"\$\((\w+)\)", lambda other: found[other[1]], text), folder)
    return found


def command_of(container: gitops.Manifest, folder: Path) -> list[str]:
    """Return a container's command; what it mounts is below the folder."""
    return [_mounted(container, text, folder) for text in (*container.get("command", ()), *container.get("args", ()))]


def _mounted(container: gitops.Manifest, text: str, folder: Path) -> str:
    volumes = {mount["mountPath"]: folder / mount["name"] for mount in container["volumeMounts"]}
    for path in volumes.values():
        path.mkdir(parents=True, exist_ok=True)
    paths = "|".join(sorted(map(re.escape, volumes), key=len, reverse=True))
    return re.sub(rf"(?<![\w/.-])({paths})(?![\w.-])", lambda path: str(volumes[path[1]]), text)
