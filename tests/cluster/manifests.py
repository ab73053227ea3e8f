"""Upstream's own manifests of the cluster's controllers, out of the Go modules that they are built from.

python -m tests.cluster.manifests FOLDER

They are left as they are but for the images of programs that upstream names by their Go package, and what a node of one
machine has not: Argo CD's Dex and notifications, Tekton's autoscaler.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.modules import downloaded, module
from tests.cluster.places import FOLDER as HERE

Object = dict[str, Any]
# ClusterInterceptors before their server: it writes its CA into those it finds when it starts, then once a minute.
ORDER = (
    *("Namespace", "ServiceAccount", "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding"),
    *("ConfigMap", "Secret", "Service", "ClusterInterceptor"),
)
CRD = "CustomResourceDefinition"


def objects(paths: Iterable[Path]) -> Iterator[Object]:
    """Return the objects of files, with the images that this cluster has."""
    for path in paths:
        for each in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader):
            if each:
                yield with_images(each)


def with_images(value: Any) -> Any:
    """Return a value with the names of images that `tests.cluster.images` makes, where upstream names a Go package."""
    if isinstance(value, dict):
        return {key: with_images(each) for key, each in value.items()}
    if isinstance(value, list):
        return [with_images(each) for each in value]
    if isinstance(value, str):
        if found := re.fullmatch(r"ko://github.com/tektoncd/(pipeline|triggers)/cmd/(\w+)", value):
            return f"localhost/cluster/tekton-{found[1]}-{found[2]}:1"
        if value.startswith("cgr.dev/chainguard/busybox"):
            return "localhost/cluster/busybox:1"
        if value.startswith("quay.io/jetstack/cert-manager-"):
            return re.sub(r"quay.io/jetstack/(cert-manager-\w+):.*", r"localhost/cluster/\1:1", value)
        if value.startswith("quay.io/argoproj/argocd:"):
            return "localhost/cluster/argocd:1"
        if re.match(r"\S+/redis:\d", value):
            return "localhost/cluster/redis:1"
    return value


def write(folder: Path, name: str, items: Iterable[Object]) -> None:
    """Write a file of objects, and one of the CRDs among them, which must be there before."""
    ordered = sorted(items, key=lambda each: ORDER.index(each["kind"]) if each["kind"] in ORDER else len(ORDER))
    for suffix, part in (
        ("-crds", [each for each in ordered if each["kind"] == CRD]),
        ("", [each for each in ordered if each["kind"] != CRD]),
    ):
        if part:
            text = yaml.dump_all(part, Dumper=yaml.CSafeDumper, sort_keys=False, width=1 << 20)
            (folder / f"{name}{suffix}.yaml").write_text(text, encoding="utf-8")


def cert_manager(render: Path) -> Iterator[Object]:
    """Return cert-manager's objects: its chart, as Helm would print it."""
    source = module("cert-manager", "github.com/cert-manager/cert-manager")
    arguments = [source / "deploy/charts/cert-manager", source / "deploy/crds", HERE / "programs/render/values.yaml"]
    command = [str(render), *map(str, arguments), "cert-manager", "cert-manager", "v1.18.2"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = re.sub(r"(?m)^---[ \t]*(?=\S)", "---\n", text)  # Helm ends a document at "---", whatever follows
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cert-manager"}}
    for each in yaml.load_all(text, yaml.CSafeLoader):
        if each:
            yield with_images(each)


def tekton_pipelines() -> Iterator[Object]:
    """Return Tekton Pipelines, told to confine its own containers, as gitops/pipelines/README.md asks."""
    config = module("tekton", "github.com/tektoncd/pipeline") / "config"
    paths = [*config.glob("100-namespace/*.yaml"), *config.glob("*.yaml"), *config.glob("300-crds/*.yaml")]
    for each in objects(sorted(paths)):
        if each["kind"] == "HorizontalPodAutoscaler":
            continue  # asks a metrics server, which a node of our own has not
        if each["metadata"]["name"] == "feature-flags":
            each["data"]["set-security-context"] = "true"
        if each["metadata"]["name"] == "pipelines-info":
            each["data"]["version"] = "v1.6.1"
        yield each


def argo_cd() -> Iterator[Object]:
    """Return the objects of Argo CD's install.yaml, without Dex and notifications."""
    for each in objects([module("argocd", "github.com/argoproj/argo-cd/v3") / "manifests/install.yaml"]):
        if "dex" not in each["metadata"]["name"] and "notifications" not in each["metadata"]["name"]:
            yield each


def ingress() -> Iterator[Object]:
    """Return Traefik's objects: upstream's rights for it, and a Deployment of ours."""
    name = "docs/content/reference/dynamic-configuration/kubernetes-ingress-nginx-rbac.yml"
    for each in objects([downloaded("github.com/traefik/traefik/v3@v3.7.13") / name]):
        for subject in each.get("subjects", []):
            subject |= {"namespace": "ingress-nginx", "name": "ingress"}
        yield each
    yield from objects([HERE / "controllers/ingress.yaml"])


def storage(volumes: Path) -> Iterator[Object]:
    """Return local-path-provisioner: the default class; volumes, to which an fsGroup applies, are in a folder."""
    source = module("addons", "github.com/rancher/local-path-provisioner")
    text = (source / "deploy/local-path-storage.yaml").read_text(encoding="utf-8")
    text = text.replace("/opt/local-path-provisioner", str(volumes))
    text = re.sub(r"rancher/local-path-provisioner:\S+", "localhost/cluster/local-path-provisioner:1", text)
    # the one who makes a folder is root, which is no user that our image takes by itself
    helper = r"\1image: localhost/cluster/busybox:1\n\1securityContext: {runAsUser: 0}"
    text = re.sub(r"( *)image: busybox\b", helper, text)
    for each in yaml.load_all(text, yaml.CSafeLoader):
        if each["kind"] == "StorageClass":
            annotations = {"storageclass.kubernetes.io/is-default-class": "true", "defaultVolumeType": "local"}
            each["metadata"]["annotations"] = annotations
        yield each


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, "cert-manager", cert_manager(folder.parent / "bin" / "render"))
    write(folder, "tekton-pipelines", tekton_pipelines())
    triggers = module("tekton", "github.com/tektoncd/triggers") / "config"
    write(folder, "tekton-triggers", objects(sorted(triggers.glob("*.yaml"))))
    write(folder, "tekton-interceptors", objects(sorted(triggers.glob("interceptors/*.yaml"))))
    write(folder, "argocd", argo_cd())
    write(folder, "ingress", ingress())
    write(folder, "storage", storage(folder.parent / "state" / "local-path"))
    prometheus = downloaded("github.com/prometheus-operator/prometheus-operator@v0.80.1")
    crds = sorted(prometheus.glob("example/prometheus-operator-crd/*.yaml"))
    # as they are: PyYAML takes their enum value "=" for a type of YAML 1.1
    text = "".join(f"---\n{path.read_text(encoding='utf-8').removeprefix('---')}\n" for path in crds)
    (folder / "prometheus-crds.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
