"""Pull request with new contents of a few files, made beside the checkout: no branch is switched, nothing is staged.

The branch has one commit on top of HEAD and is overwritten by the next proposal; its open pull request then shows the
new commit, so there is one at a time. GITHUB_TOKEN opens it by GitHub's API; without a token, the link that opens it by
hand is returned (see runner/forge/github.py).

API: https://docs.github.com/en/rest/pulls/pulls
"""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from runner.errors import GitError
from runner.forge.git import credentials, git, paths_of, shown
from runner.forge.github import Remote, ask, remote_of


def propose(
    project: Path,
    files: Mapping[str, str | bytes],
    *,
    branch: str,
    title: str,
    body: str = "",
    base: str | None = None,
) -> str:
    """Commit new contents of files on a branch, push it, and open or update its pull request; return a text to print.

    `project` is a folder in the repository, whose HEAD is the commit's parent and whose remote is origin; `files` is
    path in it → new content. The branch is overwritten when it exists. `body`, as Markdown, is that of the commit and
    of the pull request, `base` the branch to merge into; None: the remote's default branch. GitError: Git or the server
    refuses. A pushed branch stays, and the next call continues with it.
    """
    git(project, "remote", "get-url", "origin")  # fails if there is none
    where = remote_of(git(project, "config", "remote.origin.url"))  # as configured, before Git's url.insteadOf
    pushed = _push(project, where, branch, _commit(project, files, f"{title}\n\n{body}".strip()))
    if not base:
        listed = git(project, "ls-remote", "--symref", "origin", "HEAD", environment=credentials(where.url))
        found = re.search(r"ref: refs/heads/(\S+)\s+HEAD", listed)
        base = found[1] if found else "main"
    token = os.environ.get("GITHUB_TOKEN")
    if token and where.endpoint:
        return _open(where, token, branch=branch, base=base, title=title, body=body)
    state = "pushed" if pushed else "there already"
    if where.page:
        link = f"{where.page}/compare/{quote(base)}...{quote(branch)}?expand=1"
        return f"branch {branch} is {state}; open the pull request at {link}"
    return f"branch {branch} is {state} at {shown(where.url)}; open a pull request from it to {base}"


def changed_files(project: Path, paths: Sequence[str]) -> list[str]:
    """Return those of the files that differ from HEAD."""
    return paths_of(git(project, "diff", "--name-only", "--relative", "-z", "HEAD", "--", *paths))


def _commit(project: Path, files: Mapping[str, str | bytes], message: str) -> str:
    """Return a commit on HEAD that changes the files, made with a separate index."""
    prefix = git(project, "rev-parse", "--show-prefix")
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git(project, "read-tree", "HEAD", environment=index)
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            blob = git(project, "hash-object", "-w", "--stdin", stdin=data)
            git(project, "update-index", "--add", "--cacheinfo", f"100644,{blob},{prefix}{path}", environment=index)
        tree = git(project, "write-tree", environment=index)
    return git(project, "commit-tree", tree, "-p", "HEAD", "-F", "-", stdin=message.encode())


def _push(project: Path, where: Remote, branch: str, commit: str) -> bool:
    """Push a commit unless the branch has the same one already; return whether it was pushed."""
    ref, login = f"refs/heads/{branch}", credentials(where.url)
    known = git(project, "ls-remote", "origin", ref, environment=login).split("\t")[0]
    if known:
        git(project, "fetch", "--quiet", "origin", ref, environment=login)
        if _content(project, known) == _content(project, commit):
            return False
    git(project, "push", "--quiet", f"--force-with-lease={ref}:{known}", "origin", f"{commit}:{ref}", environment=login)
    return True


def _content(project: Path, commit: str) -> str:
    """Return a commit's tree, parents and message, which identify it apart from its dates."""
    return git(project, "show", "--no-patch", "--format=%T %P%n%B", commit)


def _open(where: Remote, token: str, *, branch: str, base: str, title: str, body: str) -> str:
    """Open a branch's pull request, or update title and text of the open one."""
    pulls = f"{where.endpoint}/pulls"
    head = quote(f"{where.repository.partition('/')[0]}:{branch}", safe="")
    content = {"title": title, "body": body}
    try:
        found = ask("GET", f"{pulls}?state=open&head={head}&base={quote(base, safe='')}", token)
        if found:
            made = ask("PATCH", f"{pulls}/{found[0]['number']}", token, content)
            return f"brought up to date: {made['html_url']}"
        made = ask("POST", pulls, token, {**content, "head": branch, "base": base})
        return f"opened: {made['html_url']}"
    except (LookupError, TypeError) as error:
        reason = "answered no pull request; is GITHUB_API_URL GitHub's API? The branch is pushed"
        raise GitError(f"{pulls} {reason}") from error
