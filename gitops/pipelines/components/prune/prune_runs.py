"""Delete the PipelineRuns of this namespace that ended more than KEEP_DAYS ago; their TaskRuns and pods go with them.

Python's own library alone, so that any image with Python will do.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
PAGE = 200
TIMEOUT_SECONDS = 30


def main() -> int:
    """Delete what is old enough; return 1 if any could not be deleted."""
    days = float(os.environ["KEEP_DAYS"])
    namespace = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    path = f"/apis/tekton.dev/v1/namespaces/{namespace}/pipelineruns"
    failed, since = 0, datetime.now(UTC) - timedelta(days=days)
    for name in list(ended_before(runs(path), since)):
        try:
            request(f"{path}/{name}", "DELETE")
            print(f"{name}: deleted", flush=True)
        except urllib.error.HTTPError as error:
            if error.code != 404:  # somebody was faster
                failed = 1
                print(f"error: {name}: {error.code} {error.read().decode(errors='replace')[:300]}", file=sys.stderr)
    return failed


def ended_before(found: Iterator[dict[str, Any]], since: datetime) -> Iterator[str]:
    """Yield the names of runs that ended before a time; one that has not ended has no completionTime."""
    for run in found:
        ended = run.get("status", {}).get("completionTime")
        if ended and datetime.fromisoformat(ended) < since:
            yield run["metadata"]["name"]


def runs(path: str) -> Iterator[dict[str, Any]]:
    """Yield the PipelineRuns, a page at a time."""
    token = ""
    while True:
        query = {"limit": PAGE} | ({"continue": token} if token else {})
        page = request(f"{path}?{urllib.parse.urlencode(query)}")
        yield from page["items"]
        token = page["metadata"].get("continue", "")
        if not token:
            return


def request(path: str, method: str = "GET") -> dict[str, Any]:
    """Ask the API server, as the service account.

    Raises:
        OSError: it refuses, or is not to be reached.
    """
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}{path}"
    token = (ACCOUNT / "token").read_text(encoding="utf-8").strip()
    call = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}, method=method)
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(call, timeout=TIMEOUT_SECONDS, context=trust) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


if __name__ == "__main__":
    sys.exit(main())
