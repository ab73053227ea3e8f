"""A pull request with new contents of a few files, made beside the checkout: no branch is switched, nothing is staged.

The branch has one commit on top of HEAD, and is replaced when the same is proposed again; a pull request that is open
for it then shows the new commit, so there is one at a time. GITHUB_TOKEN opens it by GitHub's API and proves who
pushes; without one, the link that opens it by hand is returned. GITHUB_API_URL and GITHUB_REPOSITORY (owner/name) are
told from the remote's address unless they are set, as they are in GitHub's own jobs.

API: https://docs.github.com/en/rest/pulls/pulls
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from runner.errors import GitError

_TIMEOUT_SECONDS = 60


class Remote(NamedTuple):
    """Where pull requests are opened.

    Attributes:
        url: of the Git repository.
        api: GitHub's API, such as https://api.github.com; empty where none can be told from the address.
        page: of the repository, for people; empty as well.
        repository: owner/name; empty as well.
    """

    url: str
    api: str
    page: str
    repository: str


def propose(
    project: Path,
    files: Mapping[str, str | bytes],
    *,
    branch: str,
    title: str,
    body: str = "",
    base: str | None = None,
    remote: str = "origin",
) -> str:
    """Commit new contents of files on a branch, push it, and open a pull request, or bring the open one up to date.

    Args:
        project: a folder in the repository, whose HEAD the commit stands on.
        files: path relative to `project`, and what the file is to hold.
        branch: to push to; replaced where it exists.
        title: of the commit and of the pull request.
        body: of both, as Markdown.
        base: the branch to merge into; None: the remote's default branch.
        remote: of Git.
    Returns:
        What became of it, with the address, to print.
    Raises:
        GitError: Git or the server refuses. What was pushed stays, and the next run goes on with it.
    """
    where = _remote(project, remote)
    commit = _commit(project, files, f"{title}\n\n{body}".strip())
    pushed = _push(project, where, remote, branch, commit)
    base = base or _default_branch(project, where, remote)
    token = os.environ.get("GITHUB_TOKEN")
    if token and where.api and where.repository:
        return _open(where, token, branch=branch, base=base, title=title, body=body)
    state = "pushed" if pushed else "there already"
    if where.page:
        link = f"{where.page}/compare/{quote(base)}...{quote(branch)}?expand=1"
        return f"branch {branch} is {state}; open the pull request at {link}"
    return f"branch {branch} is {state} at {_shown(where.url)}; open a pull request from it to {base}"


def changed_files(project: Path, paths: Sequence[str]) -> list[str]:
    """Return those of the files that are not as HEAD has them."""
    listed = _git(project, "diff", "--name-only", "--relative", "-z", "HEAD", "--", *paths)
    return [path for path in listed.split("\0") if path]


def _remote(project: Path, remote: str) -> Remote:
    """Tell the server from the address of the remote: https://host/owner/name, ssh://… or git@host:owner/name."""
    _git(project, "remote", "get-url", remote)  # complains if there is none
    url = _git(project, "config", f"remote.{remote}.url")
    found = re.fullmatch(r"(?:https?://|ssh://)?(?:[^@/]*@)?([\w.-]+)(:\d+)?[:/](.+?/.+?)(\.git)?/?", url)
    is_file = url.startswith(("file:", "/", "."))
    host, path = (found[1], found[3]) if found and not is_file else ("", "")
    scheme = "http" if url.startswith("http://") else "https"
    port = found[2] or "" if found and host and url.startswith("http") else ""
    api = "https://api.github.com" if host == "github.com" else f"{scheme}://{host}{port}/api/v3" if host else ""
    page = f"{scheme}://{host}{port}/{path}" if host else ""
    return Remote(url, os.environ.get("GITHUB_API_URL") or api, page, os.environ.get("GITHUB_REPOSITORY") or path)


def _commit(project: Path, files: Mapping[str, str | bytes], message: str) -> str:
    """Return a commit on HEAD that changes the files, made with an index of its own."""
    prefix = _git(project, "rev-parse", "--show-prefix")
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        _git(project, "read-tree", "HEAD", environment=index)
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            blob = _git(project, "hash-object", "-w", "--stdin", stdin=data)
            entry = f"100644,{blob},{prefix}{path}"
            _git(project, "update-index", "--add", "--cacheinfo", entry, environment=index)
        tree = _git(project, "write-tree", environment=index)
    return _git(project, "commit-tree", tree, "-p", "HEAD", "-F", "-", stdin=message.encode())


