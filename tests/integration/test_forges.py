"""What Flywheel does on each forge: Gitea itself; GitHub and GitLab as servers that check requests by their schemas."""

import os
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConfigError, GitError
from runner.forge.forges import BOT, bot_of, forge_of, kind_of, set_status
from runner.forge.protocol import Forge
from runner.forge.pull_request import propose
from tests.support.forge import IDENTITIES, REPOSITORY, serving_forge
from tests.support.gitea import Gitea
from tests.support.projects import git

Pull = tuple[str, str, str, str]  # branch, base, title, text


@dataclass
class Hosted:
    """A repository on a forge, and what a person sees there."""

    kind: str
    url: str
    write_token: str
    read_token: str
    pulls: Callable[[], list[Pull]]  # the open ones
    statuses: Callable[[str], list[tuple[str, str, str]]]  # of a commit, oldest first: state, context, text
    hook: Callable[..., None]
    close: Callable[[str], None]  # the pull request of a branch, without a merge
    login: Callable[[str], str]  # token → header by which a person's browser is known

    def forge(self, token: str | None = None) -> Forge:
        found = forge_of(self.url, token)
        assert found
        return found

    def fetch(self, address: str) -> bytes:
        """Read an address as a person who is logged in."""
        request = urllib.request.Request(address, headers={"Authorization": self.login(self.write_token)})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("FORGE", "GITHUB_", "GIT_"))]:
        monkeypatch.delenv(name)


@contextmanager
def on_gitea(made: Gitea) -> Iterator[Hosted]:
    path = f"/repos/{REPOSITORY}"

    def pulls() -> list[Pull]:
        found = made.ask("GET", f"{path}/pulls?state=open")
        return sorted((each["head"]["ref"], each["base"]["ref"], each["title"], each["body"]) for each in found)

    def statuses(commit: str) -> list[tuple[str, str, str]]:
        found = made.ask("GET", f"{path}/commits/{commit}/statuses?sort=oldest")
        return [(each["status"], each["context"], each["description"]) for each in found]

    def hook(url: str, **faults: Any) -> None:
        config = {"url": url, "content_type": "json", "secret": "any"}
        made.ask(
            "POST", f"{path}/hooks", {"type": "gitea", "config": config, "events": ["push"], "active": True} | faults
        )

    def close(branch: str) -> None:
        (number,) = (it["number"] for it in made.ask("GET", f"{path}/pulls?state=open") if it["head"]["ref"] == branch)
        made.ask("PATCH", f"{path}/pulls/{number}", {"state": "closed"})

    read = made.token("flywheel-bot", "read:repository")
    with made.repository() as (url, write):
        yield Hosted("gitea", url, write, read, pulls, statuses, hook, close, basic)


@contextmanager
def on_server(kind: str, folder: Path) -> Iterator[Hosted]:
    git(folder, "init", "-q", "--bare", "-b", "main", "origin.git")
    with serving_forge(folder / "origin.git", kind) as made:

        def pulls() -> list[Pull]:
            return sorted((branch, pull["base"], pull["title"], pull["body"]) for branch, pull in made.pulls.items())

        def statuses(commit: str) -> list[tuple[str, str, str]]:
            key = "context" if kind == "github" else "name"
            return [(each["state"], each[key], each["description"]) for each in made.statuses.get(commit, [])]

        yield Hosted(kind, made.url, made.write_token, made.read_token, pulls, statuses, made.hook, made.close, basic)


def basic(token: str) -> str:
    return "Basic " + b64encode(f"x:{token}".encode()).decode()


@pytest.fixture(params=["github", "gitea", "gitlab"])
def hosted(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosted]:
    kind = request.param
    at = on_gitea(request.getfixturevalue("gitea")) if kind == "gitea" else on_server(kind, tmp_path)
    with at as made:
        monkeypatch.setenv("FORGE", kind)
        monkeypatch.setenv("FORGE_TOKEN", made.write_token)
        yield made


