"""Bring the digests of images that were built in the cluster into gitops/images/, the one place that names them."""

from __future__ import annotations

import re
from pathlib import Path

from runner import kubectl
from runner.errors import ClusterError, ConfigError
from runner.files import write_text

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
        ClusterError: the cluster cannot be read, or has built none of the images.
        ConfigError: the file has no entry of an image.
    """
    path = project / PATH
    before = text = path.read_text(encoding="utf-8")
    lines = []
    for name in OURS:
        stream = kubectl.get(f"/apis/image.openshift.io/v1/namespaces/{NAMESPACE}/imagestreams/{name}") or {}
        tags = (stream.get("status") or {}).get("tags") or []
        built = [item["image"] for tag in tags if tag.get("tag") == TAG for item in tag.get("items") or ()]
        if not built:
            lines.append(f"  {name}: not built yet (oc -n {NAMESPACE} get builds)")
            continue
        repository = (stream["status"].get("dockerImageRepository") or "").strip()
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", built[0]) or not re.fullmatch(r"[\w.:/-]+", repository):
            raise ClusterError(f"ImageStream {name} names {repository}@{built[0]}, which is no image")
        entry = f"- name: {name}\n  newName: {repository}\n  digest: {built[0]}\n"
        text, count = re.subn(rf"^- name: {name}\n(?:  .*\n)+", entry, text, flags=re.MULTILINE)
        if not count:
            raise ConfigError(f"{path}: no entry `- name: {name}`; restore it from Git")
        lines.append(f"  {name}@{built[0]}")
    if text != before and write:
        write_text(path, text)
    done = "nothing to change" if text == before else "written: commit and push it" if write else "--write writes them"
    return "\n".join([f"{PATH}: {done}", *lines])
