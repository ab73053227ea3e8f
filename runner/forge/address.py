"""Address of a repository on a forge, in any form that Git takes."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit


class Address(NamedTuple):
    """A repository on a server; `site` and `path` are empty when the address names no server."""

    url: str  # as in Git
    site: str  # such as https://git.example.com:3000
    path: str  # owner/name; GitLab's groups have more parts

    @property
    def page(self) -> str:
        """The page for people; empty when there is none."""
        return f"{self.site}/{self.path}" if self.site else ""

    @property
    def host(self) -> str:
        """Name of the server, without its port."""
        return urlsplit(self.site).hostname or ""


def address_of(url: str) -> Address:
    """Parse an address: https://host/owner/name, ssh://… or git@host:owner/name."""
    found = re.fullmatch(r"(?:https?://|ssh://)?(?:[^@/]*@)?([\w.-]+)(:\d+)?[:/](.+?/.+?)(\.git)?/?", url)
    if not found or url.startswith(("file:", "/", ".")):
        return Address(url, "", "")
    scheme = "http" if url.startswith("http://") else "https"
    port = found[2] or "" if url.startswith("http") else ""  # the port of ssh is not that of the pages
    return Address(url, f"{scheme}://{found[1]}{port}", found[3])


def same_repository(one: str, other: str) -> bool:
    """Whether two addresses, in any form, are of the same repository."""
    here, there = address_of(one), address_of(other)
    return one == other or (bool(here.host) and (here.host, here.path.lower()) == (there.host, there.path.lower()))
