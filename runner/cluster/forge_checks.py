"""Doctor of a fork's forge: its webhook, and the rights of the cluster's tokens.

Nothing is written: the push is a --dry-run, the status is set on a commit that does not exist.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.errors import GitError
from runner.forge.forges import forge_of
from runner.forge.git import credentials, git, token_of_environment
from runner.forge.protocol import Forge
from runner.pipeline.doctor import Diagnosis


def deliveries(values: Mapping[str, str], token: str) -> Iterator[Diagnosis]:
    """Yield whether the forge has a webhook that sends pushes to the cluster, and the result of its last delivery.

    FORGE_TOKEN is preferred to the bot's token, as listing webhooks needs an administrator of the repository.
    """
    forge, host = _forge(values, token_of_environment() or token), f"retrain.{values['APPS_DOMAIN']}"
    if forge is None:
        return
    try:
        ours = [hook for hook in forge.webhooks() if host in hook.url]
    except GitError as error:
        yield Diagnosis(f"the webhooks are not examined: {error}; FORGE_TOKEN of an administrator may list them")
        return
    if not ours:
        yield Diagnosis(
            f"{forge.address.page} has no webhook to {host}: only the nightly run finds pushes",
            "make one as gitops/README.md, section Secrets, says (row webhook)",
        )
    for hook in ours:
        if hook.faults:
            remedy = f"correct it on the page of webhooks of {forge.address.page}"
            yield Diagnosis(f"the webhook to {host}: {'; '.join(hook.faults)}", remedy)
        else:
            yield Diagnosis(f"the webhook to {host} sends pushes")


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
    for name in ("status-token", "read-token"):
        if (token := secret.get(name)) and (forge := _forge(values, token)):
            yield _statuses(forge, name)


def _forge(values: Mapping[str, str], token: str) -> Forge | None:
    return forge_of(values["REPO_URL"], token, kind=values.get("FORGE", ""))


def _statuses(forge: Forge, name: str) -> Diagnosis:
    """Return whether a token may set statuses as it should: `status-token` alone."""
    should = name == "status-token"
    match forge.may_set_status():
        case True:
            remedy = "" if should else "take that right from it: pods of pushed code have it, and could forge a check"
            return Diagnosis(f"{name} may set statuses", remedy)
        case False:
            remedy = "give it the right to write commit statuses" if should else ""
            return Diagnosis(f"{name} may not set statuses{': commits get none' if should else ''}", remedy)
    return Diagnosis(f"whether {name} may set statuses is unknown: the forge does not tell")
