"""A pull request from real Git, with a bare repository in a folder, and on a server with GitHub's API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import GitError
from runner.forge.forges import forge_of
from runner.forge.git import retry
from runner.forge.pull_request import changed_files, propose
from tests.support.forge import Forge, serving_forge
from tests.support.projects import git


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose origin is a bare repository; the project is a folder in it."""
    git(tmp_path, "init", "-q", "--bare", "-b", "trunk", "origin.git")
    git(tmp_path, "clone", "-q", "origin.git", "clone")
    folder = tmp_path / "clone" / "detector ü"
    folder.mkdir()
    (folder / "params.yaml").write_text("a: 1\n")
    (folder / "other").write_text("as it was\n")
    git(folder, "config", "user.name", "Tests")
    git(folder, "config", "user.email", "tests@example.invalid")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "begin")
    git(folder, "push", "-q", "origin", "HEAD:trunk")
    return folder


@pytest.fixture
def forge(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    """A server of the bare repository; it is the clone's origin, and the token may write."""
    with serving_forge(clone.parents[1] / "origin.git") as it:
        git(clone, "remote", "set-url", "origin", it.url)
        monkeypatch.setenv("GITHUB_TOKEN", it.write_token)
        yield it


def pushed(clone: Path, branch: str, form: str = "%s%n%b") -> str:
    git(clone, "fetch", "-q", "origin", branch)
    return git(clone, "log", "-1", f"--format={form}", "FETCH_HEAD")


def test_a_branch_is_pushed_beside_the_checkout_when_there_is_no_token(clone: Path) -> None:
    (clone / "other").write_text("in the making\n")
    git(clone, "add", "other")
    (clone / "untracked").write_text("mine\n")
    before = git(clone, "status", "--porcelain=v2", "--branch")
    files: dict[str, str | bytes] = {"params.yaml": "a: 2\n", "new": b"\xff"}
    said = propose(clone, files, branch="labels", title="New labels", body="| a |\n|---|")
    assert said.startswith("branch labels is pushed at ") and said.endswith(" to trunk")
    assert git(clone, "status", "--porcelain=v2", "--branch") == before
    assert pushed(clone, "labels") == "New labels\n| a |\n|---|\n\nFlywheel-Proposal: labels"
    assert git(clone, "show", "FETCH_HEAD:./params.yaml") == "a: 2"
    assert git(clone, "rev-parse", "FETCH_HEAD^") == git(clone, "rev-parse", "HEAD")
    names = git(clone, "diff", "-z", "--name-only", "HEAD", "FETCH_HEAD").split("\0")
    assert names == ["detector ü/new", "detector ü/params.yaml", ""]


def test_the_branch_stays_when_the_same_is_proposed_again(clone: Path) -> None:
    propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="New labels")
    first = pushed(clone, "labels", "%H")
    said = propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="New labels")
    assert "branch labels is there already" in said and pushed(clone, "labels", "%H") == first
    propose(clone, {"params.yaml": "a: 3\n"}, branch="labels", title="Newer labels")
    assert pushed(clone, "labels", "%s") == "Newer labels"
    assert git(clone, "rev-list", "--count", "HEAD..FETCH_HEAD") == "1"


def test_one_pull_request_is_open_when_proposed_twice(clone: Path, forge: Forge) -> None:
    said = propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One", body="1")
    page = f"{forge.url.removesuffix('.git')}/pull/1"
    assert said == f"opened: {page}"
    assert forge.asked == [
        ("GET", "pulls?state=open&head=aviation%3Alabels&base=trunk", forge.write_token),
        ("POST", "pulls", forge.write_token),
    ]
    said = propose(clone, {"params.yaml": "a: 3\n"}, branch="labels", title="Two", body="2")
    assert said == f"brought up to date: {page}"
    ((branch, pull),) = forge.pulls.items()
    assert (branch, pull["base"], pull["title"], pull["body"]) == ("labels", "trunk", "Two", "2")


@pytest.mark.parametrize(
    "refusal", [(403, {"message": "Not accessible"}), (422, {"message": "Validation Failed"}), (200, "no list")]
)
def test_the_branch_is_pushed_when_the_server_refuses(clone: Path, forge: Forge, refusal: tuple[int, Any]) -> None:
    forge.refusal = refusal
    said = rf"answered {refusal[0]}: .*{refusal[1]['message']}" if refusal[0] != 200 else "answered no pull request"
    with pytest.raises(GitError, match=said) as error:
        propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
    assert forge.write_token not in str(error.value)
    forge.refusal = None
    assert propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One").startswith("opened")


def test_the_token_goes_nowhere_else_when_the_server_redirects(clone: Path, forge: Forge) -> None:
    with serving_forge(forge.folder) as other:
        forge.refusal = (302, f"http://127.0.0.1:{other.port}/api/v3/elsewhere")
        with pytest.raises(GitError, match=rf"answered 302: it is at http://127.0.0.1:{other.port}/"):
            propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
        assert other.asked == []


