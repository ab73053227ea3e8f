"""Digests of the images built in the cluster, written to gitops/images/, the only place that names them."""

import subprocess
from pathlib import Path

import yaml

from runner.cluster import kubectl
from runner.errors import ClusterError, ConfigError

PATH = Path("gitops/images/kustomization.yaml")
NAMESPACE = "flywheel-builds"
TAG = "latest"
OURS = ("flywheel-runner", "flywheel-serving", "flywheel-minio")


def unbuilt_images(path: Path) -> list[str]:
    """Return our images that have no digest in gitops/images yet."""
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))["images"]
    return [str(image["name"]) for image in listed if set(image["digest"].removeprefix("sha256:")) == {"0"}]


def require_built(project: Path) -> None:
    """Raise ConfigError naming our images that have no digest yet."""
    if unbuilt := unbuilt_images(project / PATH):
        raise ConfigError(
            f"{PATH}: no digest of {', '.join(unbuilt)}; build these images, write the digests (gitops/README.md, The "
            "first day), commit and push, then run this again"
        )


def update(project: Path, *, write: bool) -> str:
    """Return the changed digests as text; with `write`, write them to the file first.

    All or none is written, since a component that starts without its image holds up the others: ClusterError when one
    is not built yet.
    """
    text = (project / PATH).read_text(encoding="utf-8")
    images = {name: _built(name) for name in OURS}
    missing = [name for name, image in images.items() if not image]
    if write and missing:
        raise ClusterError(
            f"{PATH} is left as it is: {', '.join(missing)} not built yet; see `oc -n {NAMESPACE} get builds`, "
            "then run this again"
        )
    new = [image for image in images.values() if image and image.rpartition("@")[2] not in text]
    for name, image in images.items() if write else ():
        done = subprocess.run([project / ".ci/set-image", name, image], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"ImageStream {name} in {NAMESPACE}: {done.stderr.strip().removeprefix('error: ')}")
    done_what = "nothing to change" if not new else "written: commit and push it" if write else "--write writes them"
    shown = [f"  {image or f'{name}: not built yet (oc -n {NAMESPACE} get builds)'}" for name, image in images.items()]
    return "\n".join([f"{PATH}: {done_what}", *shown])


def _built(name: str) -> str:
    """Return the newest image of an ImageStream with its digest; empty when there is none."""
    stream = kubectl.get(f"/apis/image.openshift.io/v1/namespaces/{NAMESPACE}/imagestreams/{name}") or {}
    status = stream.get("status") or {}
    items = [item for tag in status.get("tags") or () if tag["tag"] == TAG for item in tag.get("items") or ()]
    return f"{status.get('dockerImageRepository')}@{items[0]['image']}" if items else ""
