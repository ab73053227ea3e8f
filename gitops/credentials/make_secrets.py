"""Make the Secrets of tables, once: `python3 make_secrets.py TABLE…`; what is there already is left alone.

A line of a table is `NAMESPACE/SECRET KEY=VALUE…`, where the value `?` stands for 160 random bits, or
`NAMESPACE/SECRET from NAMESPACE/SECRET`, a copy. Python's own library alone, so that any image with Python will do.
"""

import base64
import json
import os
import secrets
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
TIMEOUT_SECONDS = 30


def main(tables: list[str]) -> int:
    """Make what each line asks for; return 1 if any could not be made."""
    failed = 0
    for line in (line for table in tables for line in Path(table).read_text(encoding="utf-8").splitlines()):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            print(f"{words[0]}: {make(words[0], words[1:])}", flush=True)
        except (OSError, ValueError) as error:  # urllib's errors are OSErrors
            failed = 1
            print(f"error: {words[0]}: {reason(error)}", file=sys.stderr, flush=True)
    return failed


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
    if words[:1] == ["from"] and len(words) == 2:
        source, copied = words[1].split("/")
        data = request(f"/api/v1/namespaces/{source}/secrets/{copied}")["data"]
    else:
        pairs = (word.split("=", 1) for word in words)
        data = {key: encode(secrets.token_hex(20) if value == "?" else value) for key, value in pairs}
    if not data:
        raise ValueError("no keys; expected KEY=VALUE or `from NAMESPACE/SECRET`")
    body = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": secret}, "data": data}
    try:
        request(f"/api/v1/namespaces/{namespace}/secrets", body)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
        return "is there, left alone"
    return "made"


def request(path: str, body: dict[str, object] | None = None) -> dict[str, dict[str, str]]:
    """Ask the API server, as the service account: GET, or POST of a body."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}{path}"
    token = (ACCOUNT / "token").read_text(encoding="utf-8").strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"}
    call = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
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