def _push(project: Path, where: Remote, remote: str, branch: str, commit: str) -> bool:
    """Push a commit to a branch unless the branch has the same one already; return whether it was pushed."""
    known = _git(project, "ls-remote", remote, f"refs/heads/{branch}", environment=_credentials(where)).split("\t")[0]
    if known:
        _git(project, "fetch", "--quiet", remote, f"refs/heads/{branch}", environment=_credentials(where))
        if _content(project, known) == _content(project, commit):
            return False
    lease = f"--force-with-lease=refs/heads/{branch}:{known}"
    _git(project, "push", "--quiet", lease, remote, f"{commit}:refs/heads/{branch}", environment=_credentials(where))
    return True


def _content(project: Path, commit: str) -> str:
    """Return what tells a commit from others except its date: tree, parents and message."""
    return _git(project, "show", "--no-patch", "--format=%T %P%n%B", commit)


def _default_branch(project: Path, where: Remote, remote: str) -> str:
    found = re.search(
        r"ref: refs/heads/(\S+)\s+HEAD",
        _git(project, "ls-remote", "--symref", remote, "HEAD", environment=_credentials(where)),
    )
    return found[1] if found else "main"


def _open(where: Remote, token: str, *, branch: str, base: str, title: str, body: str) -> str:
    """Open the pull request of a branch, or give the open one this title and text."""
    pulls = f"{where.api.rstrip('/')}/repos/{where.repository}/pulls"
    owner = where.repository.partition("/")[0]
    head = quote(f"{owner}:{branch}", safe="")
    found = _ask("GET", f"{pulls}?state=open&head={head}&base={quote(base, safe='')}", token)
    if found:
        made = _ask("PATCH", f"{pulls}/{found[0]['number']}", token, {"title": title, "body": body})
        return f"brought up to date: {made['html_url']}"
    made = _ask("POST", pulls, token, {"title": title, "body": body, "head": branch, "base": base})
    return f"opened: {made['html_url']}"


def _ask(method: str, url: str, token: str, content: Mapping[str, str] | None = None) -> Any:
    """Call the API, which must be https:// unless it is on this machine, as the token goes with it.

    Raises:
        GitError: it does not answer, or refuses.
    """
    address = urlsplit(url)
    here = address.scheme == "http" and address.hostname in ("127.0.0.1", "localhost", "::1")
    if address.scheme != "https" and not here:
        raise GitError(f"GITHUB_API_URL is {url}, expected https://…, as the token would be readable on the way")
    request = urllib.request.Request(url, None if content is None else json.dumps(content).encode(), method=method)
    request.add_header("Accept", "application/vnd.github+json")
    request.add_header("Content-Type", "application/json")
    request.add_header("User-Agent", "flywheel")
    request.add_unredirected_header("Authorization", f"Bearer {token}")
    trusted = ssl.create_default_context(cafile=os.environ.get("CA_BUNDLE") or None)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=trusted) as answer:
            answered = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            said = " ".join(error.read(2000).decode(errors="replace").split())[:300]
        rights = error.code in (401, 403, 404)
        remedy = "the token needs the right to write pull requests" if rights else "look at it there"
        raise GitError(f"{method} {url} answered {error.code}: {said}; {remedy}") from error
    except (OSError, ValueError) as error:
        raise GitError(f"{method} {url}: {error}; the branch is pushed: run this again, or open it by hand") from error
    expected = list if method == "GET" else dict
    if not isinstance(answered, expected) or (expected is dict and "html_url" not in answered):
        raise GitError(f"{method} {url} answered no pull request; is GITHUB_API_URL GitHub's API? The branch is pushed")
    return answered


def _credentials(where: Remote) -> dict[str, str]:
    """Return what lets Git push with GITHUB_TOKEN over https, by environment so that no process list shows it."""
    token, address = os.environ.get("GITHUB_TOKEN"), urlsplit(where.url)
    if not token or address.scheme != "https" or address.username:
        return {}
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.https://{address.netloc}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
    }


def _git(
    project: Path, *arguments: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run Git and return what it prints.

    Raises:
        GitError: it fails; with the last line that it said.
    """
    settings = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(environment or {})}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=project, env=settings, input=stdin or b"", capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise GitError("git is not installed, expected it on PATH") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()] or ["failed"]
        why = next((line for line in said if line.startswith(("fatal:", "error:", "!"))), said[-1])
        raise GitError(f"git {arguments[0]}: {_shown(why)}; mend it, then run this again")
    return done.stdout.decode(errors="replace").strip()


def _shown(text: str) -> str:
    """Return a text without the password of a URL in it."""
    return re.sub(r"(\w+://)[^/\s@]*@", r"\1", text)
