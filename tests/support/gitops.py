"""What kustomize makes of gitops/: each leaf rendered as Argo CD does it, once until gitops/ changes.

`python -m tests.support.gitops FOLDER` writes every rendering to FOLDER, as `make manifests` checks them.
"""

import functools
import hashlib
import json
import os
import posixpath
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import yaml
from filelock import FileLock

from runner.cluster import facts as cluster_env
from runner.cluster import git_addresses, gpu_nodes
from runner.workspace import write_text
from tests.support.processes import CACHE
from tests.support.trees import swap

PROJECT = Path(__file__).resolve().parents[2]
GITOPS = PROJECT / "gitops"
Manifest = dict[str, Any]
CLUSTER_WIDE = (
    *("Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass"),
    *("ClusterIssuer", "ClusterAutoscaler", "ClusterPolicy", "TektonConfig", "ConsoleLink"),
)
ALONE = ("serving/dashboard",)  # it uses no store
GPU_IMAGE = f"newName: registry.example.com/flywheel-serving-gpu, digest: 'sha256:{'9' * 64}'"
SEAWEEDFS_IMAGE = f"newName: registry.example.com/flywheel-seaweedfs, digest: 'sha256:{'8' * 64}'"


# Two sets of values; no value of the first is part of another one, or of what stands in a manifest anyway.
SAMPLE = {
    "FORGE": "gitea",
    "REPO_URL": "https://git.sample.org/team/repository.git",
    "PLATFORM_REVISION": "sample-reviewed",
    "DETECTOR_REVISION": "sample-trunk",
    "GIT_CIDRS": "192.0.2.0/24,2001:db8::/32",
    "HTTPS_PROXY": "http://sample-proxy.sample.org:3128",
    "NO_PROXY": "sample-direct.sample.org",
    "PROXY_CIDRS": "203.0.113.16/28",
    "GIT_SSL_CAINFO": cluster_env.OWN_CA,
    "STORE_URI": "s3://sample-bucket",
    "STORE_ENDPOINT": "https://sample-store.sample.org:9000",
    "PLATFORM": "openshift",
    "APPS_DOMAIN": "apps.sample.net",
    "STORAGE_CLASS": "sample-disk",
    "INGRESS_NAMESPACE": "sample-router",
    "MONITORING_NAMESPACE": "sample-watcher",
    "INGRESS_CLASS": "sample-class",
    "CLUSTER_ISSUER": "sample-issuer",
    "GPU": "autoscaled",
    "GPU_COUNT": "1",
    "GPU_QUOTA": "3",
    "GPU_TYPE": "sample-accelerator",
}
TEMPLATE = dict.fromkeys(cluster_env.KEYS, cluster_env.UNSET) | {
    "FORGE": "auto",
    "DETECTOR_REVISION": "main",
    "GIT_CIDRS": cluster_env.OPEN,
    "HTTPS_PROXY": "",
    "NO_PROXY": "",
    "PROXY_CIDRS": cluster_env.OPEN,
    "GIT_SSL_CAINFO": cluster_env.PUBLIC_CA,
    "STORE_URI": "s3://flyingthings",
    "STORE_ENDPOINT": "https://minio.flywheel-minio.svc:9000",
    "GPU_COUNT": "1",
    "GPU_QUOTA": "1",
    "GPU_TYPE": "nvidia-t4",
}
OTHER = {key: value.replace("sample", "other") for key, value in SAMPLE.items()} | {
    "FORGE": "gitlab",
    "PLATFORM": "kubernetes",
    "GIT_CIDRS": "198.51.100.0/24,203.0.113.7/32",
    "GPU": "none",
    "GPU_COUNT": "2",
    "GPU_QUOTA": "4",
}


#: Workers of a cluster, by the kind of their providerSpec: AWS, Azure, Google Cloud, vSphere.
WORKERS: dict[str, Manifest] = {
    each["spec"]["template"]["spec"]["providerSpec"]["value"]["kind"]: each
    for each in yaml.safe_load_all((PROJECT / "tests/support/machine_sets.yaml").read_text(encoding="utf-8"))
}
AWS = "AWSMachineProviderConfig"
INFRASTRUCTURE = "c-x7k2p"


class Leaf(NamedTuple):
    """A folder that is rendered and applied, with what came out."""

    path: str
    objects: list[Manifest]

    def of_kind(self, *kinds: str) -> Iterator[Manifest]:
        yield from (obj for obj in self.objects if obj["kind"] in kinds)


def load(path: Path) -> Manifest:
    content: Manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def load_program(path: Path) -> ModuleType:
    """Import a program that a pod mounts."""
    loader = SourceFileLoader(path.stem, str(path))
    module = ModuleType(path.stem)
    loader.exec_module(module)
    return module