@pytest.fixture
def clone(hosted: Hosted, tmp_path: Path) -> Path:
    """A clone with one commit, which is on the branch main of the forge."""
    folder = tmp_path / "clone"
    git(tmp_path, "init", "-q", "-b", "main", "clone")
    for key, value in (("user.name", "Tests"), ("user.email", "tests@example.invalid")):
        git(folder, "config", key, value)
    git(folder, "remote", "add", "origin", hosted.url)
    (folder / "params.yaml").write_text("a: 1\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "begin")
    known = f"http.extraHeader=Authorization: {basic(hosted.write_token)}"
    git(folder, "-c", known, "push", "-q", "--force", "origin", "main")
    return folder


def test_each_branch_has_its_own_pull_request_when_several_are_proposed(hosted: Hosted, clone: Path) -> None:
    first = propose(clone, {"params.yaml": "a: 2\n"}, branch="flywheel/staging", title="Staging 2", body="both models")
    assert first.startswith("opened: http")
    assert propose(clone, {"params.yaml": "a: 3\n"}, branch="labels", title="Labels: 1 added").startswith(
        "opened: http"
    )
    again = propose(clone, {"params.yaml": "a: 4\n"}, branch="flywheel/staging", title="Staging 3", body="newer")
    assert again == first.replace("opened", "brought up to date")
    assert hosted.pulls() == [
        ("flywheel/staging", "main", "Staging 3", "newer"),
        ("labels", "main", "Labels: 1 added", ""),
    ]


def test_the_picture_is_in_the_text_and_stays_out_of_the_branch(hosted: Hosted, clone: Path) -> None:
    picture = b"\xff\xd8 bytes of a picture"
    propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="Labels", body="| a |", picture=picture)
    ((_, _, _, text),) = hosted.pulls()
    assert text.startswith("| a |\n\n![")
    assert hosted.fetch(text.rpartition("(")[2].rstrip(")")) == picture
    login = ("-c", f"http.extraHeader=Authorization: {basic(hosted.write_token)}")
    git(clone, *login, "fetch", "-q", "origin", "labels")
    before = git(clone, "rev-parse", "FETCH_HEAD")
    assert git(clone, "ls-tree", "-r", "--name-only", "FETCH_HEAD") == "params.yaml"
    propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="Labels", body="| a |", picture=picture)
    git(clone, *login, "fetch", "-q", "origin", "labels")
    assert git(clone, "rev-parse", "FETCH_HEAD") == before


def test_a_pull_request_that_a_person_closed_stays_closed(hosted: Hosted, clone: Path) -> None:
    """The nightly run proposes the same again, also after main moved; new labels open a new one."""
    page = propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One").removeprefix("opened: ")
    hosted.close("labels")
    (clone / "other").write_text("main moves\n")
    git(clone, "add", "other")
    git(clone, "commit", "-qm", "main moves")
    said = propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title="One")
    assert said.endswith(page) and hosted.pulls() == []
    assert propose(clone, {"params.yaml": "a: 3\n"}, branch="labels", title="Two").startswith("opened: ")
    assert [title for *_, title, _ in hosted.pulls()] == ["Two"]


def test_title_and_text_are_cut_when_the_forge_takes_no_longer_ones(hosted: Hosted, clone: Path) -> None:
    title, body = "Retrain: " + "train.epochs=50, " * 20, "- a line of many\n" * 5000
    propose(clone, {"params.yaml": "a: 2\n"}, branch="labels", title=title, body=body)
    ((_, _, shown, text),) = hosted.pulls()
    assert title.startswith(shown[:-1]) and shown.endswith("…")
    assert text.endswith("- a line of many\n\n…")


@pytest.mark.parametrize("state", ["success", "failure", "error", "pending"])
def test_a_commit_has_its_newest_status_when_two_are_set(hosted: Hosted, clone: Path, state: str) -> None:
    commit = git(clone, "rev-parse", "HEAD")
    assert set_status(hosted.url, commit, "success", "dev serves the model", "flywheel/retrain")
    assert set_status(hosted.url, commit, state, "x" * 300, "flywheel/retrain")
    *_, (there, context, text) = hosted.statuses(commit)
    assert there == ("failed" if hosted.kind == "gitlab" and state in ("failure", "error") else state)
    assert context == "flywheel/retrain"
    assert text.startswith("x" * 139) and text.endswith("…")


