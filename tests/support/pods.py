"""The environment of a rendered pod, as a process on this machine can have it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.gitops import Manifest

Data = dict[str, str]
_REFERENCE = re.compile(r"\$\((\w+)\)")  # to another variable


@dataclass
class Pod:
    """The first container of a workload; what other objects give it is looked up by name, as a kubelet does.

    Attributes:
        spec: of the pod.
        config: the ConfigMaps of its namespace.
        secrets: the Secrets of its namespace.
        folder: where its volumes are laid out.
        changes: environment that is different here, such as addresses on loopback.
    """

    spec: Manifest
    config: dict[str, Data]
    secrets: dict[str, Data]
    folder: Path
    changes: Data = field(default_factory=dict)

    def environment(self) -> Data:
        """Return the container's environment; paths of volumes are those of their folders."""
        (container, *_), found = self.spec["containers"], Data()
        for source in container.get("envFrom", ()):
            found |= self._data(source, "configMapRef", "secretRef")
        for entry in container.get("env", ()):
            source = entry.get("valueFrom", {})
            reference = source.get("configMapKeyRef") or source.get("secretKeyRef")
            if reference is None:
                found[entry["name"]] = entry["value"]
            elif (data := self._data(source, "configMapKeyRef", "secretKeyRef")) or not reference.get("optional"):
                found[entry["name"]] = data[reference["key"]]
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", ())}
        mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", ())}
        for name, text in found.items():
            value = _REFERENCE.sub(lambda match: found.get(match[1], match[0]), text)
            for path, volume in mounts.items():
                if value == path or value.startswith(f"{path}/"):
                    value = f"{self._laid_out(volumes.get(volume, {'name': volume}))}{value.removeprefix(path)}"
            found[name] = value
        return found | self.changes

    def _data(self, source: Manifest, config: str, secret: str) -> Data:
        reference, known = (source[config], self.config) if config in source else (source[secret], self.secrets)
        name = reference.get("name") or reference["secretName"]
        return known.get(name, {}) if reference.get("optional") else known[name]

    def _laid_out(self, volume: Manifest) -> Path:
        folder = self.folder / str(volume["name"])
        folder.mkdir(parents=True, exist_ok=True)
        if {"configMap", "secret"} & volume.keys():
            for key, content in self._data(volume, "configMap", "secret").items():
                (folder / key).write_text(content)
        return folder


def config_maps(objects: list[Manifest]) -> dict[str, Data]:
    """Return the data of the ConfigMaps among some objects, by name."""
    return {obj["metadata"]["name"]: obj["data"] for obj in objects if obj["kind"] == "ConfigMap" and "data" in obj}


def pod_of(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the pod's spec of a workload."""
    found = next(obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] == name)
    spec: Manifest = found["spec"]["template"]["spec"]
    return spec
