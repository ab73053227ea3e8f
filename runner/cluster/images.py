"""Bring the digests of images that were built in the cluster into gitops/images/, the one place that names them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from runner.cluster import kubectl
from runner.errors import ClusterError

PATH = Path("gitops/images/kustomization.yaml")
NAMESPACE = "flywheel-builds"
TAG = "latest"
OURS = ("flywheel-runner", "flywheel-serving", "flywheel-minio")


def update(project: Path, *, write: bool) -> str:
    """Return what changed, or would.

    Args:
        project: the repository.
        write: put the digests into the file instead of only showing them.
    Raises:
        ClusterError: the cluster cannot be read, or names something that is no image.
    """
    text = (project / PATH).read_text(encoding="utf-8")
    lines, new = [], 0
    for name in OURS:
        stream = kubectl.get(f"/apis/image.openshift.io/v1/namespaces/{NAMESPACE}/imagestreams/{name}") or {}
        status = stream.get("status") or {}
        built = [
            item["image"] for tag in status.get("tags") or () if tag["tag"] == TAG for item in tag.get("items") or ()
        ]
        if not built:
            lines.append(f"  {name}: not built yet (oc -n {NAMESPACE} get builds)")
            continue
        image = f"{status.get('dockerImageRepository')}@{built[0]}"
        lines.append(f"  {image}")
        new += built[0] not in text
        if write:
            done = subprocess.run([project / ".ci/set-image", name, image], capture_output=True, text=True, check=False)
            if done.returncode:
                raise ClusterError(f"ImageStream {name} in {NAMESPACE}: {done.stderr.strip().removeprefix('error: ')}")
    done_what = "nothing to change" if not new else "written: commit and push it" if write else "--write writes them"
    return "\n".join([f"{PATH}: {done_what}", *lines])
