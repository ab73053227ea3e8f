"""A pull request from real Git, against a bare repository and a small server that answers as GitHub's API does."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runner.errors import GitError
from runner.forge.pull_request import changed_files, propose

Answer = tuple[int, Any]


class GitHub:
    """Answers /repos/<owner>/<name>/pulls, and notes what was asked."""

    def __init__(self) -> None:
        self.pulls: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.authorization = ""
        self.refusal: Answer | None = None
        github = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                github.asked.append((self.command, self.path))
                github.authorization = self.headers["Authorization"] or ""
                status, answer = github.refusal or github.answer(
                    self.command, self.path, json.loads(content) if content else {}
                )
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", answer)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            do_GET = do_POST = do_PATCH = _answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, path: str, content: dict[str, Any]) -> Answer:
        if method == "GET":
            return 200, self.pulls
        if method == "PATCH":
            pull = next(each for each in self.pulls if path.endswith(f"/{each['number']}"))
            pull.update(content)
            return 200, pull
        if any(each["head"] == content["head"] for each in self.pulls):
            return 422, {"message": "A pull request already exists"}
        number = len(self.pulls) + 1
        self.pulls.append({**content, "number": number, "html_url": f"https://example.invalid/pull/{number}"})
        return 201, self.pulls[-1]


@pytest.fixture
def github() -> Iterator[GitHub]:
    server = GitHub()
    thread = threading.Thread(target=server.server.serve_forever)
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose origin is a bare repository; the project is a folder in it."""
    for name in list(os.environ):
        if name.startswith(("GITHUB_", "GIT_")) or name == "CA_BUNDLE":
            monkeypatch.delenv(name)
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


def pushed(clone: Path, branch: str, form: str = "%s%n%b") -> str:
    git(clone, "fetch", "-q", "origin", branch)
    return git(clone, "log", "-1", f"--format={form}", "FETCH_HEAD")


def test_the_link_is_given_when_there_is_no_token(clone: Path) -> None:
    said = propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="New labels", body="| a |\n|---|")
    assert said.startswith("branch labels is pushed at ") and said.endswith("open a pull request from it to trunk")
    assert pushed(clone, "labels") == "New labels\n| a |\n|---|"
    assert git(clone, "show", "FETCH_HEAD:./params.yaml") == "a: 2"
    assert git(clone, "rev-parse", "FETCH_HEAD^") == git(clone, "rev-parse", "HEAD")


def test_the_checkout_stays_when_a_branch_is_pushed(clone: Path) -> None:
    (clone / "other").write_text("in the making\n")
    git(clone, "add", "other")
    (clone / "untracked").write_text("mine\n")
    before = git(clone, "status", "--porcelain=v2", "--branch")
    propose(clone, {"params.yaml": "a: 2\n", "new": b"\xff"}, branch="labels", title="New labels")
    assert git(clone, "status", "--porcelain=v2", "--branch") == before
    git(clone, "fetch", "-q", "origin", "labels")
    assert git(clone, "diff", "--name-only", "HEAD", "FETCH_HEAD").splitlines() == [
        '"detector \\303\\274/new"',
        '"detector \\303\\274/params.yaml"',
    ]


def test_the_branch_stays_when_the_same_is_proposed_again(clone: Path) -> None:
    propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="New labels")
    first = pushed(clone, "labels", "%H")
    said = propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="New labels")
    assert "branch labels is there already" in said and pushed(clone, "labels", "%H") == first
    propose(clone, {"params.yaml": "a: 3\n"}, branch="labels", title="Newer labels")
    assert pushed(clone, "labels") == "Newer labels"
    assert git(clone, "rev-list", "--count", "HEAD..FETCH_HEAD") == "1"


def test_one_pull_request_is_open_when_proposed_twice(
    clone: Path, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "a token")
    monkeypatch.setenv("GITHUB_API_URL", github.url)
    monkeypatch.setenv("GITHUB_REPOSITORY", "somebody/detector")
    said = propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One", body="1")
    assert said == "opened: https://example.invalid/pull/1"
    assert github.authorization == "Bearer a token"
    assert github.asked == [
        ("GET", "/repos/somebody/detector/pulls?state=open&head=somebody%3Alabels&base=trunk"),
        ("POST", "/repos/somebody/detector/pulls"),
    ]
    said = propose(clone, {"params.yaml": "a: 3\n"}, branch="labels", title="Two", body="2")
    assert said == "brought up to date: https://example.invalid/pull/1"
    (pull,) = github.pulls
    assert (pull["head"], pull["base"], pull["title"], pull["body"]) == ("labels", "trunk", "Two", "2")


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            (403, {"message": "Resource not accessible"}),
            "answered 403: .*not accessible.*needs the right to do this",
        ),
        ((422, {"message": "Validation Failed"}), "answered 422: .*Validation Failed.*look at it there"),
        ((200, "no list"), "answered no pull request; is GITHUB_API_URL GitHub's API"),
    ],
)
def test_the_branch_is_pushed_when_the_server_refuses(
    clone: Path, github: GitHub, monkeypatch: pytest.MonkeyPatch, refusal: Answer, message: str
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "a token")
    monkeypatch.setenv("GITHUB_API_URL", github.url)
    monkeypatch.setenv("GITHUB_REPOSITORY", "somebody/detector")
    github.refusal = refusal
    with pytest.raises(GitError, match=message) as error:
        propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
    assert "a token" not in str(error.value)
    github.refusal = None
    assert "opened" in propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")


def test_the_token_goes_nowhere_else_when_the_server_redirects(
    clone: Path, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = GitHub()
    thread = threading.Thread(target=other.server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("GITHUB_TOKEN", "a token")
        monkeypatch.setenv("GITHUB_API_URL", github.url)
        monkeypatch.setenv("GITHUB_REPOSITORY", "somebody/detector")
        github.refusal = (302, f"{other.url}/elsewhere")
        with pytest.raises(GitError, match=r"answered no pull request"):
            propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
        assert not other.authorization
    finally:
        other.server.shutdown()
        thread.join()
        other.server.server_close()


def test_the_token_is_not_sent_when_the_way_is_open(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "a token")
    monkeypatch.setenv("GITHUB_API_URL", "http://api.example.invalid")
    monkeypatch.setenv("GITHUB_REPOSITORY", "somebody/detector")
    with pytest.raises(GitError, match=r"GITHUB_API_URL is http://api.example.invalid.*expected https://"):
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


def test_git_is_quoted_when_it_fails(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(clone, "remote", "set-url", "origin", str(clone.parents[1] / "gone.git"))
    with pytest.raises(GitError, match=r"^git ls-remote: fatal: .*; mend it, then run this again$"):
        propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
    with pytest.raises(GitError, match=r"^git remote: error: No such remote 'upstream'"):
        propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One", remote="upstream")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GitError, match=r"git is not installed"):
        changed_files(clone, ["params.yaml"])


def test_changed_files_are_named_when_they_differ_from_the_commit(clone: Path) -> None:
    assert changed_files(clone, ["params.yaml"]) == []
    (clone / "params.yaml").write_text("a: 5\n")
    assert changed_files(clone, ["params.yaml", "other"]) == ["params.yaml"]
