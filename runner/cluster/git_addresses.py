"""Addresses of Git in NetworkPolicies: GIT_CIDRS of cluster.env, as the list that kustomize puts there.

kustomize can put a list into an object only from another object, so gitops/cluster has the same list in a file.
"""

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

import yaml

from runner.cluster.facts import GIT_CIDRS, OPEN
from runner.errors import ConfigError

PATH = Path("gitops/cluster/git-addresses.yaml")


def cidrs_of(values: Mapping[str, str]) -> list[str]:
    """Return the blocks that cluster.env names, by default all addresses."""
    return values.get(GIT_CIDRS, OPEN).split(",")


def is_open(cidr: str) -> bool:
    """Whether a block has half of all addresses or more, and so limits nothing."""
    return ip_network(cidr, strict=False).prefixlen <= 1


def addresses_text(project: Path, values: Mapping[str, str]) -> str:
    """Return the file with the blocks of cluster.env; its comment stays."""
    text = (project / PATH).read_text(encoding="utf-8")
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    content = yaml.safe_load(text)
    content["spec"]["egress"][0]["to"] = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs_of(values)]
    return f"{comment}{yaml.safe_dump(content, sort_keys=False)}"


def require_addresses(project: Path, values: Mapping[str, str]) -> None:
    """Raise ConfigError when the file has other blocks than cluster.env."""
    there = yaml.safe_load((project / PATH).read_text(encoding="utf-8"))["spec"]["egress"][0]["to"]
    if [each["ipBlock"]["cidr"] for each in there] != cidrs_of(values):
        raise ConfigError(
            f"{PATH}: has other addresses than {GIT_CIDRS} of cluster.env; `python -m runner discover --write` writes "
            "them, then commit both"
        )
