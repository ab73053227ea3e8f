"""The forges, and which of them an address is on. A new forge is a module beside this one and its name in FORGES.

FORGE names it: in the environment, as in the cluster's pods, or in the fork's cluster.env. FORGE_API_URL is its API's
address where that does not follow from the repository's, FORGE_TOKEN the token. GITHUB_API_URL, GITHUB_REPOSITORY and
GITHUB_TOKEN, which GitHub's own jobs set, count where those are not set.
"""

import os
import re
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from runner.errors import ConfigError
from runner.forge.address import Address, address_of
from runner.forge.git import retry, token_of_environment
from runner.forge.gitea import Gitea
from runner.forge.github import GitHub
from runner.forge.gitlab import GitLab
from runner.forge.protocol import Forge, Identity, State
from runner.forge.rest import Api, ApiError

FORGES: tuple[type[Forge], ...] = (GitHub, Gitea, GitLab)
AUTO = "auto"  # of FORGE: by the name of the server
BOT = Identity("flywheel", "flywheel@bot.invalid")  # where the forge does not tell who the token is
_CLUSTER_ENV = Path("gitops/cluster/cluster.env")


def forge_of(url: str, token: str | None = None, *, kind: str = "") -> Forge | None:
    """Return the forge of a repository; None when its address names no server.

    A token of None is that of the environment; `kind` a value of FORGE, where the environment has none. A server whose
    name tells nothing counts as a GitHub Enterprise Server.
    """
    address = address_of(url)
    api = (os.environ.get("FORGE_API_URL") or os.environ.get("GITHUB_API_URL") or "").rstrip("/")
    repository = os.environ.get("GITHUB_REPOSITORY") or address.path
    if not repository or not (api or address.site):
        return None
    prefix = re.sub(r"/?api/v\d+$", "", urlsplit(api).path.strip("/"))  # of a forge that is not at its server's root
    if prefix and urlsplit(api).hostname == address.host:
        address = Address(url, f"{address.site}/{prefix}", address.path.removeprefix(f"{prefix}/"))
    elif repository != address.path:
        address = Address(url, address.site, repository)
    chosen = _class_of(address, api, os.environ.get("FORGE") or kind)
    token = token_of_environment() if token is None else token
    return chosen(address, Api(api or chosen.api_of(address.site), token))


def kind_of(project: Path) -> str:
    """Return FORGE of the fork's cluster.env; empty where there is none."""
    try:
        found = re.search(r"^FORGE=(\S+)$", (project / _CLUSTER_ENV).read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def set_status(url: str, commit: str, state: str, text: str, context: str) -> bool:
    """Set a commit's status named `context`; False when there is no token, or the repository is on no forge.

    `state` is error, failure, pending or success; a longer text than the forge takes is cut.
    """
    forge = forge_of(url)
    if forge is None or not forge.api.token:
        return False
    retry(lambda: forge.set_status(commit, cast(State, state), text, context), tries=4)
    return True


def bot_of(url: str) -> Identity:
    """Return the author of the bot's commits: the token's account; BOT where the forge does not tell."""
    forge = forge_of(url)
    if forge is None or not forge.api.token:
        return BOT
    try:
        return forge.identity()
    except (ApiError, LookupError, TypeError):  # a token of a narrow scope, or of an App
        return BOT


def _class_of(address: Address, api: str, kind: str) -> type[Forge]:
    if kind and kind != AUTO:
        for forge in FORGES:
            if kind in forge.NAMES:
                return forge
        known = ", ".join(name for forge in FORGES for name in forge.NAMES)
        raise ConfigError(f"FORGE is {kind}, expected {AUTO}, {known}")
    by_api = [forge for forge in FORGES if api.endswith(forge.API_PATH)]
    first = address.host.partition(".")[0]
    by_host = [forge for forge in FORGES if address.host in forge.HOSTS or first in forge.NAMES]
    return [*by_api, *by_host, GitHub][0]
