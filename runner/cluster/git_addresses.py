"""Addresses of Git and of the proxy in NetworkPolicies, from cluster.env, as the list that kustomize puts there.

kustomize can put a list into an object only from another object, so gitops/cluster has the same list in a file.
"""

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from runner.cluster.facts import GIT_CIDRS, OPEN, PROXY_CIDRS, with_comments_of
from runner.errors import ConfigError

PATH = Path("gitops/cluster/git-addresses.yaml")


def egress_of(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the egress rules: to Git on the port of REPO_URL, and to the proxy where cluster.env names one.

    Addresses that cluster.env does not name are all.
    """
    rules = [_rule(values.get(GIT_CIDRS, OPEN), values.get("REPO_URL", ""))]
    if proxy := values.get("HTTPS_PROXY"):
        rules.append(_rule(values.get(PROXY_CIDRS, OPEN), proxy))
    return rules


def _rule(cidrs: str, url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    blocks = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs.split(",")]
    return {"to": blocks, "ports": [{"protocol": "TCP", "port": port}]}


def is_open(cidr: str) -> bool:
    """Whether a block has half of all addresses or more, and so limits nothing."""
    return ip_network(cidr, strict=False).prefixlen <= 1


def addresses_text(project: Path, values: Mapping[str, str]) -> str:
    """Return the file with the rules of cluster.env; its comment stays."""
    content = yaml.safe_load((project / PATH).read_text(encoding="utf-8"))
    content["spec"]["egress"] = egress_of(values)
    return with_comments_of(project / PATH, content)


def require_addresses(project: Path, values: Mapping[str, str]) -> None:
    """Raise ConfigError when the file has other rules than cluster.env."""
    if yaml.safe_load((project / PATH).read_text(encoding="utf-8"))["spec"]["egress"] != egress_of(values):
        raise ConfigError(
            f"{PATH}: has other addresses or ports than {GIT_CIDRS}, {PROXY_CIDRS}, REPO_URL and HTTPS_PROXY of "
            "cluster.env; `python -m runner discover --write` writes them, then commit both"
        )