def test_the_token_is_not_sent_when_the_way_is_open(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "a token")
    monkeypatch.setenv("GITHUB_API_URL", "http://api.example.invalid")
    monkeypatch.setenv("GITHUB_REPOSITORY", "somebody/detector")
    with pytest.raises(GitError, match=r"http://api.example.invalid.*expected https://"):
        propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("git@github.com:somebody/detector.git", "https://github.com/somebody/detector"),
        ("https://token@github.com/somebody/detector", "https://github.com/somebody/detector"),
        ("ssh://git@git.example.invalid:2222/team/detector.git", "https://git.example.invalid/team/detector"),
        ("http://git.example.invalid:3000/team/detector.git", "http://git.example.invalid:3000/team/detector"),
    ],
)
def test_the_page_is_told_from_the_address_when_it_is_a_servers(clone: Path, url: str, page: str) -> None:
    """Git itself is led to the bare repository; all but that is real."""
    git(clone, "config", f"url.{clone.parents[1] / 'origin.git'}.insteadOf", url)
    git(clone, "config", "remote.origin.url", url)
    said = propose(clone, {"params.yaml": "a: 2\n"}, branch="a/b", title="One")
    assert said == f"branch a/b is pushed; open the pull request at {page}/compare/trunk...a/b?expand=1"


def test_a_persons_commit_on_the_branch_stays_when_the_next_is_proposed(clone: Path) -> None:
    propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
    git(clone, "fetch", "-q", "origin", "labels")
    git(clone, "checkout", "-q", "--detach", "FETCH_HEAD")
    (clone / "params.yaml").write_text("a: 2\nb: 1\n")
    git(clone, "commit", "-qam", "A person's correction")
    git(clone, "push", "-q", "origin", "HEAD:labels")
    git(clone, "checkout", "-q", "-")
    with pytest.raises(GitError, match=r"labels .* by Tests: A person's correction"):
        propose(clone, {"params.yaml": "a: 3\n"}, branch="labels", title="Two")
    assert pushed(clone, "labels", "%s") == "A person's correction"
    git(clone, "merge", "-q", "FETCH_HEAD")  # after the merge, the branch may be there still
    propose(clone, {"params.yaml": "a: 3\n"}, branch="labels", title="Two")
    assert pushed(clone, "labels", "%s") == "Two"


def test_the_branch_is_overwritten_when_main_was_merged_into_it(clone: Path) -> None:
    """As the forge's button does that brings a branch up to date."""
    propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
    (clone / "other").write_text("newer\n")
    git(clone, "commit", "-qam", "main moves")
    git(clone, "push", "-q", "origin", "HEAD:trunk")
    git(clone, "fetch", "-q", "origin", "labels")
    git(clone, "checkout", "-q", "--detach", "FETCH_HEAD")
    git(clone, "merge", "-q", "-m", "Merge branch 'trunk' into labels", "@{-1}")
    git(clone, "push", "-q", "origin", "HEAD:labels")
    git(clone, "checkout", "-q", "-")
    propose(clone, {"params.yaml": "a: 3\n"}, branch="labels", title="Two")
    assert pushed(clone, "labels", "%s") == "Two"
    assert git(clone, "rev-list", "--count", "HEAD..FETCH_HEAD") == "1"


@pytest.mark.parametrize("code", [429, 503])
def test_the_call_is_made_again_when_the_forge_is_busy(clone: Path, forge: Forge, code: int) -> None:
    forge.busy = [(code, {})]
    assert propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One").startswith("opened: ")


@pytest.mark.parametrize(
    ("code", "headers", "pauses"),
    [
        (429, {"Retry_After": "7"}, [7]),
        (503, {"Retry_After": "3600"}, [60]),
        (502, {}, [1]),
        (409, {}, [1]),
        (403, {"Retry_After": "7"}, [7]),  # as GitHub refuses who asks too fast
        (403, {}, None),
        (422, {}, None),
        (307, {"Location": "https://example.invalid/"}, None),
    ],
)
def test_the_forge_decides_how_long_to_wait(
    clone: Path, forge: Forge, code: int, headers: dict[str, str], pauses: list[float] | None
) -> None:
    """None: it will refuse again, so nobody waits."""
    forge.busy, waited = [(code, headers)], list[float]()
    found = forge_of(forge.url)
    assert found
    if pauses is None:
        with pytest.raises(GitError, match=rf"answered {code}: "):
            retry(lambda: found.find_pull("labels", "trunk"), pause=waited.append)
    else:
        assert retry(lambda: found.find_pull("labels", "trunk"), pause=waited.append) == ""
    assert waited == (pauses or [])


def test_git_is_quoted_when_it_fails(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(clone, "remote", "set-url", "origin", str(clone.parents[1] / "gone.git"))
    with pytest.raises(GitError, match=r"^git ls-remote: fatal: "):
        propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
    git(clone, "remote", "remove", "origin")
    with pytest.raises(GitError, match=r"^git remote: error: No such remote 'origin'"):
        propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GitError, match=r"git cannot be run"):
        changed_files(clone, ["params.yaml"])


def test_changed_files_are_named_when_they_differ_from_the_commit(clone: Path) -> None:
    assert changed_files(clone, ["params.yaml"]) == []
    (clone / "params.yaml").write_text("a: 5\n")
    assert changed_files(clone, ["params.yaml", "other"]) == ["params.yaml"]
