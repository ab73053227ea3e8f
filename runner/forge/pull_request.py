"""Pull request with new contents of a few files, made beside the checkout: no branch is switched, nothing is staged.

The branch has one commit on top of HEAD and is overwritten by the next proposal; its open pull request then shows the
new commit, so there is one at a time. A commit that a person added to the branch is not overwritten, and a pull request
that a person closed is not opened again until the files are to have other contents. A token opens it by the forge's
API; without one, the link that opens it by hand is returned.

A picture in the text is a file in the repository, as forges show others to nobody who is not logged in where they come
from. It is on a branch of its own, `<branch>-picture`, of one commit without a parent: merging the pull request brings
no picture into the history, and the next proposal takes the place of it.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

from runner.errors import GitError
from runner.forge.forges import bot_of, forge_of, kind_of
from runner.forge.git import credentials, git, paths_of, retry, shown
from runner.forge.github import shortened
from runner.forge.protocol import Forge, Identity
from runner.forge.rest import ApiError

PICTURE = "changes.jpg"
_MARK = "Flywheel-Proposal: "  # begins the last line of a proposal's message
_LONGEST_BODY = 65_000  # characters; GitHub takes 65,536
_LONGEST_TITLE = 250  # characters; GitLab takes 255


def propose(
    project: Path,
    files: Mapping[str, str | bytes],
    *,
    branch: str,
    title: str,
    body: str = "",
    base: str | None = None,
    picture: bytes | None = None,
    as_bot: bool = False,
) -> str:
    """Commit new contents of files on a branch, push it, and open or update its pull request; return a text to print.

    `project` is a folder in the repository, whose HEAD is the commit's parent and whose remote is origin; `files` is
    path in it → new content. The branch is overwritten when it exists. `body`, as Markdown, is that of the commit and
    of the pull request, `base` the branch to merge into; None: the remote's default branch. `picture` is a JPEG at the
    end of the text. `as_bot`: the commit is by the token's account, not by who Git says. GitError: Git or the server
    refuses, or a person committed to the branch. A pushed branch stays, and the next call continues with it.
    """
    git(project, "remote", "get-url", "origin")  # fails if there is none
    url = git(project, "config", "remote.origin.url")  # as configured, before Git's url.insteadOf
    forge = forge_of(url, kind=kind_of(project))
    author = bot_of(url) if as_bot else None
    title = shortened(title, _LONGEST_TITLE)
    if len(body) > _LONGEST_BODY:
        body = f"{body[:_LONGEST_BODY].rpartition(chr(10))[0]}\n\n…"
    if not base:
        listed = git(project, "ls-remote", "--symref", "origin", "HEAD", environment=credentials(url))
        found = re.search(r"ref: refs/heads/(\S+)\s+HEAD", listed)
        base = found[1] if found else "main"
    known = _fetched(project, url, branch)
    _check_ours(project, branch, known)
    if forge and forge.api.token and known and _has(project, known, files):
        is_open, declined = forge.find_pull(branch, base), forge.declined_pull(branch, base, known)
        if declined and not is_open:
            return f"not opened again, since it was closed without a merge: {declined}"
    if picture and forge:
        at = _commit(project, {PICTURE: picture}, f"Picture of {branch}", author, parent=False)
        shown_at, _ = _push(project, url, f"{branch}-picture", at, _fetched(project, url, f"{branch}-picture"))
        body += f"\n\n![What changed, drawn]({forge.file_link(shown_at, PICTURE)})"
    message = "\n\n".join(filter(None, (title, body.strip(), f"{_MARK}{branch}")))
    _, is_new = _push(project, url, branch, _commit(project, files, message, author), known)
    if forge and forge.api.token:
        target = base
        return retry(lambda: _open(forge, branch=branch, base=target, title=title, body=body), tries=4)
    state = "pushed" if is_new else "there already"
    if forge and forge.address.page:
        return f"branch {branch} is {state}; open the pull request at {forge.pull_link(branch, base)}"
    return f"branch {branch} is {state} at {shown(url)}; open a pull request from it to {base}"


def changed_files(project: Path, paths: Sequence[str]) -> list[str]:
    """Return those of the files that differ from HEAD."""
    return paths_of(git(project, "diff", "--name-only", "--relative", "-z", "HEAD", "--", *paths))


def _commit(
    project: Path,
    files: Mapping[str, str | bytes],
    message: str,
    author: Identity | None,
    *,
    parent: bool = True,
) -> str:
    """Return a commit on HEAD that changes the files, or without a parent one of these files alone.

    It is made with a separate index.
    """
    prefix = git(project, "rev-parse", "--show-prefix") if parent else ""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git(project, "read-tree", "HEAD" if parent else "--empty", environment=index)
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            blob = git(project, "hash-object", "-w", "--stdin", stdin=data)
            git(project, "update-index", "--add", "--cacheinfo", f"100644,{blob},{prefix}{path}", environment=index)
        tree = git(project, "write-tree", environment=index)
    who = dict[str, str]()
    if author:
        for role in ("AUTHOR", "COMMITTER"):
            who |= {f"GIT_{role}_NAME": author.name, f"GIT_{role}_EMAIL": author.email}
    parents = ("-p", "HEAD") if parent else ()
    return git(project, "commit-tree", tree, *parents, "-F", "-", stdin=message.encode(), environment=who)


def _push(project: Path, url: str, branch: str, commit: str, known: str) -> tuple[str, bool]:
    """Push a commit unless the branch has the same one already; return the branch's, and whether it was pushed.

    `known` is the branch's commit, which was fetched; empty: there is no such branch.
    """
    ref, login = f"refs/heads/{branch}", credentials(url)
    if known and _content(project, known) == _content(project, commit):
        return known, False
    git(project, "push", "--quiet", f"--force-with-lease={ref}:{known}", "origin", f"{commit}:{ref}", environment=login)
    return commit, True


def _fetched(project: Path, url: str, branch: str) -> str:
    """Fetch a branch, and return its commit; empty when there is no such branch."""
    ref, login = f"refs/heads/{branch}", credentials(url)
    known = git(project, "ls-remote", "origin", ref, environment=login).split("\t")[0]
    if known:
        git(project, "fetch", "--quiet", "origin", ref, environment=login)
    return known


def _check_ours(project: Path, branch: str, known: str) -> None:
    """Raise GitError when the newest commit of a branch, apart from merges and from HEAD's, is no proposal."""
    newest = known and git(project, "rev-list", "-1", "--first-parent", "--no-merges", known, "^HEAD")
    if newest and _MARK not in git(project, "log", "-1", "--format=%B", newest):
        who = git(project, "log", "-1", "--format=%h by %an: %s", newest)
        raise GitError(
            f"the branch {branch} has a commit that is no proposal, {who}; merge its pull request, or delete the branch"
        )


def _has(project: Path, commit: str, files: Mapping[str, str | bytes]) -> bool:
    """Whether a commit has files with these contents."""
    prefix = git(project, "rev-parse", "--show-prefix")
    for path, content in files.items():
        blob = git(project, "hash-object", "--stdin", stdin=content.encode() if isinstance(content, str) else content)
        if f"blob {blob}\t" not in git(project, "ls-tree", "--full-tree", commit, f"{prefix}{path}"):
            return False
    return True


def _content(project: Path, commit: str) -> str:
    """Return a commit's tree, parents and message, which identify it apart from its dates."""
    return git(project, "show", "--no-patch", "--format=%T %P%n%B", commit)


def _open(forge: Forge, *, branch: str, base: str, title: str, body: str) -> str:
    """Open a branch's pull request, or update title and text of the open one."""
    try:
        if pull := forge.find_pull(branch, base):
            return f"brought up to date: {forge.update_pull(pull, title, body)}"
        return f"opened: {forge.open_pull(branch, base, title, body)}"
    except (LookupError, TypeError) as error:
        reason = "answered no pull request; is FORGE (auto, github, gitea, gitlab) right? The branch is pushed"
        raise ApiError(f"{forge.api.url} {reason}", HTTPStatus.OK) from error
