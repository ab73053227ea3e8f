"""docs/rotation.md, section by section: its commands change every secret, while somebody asks dev and loses nothing."""

import re
from base64 import b64decode
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import settle
from tests.cluster.desk import Desk, Object, get, refresh
from tests.cluster.gitea import REPOSITORY
from tests.cluster.runs import Client, assert_pinned_and_served, client, ended, pins, run_of
from tests.conftest import PROJECT
from tests.support import gitops

pytestmark = [pytest.mark.slow, pytest.mark.faults]
PAGE = (PROJECT / "docs/rotation.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^<!-- ([a-z-]+) -->\n```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^### (.*)$", re.MULTILINE)
BY_THEMSELVES = (
    *("model-api", "store-users", "store-servers", "minio-root", "postgresql", "label-studio"),
    *("label-studio-webhook", "feedback-webhook", "argocd-webhook"),
)


def blocks(section: str) -> list[str]:
    """Return the blocks of commands of a section, in order."""
    return [text for name, text in BLOCK.findall(PAGE) if name == section]


def secrets_of(heading: str) -> Iterator[tuple[str, str]]:
    """Yield namespace and name of each Secret of a heading: names, `in`, namespaces; several with a semicolon."""
    for part in heading.split(";"):
        names, _, namespaces = part.partition(" in ")
        for namespace in re.findall(r"`([^`]+)`", namespaces):
            yield from ((namespace, name) for name in re.findall(r"`([^`]+)`", names))


def heading_of(section: str) -> str:
    """Return the heading above the first block of a section."""
    return str(HEADING.findall(PAGE[: PAGE.index(f"<!-- {section} -->")])[-1])


def there(section: str) -> dict[tuple[str, str], Object]:
    """Return the data of a section's Secrets that the cluster has."""
    found = {}
    for pair in secrets_of(heading_of(section)):
        for environment in gitops.environments():
            namespace, name = (word.replace("<environment>", environment) for word in pair)
            if secret := get("secret", name, f"--namespace={namespace}"):
                found[namespace, name] = secret["data"]
    return found


def rotate(desk: Desk, section: str, **environment: str) -> str:
    """Type the commands of a section; every Secret of it that is there has other data afterwards."""
    before = there(section)
    said = desk.shell("\n".join([*blocks("all"), *blocks(section)]), environment=environment)
    after = there(section)
    assert before
    assert [name for name, data in before.items() if after[name] == data] == []
    return said


@pytest.fixture(autouse=True)
def asking(desk: Desk) -> Iterator[Client]:
    """A client of dev, which loses nothing."""
    with client() as it:
        yield it
    assert it.asked
    assert not it.lost, it.lost


@pytest.mark.parametrize("section", BY_THEMSELVES)
def test_a_secret_is_another_and_nobody_lost_an_answer(desk: Desk, section: str) -> None:
    rotate(desk, section)


def test_tokens_of_the_forge_are_others_and_the_old_ones_may_go(desk: Desk) -> None:
    token = desk.forge._token("flywheel-bot")
    rotate(desk, "git", TOKEN=token, STATUS_TOKEN=token, READ_TOKEN=token, LABELS_TOKEN=token)
    for old in desk.forge.ask("GET", "/users/flywheel-bot/tokens", user="flywheel-bot"):
        if old["token_last_eight"] != token[-8:]:
            desk.forge.ask("DELETE", f"/users/flywheel-bot/tokens/{old['id']}", user="flywheel-bot")


def test_the_webhook_has_another_key_at_both_ends(desk: Desk) -> None:
    rotate(desk, "webhook")
    secret = b64decode(there("webhook")["flywheel-pipelines", "webhook"]["secret"]).decode()
    for hook in desk.forge.ask("GET", f"{REPOSITORY}/hooks"):
        desk.forge.ask("DELETE", f"{REPOSITORY}/hooks/{hook['id']}")
    desk.forge.hook("https://retrain.apps.flywheel.test", secret)


def test_versions_are_signed_by_another_key_that_the_servers_know_first(desk: Desk) -> None:
    desk.pull()
    prepare, replace = blocks("signing")
    desk.shell(prepare)
    refresh()
    settle()
    desk.shell(replace)
    assert "private.pem" not in desk.shell("git status --porcelain")


def test_a_training_is_pinned_and_served_with_the_new_secrets(desk: Desk) -> None:
    before = pins(desk)
    commit = desk.retrain("After the rotation", epochs=2)
    run = run_of(commit)
    ended(run)
    assert_pinned_and_served(desk, commit, run, before)
    said = desk.shell("python -m runner doctor", fails=True).splitlines()
    assert [line for line in said if line.startswith("FAIL") and re.search("the store|may not|signed by", line)] == []
