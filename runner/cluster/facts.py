"""gitops/cluster/cluster.env: the facts of a fork and its cluster, read, checked and merged.

Format: `KEY=value`, one a line; lines that start with `#` are comments. kustomize takes everything behind `=` as the
value, so quotes and comments there would reach the manifests. `REPLACE-ME`: not known yet; `unused`: not needed by this
cluster.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import yaml

from runner.errors import ConfigError
from runner.workspace import parse_assignments, write_text

PATH = Path("gitops/cluster/cluster.env")
UNSET = "REPLACE-ME"
UNUSED = "unused"
GIT_CIDRS = "GIT_CIDRS"
PROXY_CIDRS = "PROXY_CIDRS"
OPEN = "0.0.0.0/0,::/0"  # of a cluster.env that names no addresses
PUBLIC_CA = "/etc/ssl/certs/ca-certificates.crt"  # in the runner's image
OWN_CA = "/etc/trusted-ca/ca-bundle.crt"  # of the ConfigMap trusted-ca

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_REVISION = r"[A-Za-z0-9][A-Za-z0-9._/-]*"
_CIDRS = r"[0-9a-fA-F.:]+/[0-9]+(,[0-9a-fA-F.:]+/[0-9]+)*"

#: Key → pattern of its value, and an example for the error message.
KEYS = {
    "FORGE": ("auto|github|gitea|forgejo|gitlab", "auto"),
    "REPO_URL": (r"https?://[^\s@/'\"#]+/[^\s@'\"#]*[^\s@'\"#/]", "https://example.com/a/b.git"),
    "PLATFORM_REVISION": (_REVISION, "platform"),
    "DETECTOR_REVISION": (_REVISION, "main"),
    GIT_CIDRS: (_CIDRS, "140.82.112.0/20,192.30.252.0/22"),
    "HTTPS_PROXY": (r"https?://[A-Za-z0-9.-]+:[0-9]{1,5}", "http://proxy.example.com:3128"),
    "NO_PROXY": (r"[A-Za-z0-9.*:/-]+(,[A-Za-z0-9.*:/-]+)*", ".example.com,10.0.0.0/8"),
    PROXY_CIDRS: (_CIDRS, "10.1.2.3/32"),
    "GIT_SSL_CAINFO": (f"{PUBLIC_CA}|{OWN_CA}", PUBLIC_CA),
    "STORE_URI": (r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "s3://flyingthings"),
    "STORE_ENDPOINT": (r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", "https://minio.flywheel-minio.svc:9000"),
    "PLATFORM": ("openshift|kubernetes", "openshift"),
    "APPS_DOMAIN": (rf"{_LABEL}(\.{_LABEL})+", "apps.cluster.example.com"),
    "STORAGE_CLASS": (rf"{_LABEL}(\.{_LABEL})*", "gp3-csi"),
    "INGRESS_NAMESPACE": (_LABEL, "openshift-ingress"),
    "MONITORING_NAMESPACE": (_LABEL, "openshift-user-workload-monitoring"),
    "INGRESS_CLASS": (rf"{_LABEL}(\.{_LABEL})*", "nginx"),
    "CLUSTER_ISSUER": (rf"{_LABEL}(\.{_LABEL})*", "letsencrypt"),
    "GPU": ("autoscaled|fixed|none", "autoscaled"),
    "GPU_COUNT": ("[1-9][0-9]?", "1"),
    "GPU_QUOTA": ("[1-9][0-9]{0,2}", "1"),
    "GPU_TYPE": (r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", "nvidia-t4"),
}
LATER = (  # which an earlier version lacks
    *(GIT_CIDRS, "FORGE", "HTTPS_PROXY", "NO_PROXY", PROXY_CIDRS, "GIT_SSL_CAINFO"),
    *("GPU_COUNT", "GPU_QUOTA", "GPU_TYPE"),
)
MAY_BE_EMPTY = ("HTTPS_PROXY", "NO_PROXY")
FOR_KUBERNETES = ("INGRESS_CLASS", "CLUSTER_ISSUER")


def read(path: Path) -> dict[str, str]:
    """Return the values in file order, unchecked; ConfigError for an invalid line or a repeated key."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); run this in the project's folder") from error
    return parse_assignments(lines, path, KEYS)


def faults(values: Mapping[str, str], *, complete: bool) -> Iterator[str]:
    """Yield the faults of the values, a line each; with `complete`, `REPLACE-ME` is one too."""
    for key, (pattern, example) in KEYS.items():
        value = values.get(key)
        if value is None:
            if key not in LATER:
                yield f"{key} is missing; add the line {key}={UNSET}"
        elif key in MAY_BE_EMPTY and not value:
            continue
        elif value == UNSET:
            if complete:
                yield f"{key} is still {UNSET}; a value looks like {example}"
        elif value == UNUSED:
            if key not in FOR_KUBERNETES:
                yield f"{key} is {UNUSED}, but every cluster needs it; a value looks like {example}"
            elif values.get("PLATFORM") == "kubernetes":
                yield f"{key} is {UNUSED}, but PLATFORM is kubernetes; a value looks like {example}"
        elif not value.strip():
            yield f"{key} is empty; a value looks like {example} (or {UNSET})"
        elif value[0] in "\"'" or value[-1] in "\"'":
            bare = value.strip("\"'")
            yield f"{key} is quoted, and the quotes would be part of the value; write {key}={bare}"
        elif not re.fullmatch(pattern, value):
            yield f"{key} is {value!r}; a value looks like {example}, with nothing behind it"
    for key in (GIT_CIDRS, PROXY_CIDRS):
        for cidr in values.get(key, OPEN).split(","):
            try:
                if "/" in cidr:
                    ip_network(cidr)
            except ValueError as error:
                yield f"{key}: {error}; a block looks like 140.82.112.0/20"
    if values.get("GPU") == "autoscaled" and values.get("PLATFORM") == "kubernetes":
        yield "GPU is autoscaled, which takes OpenShift's machine API; on plain Kubernetes it is fixed or none"
    count, quota = (values.get(key, "1") for key in ("GPU_COUNT", "GPU_QUOTA"))
    if count.isdecimal() and quota.isdecimal() and int(quota) % max(1, int(count)):
        yield f"GPU_QUOTA is {quota}, but a training takes GPU_COUNT={count}; it is a multiple of that"


def check(path: Path, *, complete: bool) -> dict[str, str]:
    """Return the values of a file; ConfigError names every fault."""
    values = read(path)
    if found := list(faults(values, complete=complete)):
        raise ConfigError("\n".join([f"{path}: {len(found)} to mend:", *(f"  {fault}" for fault in found)]))
    return values


def merge(path: Path, values: Mapping[str, str]) -> bool:
    """Set values in the file atomically; return whether it changed.

    Comments, order and all other lines stay. A new key is appended. ConfigError, and no change, when the file would
    become invalid.
    """
    merged = {**read(path), **values}
    if found := [fault for fault in faults(merged, complete=False) if "is missing" not in fault]:
        raise ConfigError("\n".join([f"{path} is left as it is:", *(f"  {fault}" for fault in found)]))
    before = text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        line = f"{key}={value}"
        text, count = re.subn(rf"^{key}=.*$", line.replace("\\", r"\\"), text, flags=re.MULTILINE)
        if not count:
            text += f"{line}\n" if text.endswith("\n") else f"\n{line}\n"
    if text != before:
        write_text(path, text)
    return text != before


def with_comments_of(path: Path, content: Mapping[str, Any]) -> str:
    """Return content as YAML, below the comments that the file has now."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith("#")) + yaml.safe_dump(content, sort_keys=False)
