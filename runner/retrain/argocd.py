"""Push event to Argo CD's webhook for the bot's commit, so that a pin is served in seconds, not after the next poll.

The event is a GitHub push, sent to /api/webhook and signed with the key `webhook.github.secret`. Argo CD then refreshes
the Applications whose repository matches `html_url`. It compares host and path, in any form of a URL, with or without
`.git`; so the host need not be GitHub's.

Form: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
Argo CD: util/webhook/webhook.go, affectedRevisionInfo and GetWebURLRegex
"""

import hashlib
import hmac
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from runner.forge.address import address_of
from serving.storage.endpoint import tls_context

URL, SECRET, CA = "ARGOCD_WEBHOOK_URL", "ARGOCD_WEBHOOK_SECRET", "ARGOCD_WEBHOOK_CA"
_TIMEOUT_SECONDS = 10


def send_push(repository: str, branch: str, commit: str, files: Sequence[str], environment: Mapping[str, str]) -> str:
    """Send the push event; return the result as text. A failure is no error: Argo CD polls all the same.

    `repository` is its URL, as in Argo CD's Applications; `commit` the branch's head after the push, which changes
    `files`; `environment` has URL, SECRET; and CA, PEM certificates that are trusted beside those of CA_BUNDLE.
    """
    fault = _send(repository, branch, commit, files, environment)
    return f"Argo CD was not told ({fault}): it polls within minutes" if fault else f"Argo CD was told of {commit[:12]}"


def _send(repository: str, branch: str, commit: str, files: Sequence[str], environment: Mapping[str, str]) -> str:
    """Send the push event; return why it failed, or an empty text."""
    url, secret, page = environment.get(URL), environment.get(SECRET), address_of(repository).page
    if not url or not secret:
        return f"{URL if not url else SECRET} is not set"
    if urlsplit(url).scheme != "https":
        return f"{URL} is {url}, expected https://…"
    if not page:
        return f"{repository} names no server"
    event = {
        "ref": f"refs/heads/{branch}",
        "after": commit,
        "repository": {"html_url": page, "full_name": urlsplit(page).path.strip("/")},
        "commits": [{"id": commit, "added": [], "removed": [], "modified": list(files)}],
    }
    body = json.dumps(event).encode()
    request = urllib.request.Request(url, body, method="POST")
    request.add_header("Content-Type", "application/json")
    request.add_header("X-GitHub-Event", "push")
    request.add_header("X-Hub-Signature-256", f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}")
    try:
        trusted = tls_context()
        if authorities := environment.get(CA):
            trusted.load_verify_locations(cadata=authorities)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=trusted):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            said = " ".join(error.read(1000).decode(errors="replace").split())[:200]
        return f"{url} answered {error.code}: {said}"
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        return f"{url}: {error}"
