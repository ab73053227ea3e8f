"""Doctor of a fork's forge: its webhook, and the rights of the cluster's tokens.

Nothing is written: the push is a --dry-run, the status is set on a commit that does not exist.
API: https://docs.github.com/en/rest; Gitea and Forgejo have these endpoints too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.errors import GitError
from runner.forge.git import credentials, git
from runner.forge.github import ask, remote_of
from runner.pipeline.doctor import Finding

NOBODY = "0" * 40


def deliveries(values: Mapping[str, str], token: str) -> Iterator[Finding]:
    """Yield whether the forge has a webhook that sends pushes to the cluster, and the result of its last delivery.

    Args:
        values: of cluster.env.
        token: the bot's; GITHUB_TOKEN is tried first, as listing webhooks needs an administrator of the repository.
    """
    where, host = remote_of(values["REPO_URL"]), f"retrain.{values['APPS_DOMAIN']}"
    token = os.environ.get("GITHUB_TOKEN") or token
    hooks: list[dict[str, Any]] = []
    try:
        hooks = ask("GET", f"{where.api.rstrip('/')}/repos/{where.repository}/hooks", token) if where.api else []
    except GitError as error:
        yield Finding(f"the webhooks were not looked at: {error}; GITHUB_TOKEN of an administrator may list them")
        return
    ours = [hook for hook in hooks if host in str(hook.get("config", {}).get("url", ""))]
    if not ours:
        yield Finding(
            f"{where.page} has no webhook to {host}: only the nightly run finds pushes",
            "make one as gitops/README.md, section Secrets, says (row webhook)",
        )
    for hook in ours:
        config, events = hook.get("config", {}), hook.get("events", [])
        wrong = [
            *([] if hook.get("active", True) else ["it is not active"]),
            *([] if {"push", "*"} & set(events) else [f"it sends {', '.join(events) or 'nothing'}, expected push"]),
            *(
                []
                if config.get("content_type") == "json"
                else [f"its content type is {config.get('content_type')}, expected json"]
            ),
        ]
        last = hook.get("last_response") or {}
        if last.get("code") and not 200 <= last["code"] < 300:
            wrong.append(f"its last delivery ended with {last['code']} {last.get('message') or ''}".rstrip())
        yield Finding(
            f"the webhook to {host}" + (f": {'; '.join(wrong)}" if wrong else " sends pushes"),
            f"correct it on the page of webhooks of {where.page}" if wrong else "",
        )


def tokens(project: Path, values: Mapping[str, str], secret: Mapping[str, str]) -> Iterator[Finding]:
    """Yield whether `token` may push, and `read-token` may read and set statuses.

    Args:
        project: a clone, from which the push is tried.
        values: of cluster.env.
        secret: data of Secret git in flywheel-pipelines.
    """
    url, branch = values["REPO_URL"], values["DETECTOR_REVISION"]
    if token := secret.get("token"):
        target = "HEAD:refs/heads/flywheel/doctor"
        yield _tried(
            f"token may push to {url}",
            lambda: git(project, "push", "--dry-run", "--quiet", url, target, environment=credentials(url, token)),
            "give it the right to write contents; in a protected branch: let it pass, or `pin.mode: pull-request`",
        )
    if reading := secret.get("read-token"):
        yield _tried(
            f"read-token may read {branch} of {url}",
            lambda: git(project, "ls-remote", url, f"refs/heads/{branch}", environment=credentials(url, reading)),
            "give it the right to read contents",
        )
        yield from _statuses(url, reading)


def _statuses(url: str, token: str) -> Iterator[Finding]:
    where = remote_of(url)
    if not where.api:
        return
    address = f"{where.api.rstrip('/')}/repos/{where.repository}/statuses/{NOBODY}"
    try:
        ask("POST", address, token, {"state": "success", "context": "flywheel/doctor", "description": "tried"})
    except GitError as error:
        code = re.search(r" answered (\d{3})", str(error))
        if code and code[1] in ("401", "403"):
            yield Finding(
                "read-token may not set statuses: commits get none", "give it the right to write commit statuses"
            )
            return
        if code and code[1] == "422":  # allowed; the commit does not exist
            yield Finding("read-token may set statuses")
            return
    yield Finding("nobody knows whether read-token may set statuses: the forge does not say")


def _tried(what: str, do: Any, remedy: str) -> Finding:
    try:
        do()
    except GitError as error:
        return Finding(f"not so: {what}: {error}", remedy)
    return Finding(what)