def load_all(path: Path) -> list[Any]:
    """Read the documents of a YAML file; those of a list of one document each."""
    documents = [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
    return documents[0] if len(documents) == 1 and isinstance(documents[0], list) else documents


def strings(value: Any) -> Iterator[str]:
    """Yield every string inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def kustomizations(root: Path = GITOPS) -> dict[str, Manifest]:
    """Return every kustomization.yaml below a folder, keyed by the path of its folder."""
    found = {path.parent.relative_to(root).as_posix(): load(path) for path in root.rglob("kustomization.yaml")}
    return dict(sorted(found.items()))


def leaf_paths(root: Path = GITOPS) -> list[str]:
    """Return the folders that something applies: those where the cluster's facts come in, and those built on one."""
    known = kustomizations(root)

    def filled(path: str) -> bool:
        listed = (*known[path].get("components", ()), *known[path].get("resources", ()))
        named = [within(path, name) for name in listed if (root / path / name).is_dir()]
        return "cluster" in named or any(filled(name) for name in named if known[name]["kind"] == "Kustomization")

    return [path for path, content in known.items() if content["kind"] == "Kustomization" and filled(path)]


def within(path: str, name: str) -> str:
    """Return the path below gitops/ of what a kustomization names relative to itself."""
    return posixpath.normpath(posixpath.join(path, name))


def render_text(path: Path) -> str:
    """Render a folder with default load restrictions.

    Raises:
        RuntimeError: kustomize refuses it; with its message.
    """
    done = subprocess.run([*renderer(), str(path)], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise RuntimeError(f"{path}: {done.stderr}")
    return done.stdout


@functools.cache
def renderer() -> list[str]:
    """Return the command that renders; tests are skipped where there is none, but not in CI."""
    kustomize = shutil.which("kustomize") or shutil.which("kustomize", path=CACHE / "bin")
    if kustomize:
        return [kustomize, "build"]
    if not shutil.which("kubectl") and not os.environ.get("CI"):
        pytest.skip("neither kustomize nor kubectl is installed; `make manifests` brings one", allow_module_level=True)
    return ["kubectl", "kustomize"]


def render(path: str, root: Path = GITOPS) -> Leaf:
    return Leaf(path, list(yaml.load_all(render_text(root / path), yaml.CSafeLoader)))


def kept(name: str, make: Callable[[], list[Leaf]]) -> tuple[Leaf, ...]:
    """Return leaves that follow from gitops/; the first process that asks leaves them in .work/ for all others."""
    file = PROJECT / f".work/gitops/{_digest()}/{name}.json"
    if not file.parent.is_dir():
        shutil.rmtree(file.parents[1], ignore_errors=True)  # of an earlier gitops/
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.exists():
            write_text(file, json.dumps(make()))
    return tuple(Leaf(*each) for each in json.loads(file.read_text(encoding="utf-8")))


@functools.cache
def _digest() -> str:
    """Return the digest of all that decides a rendering: gitops/, this module and the program."""
    files = [Path(__file__), *sorted(path for path in GITOPS.rglob("*") if path.is_file())]
    program = shutil.which(renderer()[0]) or ""
    found = [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return hashlib.sha256(repr((found, program, Path(program).stat().st_mtime_ns)).encode()).hexdigest()[:12]


def copy_with(values: dict[str, str], folder: Path) -> Path:
    """Copy gitops/ to a folder, with other values in its cluster.env and GPU nodes on AWS; return its path there."""
    copied = template(folder, values)
    assert cluster_env.check(folder / cluster_env.PATH, complete=True) == values
    (folder / gpu_nodes.WORKER).write_text(gpu_nodes.patch(folder, WORKERS[AWS], INFRASTRUCTURE))
    return copied


@functools.cache
def leaves() -> tuple[Leaf, ...]:
    """Return every leaf of the repository, rendered with the facts of TEMPLATE."""

    def make() -> list[Leaf]:
        with tempfile.TemporaryDirectory() as folder:
            root = template(Path(folder))
            return [render(path, root) for path in leaf_paths()]

    return kept("leaves", make)


def template(folder: Path, values: dict[str, str] = TEMPLATE) -> Path:
    """Copy gitops/ to a folder, with a cluster.env that by default says nothing of a cluster, as a fork's at first."""
    copied = Path(shutil.copytree(GITOPS, folder / "gitops"))
    (folder / cluster_env.PATH).write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    (folder / git_addresses.PATH).write_text(git_addresses.addresses_text(folder, values))
    return copied


@functools.cache
def variants() -> tuple[Leaf, ...]:
    """Return leaves with a component that no overlay of the repository lists, made as gitops/README.md says."""
    return kept("variants", _variants)


def _variants() -> list[Leaf]:
    with tempfile.TemporaryDirectory() as folder:
        names = ("external-store", "gpu", "shadow", "backup", "ml-backend", "seaweedfs")
        external, gpu, shadow, backup, backend, seaweedfs = (template(Path(folder, name)) for name in names)
        for part in ("serving", "label-studio", "pipelines"):
            swap(external / part / "base/kustomization.yaml", "components/store", "components/external-store")
        line = "- ../../components/monitoring\n"
        for environment in ("dev", "prod"):
            for root, name in ((gpu, "gpu"), (shadow, "shadow")):
                features = root / "serving/environments" / environment / "kustomization.yaml"
                swap(features, line, line + line.replace("monitoring", name))
        images = {gpu: f"flywheel-serving-gpu, {GPU_IMAGE}", seaweedfs: f"flywheel-seaweedfs, {SEAWEEDFS_IMAGE}"}
        for root, image in images.items():
            swap(root / "images/kustomization.yaml", "images:\n", f"images:\n- {{name: {image}}}\n")
        stores = [path for path in leaf_paths(seaweedfs) if path.startswith("minio/")]
        for path in stores:
            for off in ("# - ../../components/seaweedfs ", "# - ../../components/without-minio "):
                swap(seaweedfs / path / "kustomization.yaml", off, off.removeprefix("# "))
        stored = [path for path in leaf_paths(external) if path.startswith(("serving/", "label-studio/", "pipelines/"))]
        found = {external: [path for path in stored if path not in ALONE]}
        served = [path for path in stored if path.startswith("serving/") and path.endswith(("/dev", "/prod"))]
        found |= {gpu: served, shadow: served, seaweedfs: stores}
        found[backup] = [path for path in leaf_paths(backup) if path.startswith(("minio/", "label-studio/"))]
        found[backend] = [path for path in leaf_paths(backend) if path.startswith("label-studio/")]
        for root in (backup, backend):
            for path in found[root]:
                line = f"- ../../components/{root.parent.name} "
                swap(root / path / "kustomization.yaml", f"# {line}", line)
        return [
            render(path, root)._replace(path=f"{path}, {root.parent.name}")
            for root, paths in found.items()
            for path in paths
        ]


def environments(root: Path = GITOPS) -> list[str]:
    """Return the environments, each a folder of serving/environments, sorted."""
    return sorted(path.name for path in (root / "serving/environments").iterdir())


def leaf(path: str) -> Leaf:
    return next(leaf for leaf in leaves() if leaf.path == path)


def applications(platform: str) -> list[Manifest]:
    """Return the Applications of a platform; the ApplicationSet's too, one for each folder."""
    objects = [*leaf(f"argocd/overlays/{platform}").objects, *leaf(f"bootstrap/root/overlays/{platform}").objects]
    found = [obj for obj in objects if obj["kind"] == "Application"]
    for one in (obj for obj in objects if obj["kind"] == "ApplicationSet"):
        pattern = one["spec"]["generators"][0]["git"]["directories"][0]["path"].replace(cluster_env.UNSET, platform)
        for folder in sorted(PROJECT.glob(pattern)):
            path = folder.relative_to(PROJECT).as_posix()
            text = yaml.safe_dump(one["spec"]["template"]).replace("{{.path.path}}", path)
            found.append({"kind": "Application"} | yaml.safe_load(text.replace("{{.path.basename}}", folder.name)))
    return found


def applied(platform: str) -> dict[str, str]:
    """Return the leaves that a platform applies, by hand or by Argo CD, with the project of each."""
    by_hand = ["bootstrap/operator"] if platform == "openshift" else []
    found = dict.fromkeys([*by_hand, f"bootstrap/root/overlays/{platform}"], "")
    for application in applications(platform):
        path = application["spec"]["source"]["path"].removeprefix("gitops/")
        modes = ["autoscaled", "fixed", "none"] if platform == "openshift" else ["fixed", "none"]
        choices = {"flywheel-gpu": modes}.get(application["metadata"]["name"], [platform])
        for choice in choices:
            found[path.replace("REPLACE-ME", choice)] = application["spec"]["project"]
    return found


def main(folder: Path) -> None:
    """Write every rendering, bases too, and print the names of those that are leaves."""
    shutil.rmtree(folder, ignore_errors=True)
    leaf, known = set(leaf_paths()), kustomizations()
    transformers = {within(path, name) for path, content in known.items() for name in content.get("transformers", ())}
    for path, content in known.items():
        if content["kind"] == "Kustomization" and path not in transformers:
            file = folder / ("leaves" if path in leaf else "bases") / f"{path.replace('/', '.')}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(render_text(GITOPS / path), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