def test_no_status_is_set_when_there_is_no_token_or_it_may_not(
    hosted: Hosted, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(clone, "rev-parse", "HEAD")
    monkeypatch.delenv("FORGE_TOKEN")
    assert not set_status(hosted.url, commit, "success", "text", "flywheel/retrain")
    with pytest.raises(GitError, match=r"403"):
        hosted.forge(hosted.read_token).set_status(commit, "success", "text", "flywheel/retrain")
    assert hosted.statuses(commit) == []


def test_the_right_to_set_statuses_is_told_when_nothing_is_set(hosted: Hosted, clone: Path) -> None:
    assert hosted.forge().may_set_status() is True
    assert hosted.forge(hosted.read_token).may_set_status() is False
    assert not hosted.forge("no token of anybody").may_set_status()


def test_webhooks_are_told_with_their_faults(hosted: Hosted) -> None:
    faults: dict[str, dict[str, Any]] = {
        "github": {"events": ["issues"]},
        "gitea": {"active": False},
        "gitlab": {"push_events": False},
    }
    hosted.hook("https://retrain.example.com/")
    hosted.hook("https://another.example.com/", **faults[hosted.kind])
    if hosted.kind == "gitea":
        with pytest.raises(GitError, match=r"403"):
            list(hosted.forge().webhooks())  # the bot is no administrator
        return
    right, wrong = sorted(hosted.forge().webhooks(), key=lambda hook: len(hook.faults))
    assert right == ("https://retrain.example.com/", [])
    assert len(wrong.faults) == 1


def test_the_bot_is_the_account_of_its_token_where_the_forge_tells(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {
        "github": ("flywheel-bot", "7+flywheel-bot@users.noreply.127.0.0.1"),
        "gitea": ("flywheel-bot", "flywheel-bot@"),
        "gitlab": ("flywheel", str(IDENTITIES["gitlab"]["commit_email"])),
    }
    name, email = bot_of(hosted.url)
    assert (name, email.startswith(known[hosted.kind][1])) == (known[hosted.kind][0], True)
    monkeypatch.setenv("FORGE_TOKEN", hosted.read_token)
    assert bot_of(hosted.url) == BOT


@pytest.mark.parametrize(
    ("url", "settings", "kind", "api", "page"),
    [
        ("https://github.com/a/b.git", {}, "GitHub", "https://api.github.com", "https://github.com/a/b"),
        ("git@gitlab.com:a/b/c.git", {}, "GitLab", "https://gitlab.com/api/v4", "https://gitlab.com/a/b/c"),
        ("https://codeberg.org/a/b", {}, "Gitea", "https://codeberg.org/api/v1", "https://codeberg.org/a/b"),
        ("https://gitlab.x.org/a/b", {"FORGE": "auto"}, "GitLab", "https://gitlab.x.org/api/v4", None),
        ("https://git.x.org/a/b", {}, "GitHub", "https://git.x.org/api/v3", "https://git.x.org/a/b"),
        ("https://git.x.org/a/b", {"FORGE": "forgejo"}, "Gitea", "https://git.x.org/api/v1", None),
        ("https://git.x.org/a/b", {"GITHUB_API_URL": "https://git.x.org/api/v1"}, "Gitea", None, None),
        (
            "https://x.org/lab/a/b",
            {"FORGE_API_URL": "https://x.org/lab/api/v4/"},
            *("GitLab", "https://x.org/lab/api/v4", "https://x.org/lab/a/b"),
        ),
    ],
)
def test_the_forge_is_told_from_settings_or_the_name_of_its_server(
    monkeypatch: pytest.MonkeyPatch, url: str, settings: dict[str, str], kind: str, api: str | None, page: str | None
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    forge = forge_of(url)
    assert forge and type(forge).__name__ == kind
    assert api is None or forge.api.url == api
    assert page is None or forge.address.page == page
    if "lab" in url and "x.org/lab" in url:
        assert forge.address.path == "a/b"


def test_the_forge_is_that_of_cluster_env_when_the_environment_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kind_of(tmp_path) == "" and forge_of(str(tmp_path)) is None
    (tmp_path / "gitops/cluster").mkdir(parents=True)
    (tmp_path / "gitops/cluster/cluster.env").write_text("# FORGE=github\nFORGE=gitlab\n")
    forge = forge_of("https://git.x.org/a/b", kind=kind_of(tmp_path))
    assert type(forge).__name__ == "GitLab"
    monkeypatch.setenv("FORGE", "svn")
    with pytest.raises(ConfigError, match=r"svn.*gitlab"):
        forge_of("https://git.x.org/a/b")
