"""Make the Secrets of tables, once: `python3 make_secrets.py TABLE…`; what is there already is left alone.

A line of a table is `NAMESPACE/SECRET KEY=VALUE…`, where the value `?` stands for 160 random bits, or
`NAMESPACE/SECRET from NAMESPACE/SECRET`, a copy; with `shared NAMESPACE|NAMESPACE SECRET KEY` behind it a copy that is
made once a Secret of somebody else's has the same value, which it gets where KEY is absent there. A line with
`<environment>` stands for one line for each environment in ENVIRONMENTS. Python's own library alone, so that any image
with Python will do.
"""

import base64
import json
import os
import secrets
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
ENVIRONMENT = "<environment>"
TIMEOUT_SECONDS = 30


def main(tables: list[str]) -> int:
    """Make what each line asks for; return 1 if any could not be made."""
    failed = 0
    for words in (line.split() for table in tables for line in lines(Path(table).read_text(encoding="utf-8"))):
        try:
            print(f"{words[0]}: {make(words[0], words[1:])}", flush=True)
        except (OSError, ValueError) as error:  # urllib's errors are OSErrors
            failed = 1
            print(f"error: {words[0]}: {reason(error)}", file=sys.stderr, flush=True)
    return failed


def lines(table: str) -> Iterator[str]:
    """Yield the lines of a table that ask for a Secret, those with ENVIRONMENT once for each environment."""
    for line in table.splitlines():
        if line.strip() and not line.startswith("#"):
            names = os.environ["ENVIRONMENTS"].split() if ENVIRONMENT in line else [""]
            yield from (line.replace(ENVIRONMENT, name) for name in names)


def make(name: str, words: list[str]) -> str:
    """Make one Secret; say what became of it.

    Args:
        name: NAMESPACE/SECRET.
        words: the rest of its line.
    Raises:
        OSError: the API server refused, or is not to be reached.
        ValueError: the line is not one that a table can have.
    """
    namespace, secret = name.split("/")
    if words[:1] == ["from"] and (len(words) == 2 or words[2:3] == ["shared"]):
        source, copied = words[1].split("/")
        data = request(f"/api/v1/namespaces/{source}/secrets/{copied}")["data"]
        if len(words) > 2:
            namespaces, other, key = words[3:]
            certificate, lacking = share(data["secret"], namespaces.split("|"), other, key)
            if lacking:
                return f"not made: {lacking}"
            data |= {"ca.crt": certificate} if certificate else {}
    else:
        pairs = (word.split("=", 1) for word in words)
        data = {key: encode(secrets.token_hex(20) if value == "?" else value) for key, value in pairs}
    if not data:
        raise ValueError("no keys; expected KEY=VALUE or `from NAMESPACE/SECRET`, with `shared …` or without")
    body = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": secret}, "data": data}
    try:
        request(f"/api/v1/namespaces/{namespace}/secrets", body)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
        return "is there, left alone"
    return "made"


def share(value: str, namespaces: list[str], secret: str, key: str) -> tuple[str, str]:
    """Put a value under a key of somebody else's Secret, where it is absent.

    Args:
        value: as a Secret's data have it.
        namespaces: the Secret is in one of them, the first that may be read.
        secret: its name.
        key: of its data.
    Returns:
        The certificate of that Secret (tls.crt), or nothing, and why the value is not there; empty when it is.
    Raises:
        OSError: the API server refused the change, or is not to be reached.
    """
    for namespace in namespaces:
        path = f"/api/v1/namespaces/{namespace}/secrets/{secret}"
        try:
            found = request(path)
        except urllib.error.HTTPError as error:
            if error.code not in (403, 404):
                raise
            continue
        data = found.get("data") or {}
        if key not in data:
            version = found["metadata"]["resourceVersion"]  # whoever was faster makes this a conflict
            request(path, {"metadata": {"resourceVersion": version}, "data": {key: value}}, "PATCH")
        elif data[key] != value:
            return "", f"{namespace}/{secret} has another {key}, which stays"
        return data.get("tls.crt", ""), ""
    return "", f"{secret} may be read in none of {', '.join(namespaces)}; `make bootstrap` gives the right"


def request(path: str, body: dict[str, object] | None = None, method: str | None = None) -> dict[str, dict[str, str]]:
    """Ask the API server, as the service account: GET, or POST of a body, or PATCH of what it merges."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}{path}"
    token = (ACCOUNT / "token").read_text(encoding="utf-8").strip()
    form = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": form, "Accept": "application/json"}
    call = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers, method=method)
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(call, timeout=TIMEOUT_SECONDS, context=trust) as answer:
        found: dict[str, dict[str, str]] = json.load(answer)
    return found


def encode(value: str) -> str:
    """As a Secret's data have it."""
    return base64.b64encode(value.encode()).decode()


def reason(error: Exception) -> str:
    """What the API server said, or what became of the connection."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.read().decode(errors='replace')[:300]}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
