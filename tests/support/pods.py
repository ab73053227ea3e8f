"""A rendered pod as a process on this machine: its container's command, environment, and files of its volumes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.gitops import Manifest

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
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

    @property
    def container(self) -> Manifest:
        """Its first container."""
        first: Manifest = self.spec["containers"][0]
        return first

    def environment(self) -> Data:
        """Return the container's environment; paths are those of `mounts`."""
        found: Data = {}
        for source in self.container.get("envFrom", ()):
            found |= self._of(source, "configMapRef", "secretRef")
        for entry in self.container.get("env", ()):
            source = entry.get("valueFrom", {})
            reference = source.get("configMapKeyRef") or source.get("secretKeyRef")
            if reference is None:
                found[entry["name"]] = entry["value"]
            elif (data := self._of(source, "configMapKeyRef", "secretKeyRef")) or not reference.get("optional"):
                found[entry["name"]] = data[reference["key"]]
        found = {
            name: _REFERENCE.sub(lambda match: found.get(match[1], match[0]), text) for name, text in found.items()
        }
        return {name: self._here(value) for name, value in found.items()} | self.changes

    def command(self) -> list[str]:
        """Return the container's command and arguments; the image's own entry point is not known here."""
        return [self._here(word) for word in (*self.container.get("command", ()), *self.container.get("args", ()))]

    def mounts(self) -> dict[str, Path]:
        """Lay out the volumes; return their folders by mount path."""
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", ())}
        found = {}
        for mount in self.container.get("volumeMounts", ()):
            folder = self.folder / mount["name"]
            if not folder.exists():
                folder.mkdir(parents=True)
                volume = volumes.get(mount["name"], {})
                for source in volume.get("projected", {}).get("sources", [volume]):
                    self._lay_out(source, folder)
            found[mount["mountPath"]] = folder
        return found

    def run(self, *entry_point: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end, in its working folder, with no environment but its own and this Python on PATH."""
        mounts = self.mounts()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, **self.environment(), **more}
        return subprocess.run(
            [*entry_point, *self.command()],
            cwd=mounts.get(self.container.get("workingDir", ""), self.folder),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def _of(self, source: Manifest, config: str, secret: str) -> Data:
        reference, known = (source[config], self.config) if config in source else (source[secret], self.secrets)
        return known.get(reference["name"], {}) if reference.get("optional") else known[reference["name"]]

    def _lay_out(self, source: Manifest, folder: Path) -> None:
        for kind, known in (("configMap", self.config), ("secret", self.secrets)):
            if kind not in source:
                continue
            reference: dict[str, Any] = source[kind]
            name = reference.get("name") or reference["secretName"]
            data = known.get(name, {}) if reference.get("optional") else known[name]
            items = reference.get("items") or [{"key": key, "path": key} for key in data]
            for item in items if data else ():
                path = folder / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(data[item["key"]])

    def _here(self, text: str) -> str:
        for mount, folder in sorted(self.mounts().items(), reverse=True):
            text = f"{folder}{text.removeprefix(mount)}" if text == mount else text.replace(f"{mount}/", f"{folder}/")
        return text


def config_maps(objects: list[Manifest]) -> dict[str, Data]:
    """Return the data of the ConfigMaps among some objects, by name."""
    return {obj["metadata"]["name"]: obj["data"] for obj in objects if obj["kind"] == "ConfigMap" and "data" in obj}


def pod_of(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the pod's spec of a workload."""
    found = next(obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] == name)
    spec: Manifest = found["spec"]["template"]["spec"]
    return spec
