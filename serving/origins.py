"""URLs of other servers: those that /try compares with, and the origins whose pages may call this server."""

import re
from collections.abc import Collection, Mapping

# Nothing that has a meaning in a Content-Security-Policy, such as a space, a comma or a semicolon.
_URL = re.compile(r"(https?)://([a-z0-9][a-z0-9.-]*)(?::(\d{1,5}))?((?:/[\w.~-]*)*)", re.IGNORECASE | re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_urls(text: str | None) -> tuple[str, ...]:
    """Parse `https://a.example.org, https://b.example.org/vision`: each gets a slash at its end; ValueError: no URL."""
    return tuple(f"{origin}{path}/" for origin, path in _parts(text))


def parse_origins(text: str | None) -> tuple[str, ...]:
    """Parse `https://a.example.org`: origins as browsers write them in `Origin`; ValueError: none, `*` among them."""
    parts = _parts(text)
    for origin, path in parts:
        if path:
            raise ValueError(f"{origin}{path} has a path; expected the origin alone, {origin}")
    return tuple(origin for origin, _ in parts)


def is_foreign(headers: Mapping[str, str], allowed: Collection[str]) -> bool:
    """Whether a browser sent a request for a page of another server, whose origin is not among those allowed.

    A browser says where a request comes from, and no page can change that; a program says nothing, and is no page.
    Header names are in lower case.
    """
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    if origin in allowed or site in ("same-origin", "none"):
        return False
    if site or origin == "null":  # `same-site` too: a cluster's other applications share its domain
        return True
    hosts = (headers.get("host"), headers.get("x-forwarded-host"))
    return bool(origin) and origin.partition("://")[2] not in hosts  # plain http://, to which browsers say no site


def _parts(text: str | None) -> list[tuple[str, str]]:
    """Return origin and path of each URL, the path without a slash at its end."""
    parts = []
    for url in filter(None, map(str.strip, (text or "").split(","))):
        found = _URL.fullmatch(url)
        if not found or int(found[3] or 1) not in range(1, 65_536):
            raise ValueError(f"{url[:100]!r} is no server's URL; expected one such as https://dev.example.org, never *")
        scheme, port = found[1].lower(), int(found[3] or 0)
        given = f":{port}" if port and port != _DEFAULT_PORTS[scheme] else ""
        parts.append((f"{scheme}://{found[2].lower()}{given}", found[4].rstrip("/")))
    return parts
