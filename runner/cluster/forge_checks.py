"""Doctor of a fork's forge: its webhook, and the rights of the cluster's tokens.

Nothing is written: the push is a --dry-run, the status is set on a commit that does not exist.
API: https://docs.github.com/en/rest; Gitea and Forgejo have these endpoints too.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.errors import GitError
from runner.forge.git import credentials, git
from runner.forge.github import ask, remote_of
from runner.pipeline.doctor import Diagnosis

NO_COMMIT = "0" * 40


def deliveries(values: Mapping[str, str], token: str) -> Iterator[Diagnosis]:
    """Yield whether the forge has a webhook that sends pushes to the cluster, and the result of its last delivery.

    GITHUB_TOKEN is preferred to the bot's token, as listing webhooks needs an administrator of the repository.
    """
    forge, host = remote_of(values["REPO_URL"]), f"retrain.{values['APPS_DOMAIN']}"
    token = os.environ.get("GITHUB_TOKEN") or token
    try:
        hooks: list[dict[str, Any]] = ask("GET", f"{forge.endpoint}/hooks", token) if forge.endpoint else []
    except GitError as error:
        yield Diagnosis(f"the webhooks are not examined: {error}; GITHUB_TOKEN of an administrator may list them")
        return
    ours = [hook for hook in hooks if host in str(hook.get("config", {}).get("url", ""))]
    if not ours:
        yield Diagnosis(
            f"{forge.page} has no webhook to {host}: only the nightly run finds pushes",
            "make one as gitops/README.md, section Secrets, says (row webhook)",
        )
    for hook in ours:
        if faults := list(_faults(hook)):
            remedy = f"correct it on the page of webhooks of {forge.page}"
            yield Diagnosis(f"the webhook to {host}: {'; '.join(faults)}", remedy)
        else:
            yield Diagnosis(f"the webhook to {host} sends pushes")


def _faults(hook: Mapping[str, Any]) -> Iterator[str]:
    events, content_type = hook.get("events", []), hook.get("config", {}).get("content_type")
    if not hook.get("active", True):
        yield "it is not active"
    if not {"push", "*"} & set(events):
        yield f"it sends {', '.join(events) or 'nothing'}, expected push"
    if content_type != "json":
        yield f"its content type is {content_type}, expected json"
    last = hook.get("last_response") or {}
    if last.get("code") and not 200 <= last["code"] < 300:
        yield f"its last delivery ended with {last['code']} {last.get('message') or ''}".rstrip()


def tokens(project: Path, values: Mapping[str, str], secret: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Yield whether `token` of Secret git may push from a clone, `read-token` may read, and which may set statuses.

    `read-token` must not: it is in pods of pushed code, which could then forge a check that a branch requires.
    """
    url, branch = values["REPO_URL"], values["DETECTOR_REVISION"]
    push = ("push", "--dry-run", "--quiet", url, "HEAD:refs/heads/flywheel/doctor")
    write = "give it the right to write contents; in a protected branch: let it pass, or `pin.mode: pull-request`"
    list_refs = ("ls-remote", url, f"refs/heads/{branch}")
    for name, right, command, remedy in (
        ("token", f"push to {url}", push, write),
        ("read-token", f"read {branch} of {url}", list_refs, "give it the right to read contents"),
    ):
        if token := secret.get(name):
            try:
                git(project, *command, environment=credentials(url, token))
                yield Diagnosis(f"{name} may {right}")
            except GitError as error:
                yield Diagnosis(f"{name} may not {right}: {error}", remedy)
    if endpoint := remote_of(url).endpoint:
        for name in ("status-token", "read-token"):
            if token := secret.get(name):
                yield _statuses(endpoint, name, token)


def _statuses(endpoint: str, name: str, token: str) -> Diagnosis:
    """Return whether a token may set statuses as it should: `status-token` alone."""
    status, should = {"state": "success", "context": "flywheel/doctor", "description": "tried"}, name == "status-token"
    try:
        ask("POST", f"{endpoint}/statuses/{NO_COMMIT}", token, status)
    except GitError as error:
        code = re.search(r" answered (\d{3})", str(error))
        if code and code[1] in ("401", "403"):
            remedy = "give it the right to write commit statuses" if should else ""
            return Diagnosis(f"{name} may not set statuses{': commits get none' if should else ''}", remedy)
        if code and code[1] == "422":  # allowed; the commit does not exist
            remedy = "" if should else "take that right from it: pods of pushed code have it, and could forge a check"
            return Diagnosis(f"{name} may set statuses", remedy)
    return Diagnosis(f"whether {name} may set statuses is unknown: the forge does not tell")
