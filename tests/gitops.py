"""What kustomize makes of gitops/: each leaf rendered as Argo CD does it, once a test run.

`python -m tests.gitops FOLDER` writes every rendering to FOLDER, as `make manifests` checks them.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

PROJECT = Path(__file__).resolve().parents[1]
GITOPS = PROJECT / "gitops"
TOOLS = Path.home() / ".cache" / "flywheel" / "bin"
Manifest = dict[str, Any]

# Serving runs in a project of its own; the two platforms' folders of the same environments are leaves of it.
SERVING = re.compile(r"serving/(overlays|kubernetes)/[^/]+")


class Leaf(NamedTuple):
    """A folder that is rendered and applied, with what came out."""

    path: str
    objects: list[Manifest]

    def of_kind(self, *kinds: str) -> Iterator[Manifest]:
        """Yield the objects of some kinds."""
        yield from (obj for obj in self.objects if obj["kind"] in kinds)


def load(path: Path) -> Manifest:
    """Read one YAML document."""
    content: Manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def kustomizations(root: Path = GITOPS) -> dict[str, Manifest]:
    """Return every kustomization.yaml below a folder, keyed by the path of its folder."""
    found = {path.parent.relative_to(root).as_posix(): load(path) for path in root.rglob("kustomization.yaml")}
    return dict(sorted(found.items()))


def leaf_paths(root: Path = GITOPS) -> list[str]:
    """Return the folders that something applies: those where the cluster's facts come in, and those built on one."""
    known = kustomizations(root)

    def filled(path: str) -> bool:
        named = [
            (root / path / name).resolve().relative_to(root.resolve()).as_posix()
            for name in (*known[path].get("components", ()), *known[path].get("resources", ()))
            if (root / path / name).is_dir()
        ]
        return "cluster" in named or any(filled(name) for name in named if known[name]["kind"] == "Kustomization")

    return [path for path, content in known.items() if content["kind"] == "Kustomization" and filled(path)]


def render_text(path: Path) -> str:
    """Render a folder with default load restrictions.

    Raises:
        RuntimeError: kustomize refuses it; with its message.
    """
    kustomize = shutil.which("kustomize") or shutil.which("kustomize", path=TOOLS)
    command = [kustomize, "build"] if kustomize else ["kubectl", "kustomize"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise RuntimeError(f"{path}: {done.stderr}")
    return done.stdout


def render(path: str, root: Path = GITOPS) -> Leaf:
    """Render one leaf."""
    return Leaf(path, list(yaml.safe_load_all(render_text(root / path))))


@functools.cache
def leaves() -> tuple[Leaf, ...]:
    """Return every leaf of the repository."""
    return tuple(render(path) for path in leaf_paths())


def main(folder: Path) -> None:
    """Write every rendering, bases too, and print the names of those that are leaves."""
    shutil.rmtree(folder, ignore_errors=True)
    leaf = set(leaf_paths())
    for path, content in kustomizations().items():
        if content["kind"] == "Kustomization":
            file = folder / ("leaves" if path in leaf else "bases") / f"{path.replace('/', '.')}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(render_text(GITOPS / path), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
