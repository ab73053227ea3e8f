"""Which pushes start a retrain: the rendered EventListener in Tekton Triggers' own sink, with its own interceptors.

The payloads have the form that GitHub documents:
https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runner.cluster.start import fill
from runner.pipeline.sources import sources
from tests.support import gitops
from tests.support.gitops import Manifest
from tests.support.listener import SECRET, Listener, listening

URL = "https://github.com/aviation/flyingthings.git"
PAGE = URL.removesuffix(".git")
BEFORE, AFTER = "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"
ZERO = "0" * 40  # of a branch that is gone


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    values = gitops.SAMPLE | {"REPO_URL": URL, "DETECTOR_REVISION": "main"}
    copy = gitops.copy_with(values, tmp_path_factory.mktemp("fork"))
    return gitops.render("pipelines/overlays/openshift", copy).objects


@pytest.fixture(scope="module")
def listener(rendered: list[Manifest], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    with listening(rendered, tmp_path_factory.mktemp("listener")) as made:
        yield made


def commit(
    *modified: str, added: tuple[str, ...] = (), removed: tuple[str, ...] = (), message: str = "Fix"
) -> dict[str, Any]:
    person = {"name": "Octo Cat", "email": "octocat@example.invalid", "username": "octocat"}
    return {
        "id": AFTER,
        "tree_id": "f9d2a07e9488b91af2641b26b9407fe22a451433",
        "distinct": True,
        "message": message,
        "timestamp": "2026-11-25T10:00:00+01:00",
        "url": f"{PAGE}/commit/{AFTER}",
        "author": person,
        "committer": person,
        "added": list(added),
        "removed": list(removed),
        "modified": list(modified),
    }


def push(*commits: dict[str, Any], **changes: Any) -> dict[str, Any]:
    repository = {
        "id": 186853002,
        "name": "flyingthings",
        "full_name": "aviation/flyingthings",
        "private": True,
        "owner": {"name": "aviation", "login": "aviation"},
        "html_url": PAGE,
        "url": PAGE,
        "clone_url": URL,
        "git_url": "git://github.com/aviation/flyingthings.git",
        "ssh_url": "git@github.com:aviation/flyingthings.git",
        "default_branch": "main",
        "master_branch": "main",
    }
    return {
        "ref": "refs/heads/main",
        "before": BEFORE,
        "after": AFTER,
        "repository": repository | changes.pop("repository", {}),
        "pusher": {"name": "octocat", "email": "octocat@example.invalid"},
        "sender": {"login": "octocat", "id": 21031067},
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"{PAGE}/compare/{BEFORE[:12]}...{AFTER[:12]}",
        "commits": list(commits),
        "head_commit": commits[-1] if commits else None,
    } | changes


def in_seven(*changing: int) -> list[dict[str, Any]]:
    """Return seven commits, oldest first, of which some change params.yaml."""
    return [commit("params.yaml" if number in changing else "README.md") for number in range(7)]


def gitea(*commits: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return Gitea's payload: no word of deletion or force; the newest five commits, newest first, of how many.

    Fields: PushPayload and PayloadCommit in modules/structs/hook.go; it is cut after [ui] FEED_MAX_COMMIT_NUM commits.
    """
    made = push(*commits, **changes)
    left_out = ("created", "deleted", "forced", "base_ref", "compare")
    kept = {key: value for key, value in made.items() if key not in left_out}
    newest = [{**each, "verification": None} for each in reversed(commits)][:5]
    head = newest[0] if newest else None
    return kept | {"commits": newest, "total_commits": len(commits), "head_commit": head, "compare_url": PAGE}


class Push(NamedTuple):
    what: str
    payload: dict[str, Any]
    starts: bool


BOT = {"name": "flywheel[bot]", "email": "flywheel@users.noreply.github.com"}
PINNED = "dev runs flyingthings 3, mAP50 0.931\n\nOf 0d1a26e, by retrain-x7k2p.\n\nFlywheel-Pin: flyingthings/3"
OTHER = {
    "full_name": "mallory/flyingthings",
    "html_url": "https://github.com/mallory/flyingthings",
    "clone_url": "https://github.com/mallory/flyingthings.git",
    "ssh_url": "git@github.com:mallory/flyingthings.git",
}
MODEL_ENV = "gitops/serving/overlays/dev/model.env"
PUSHES = [
    Push("params.yaml", push(commit("params.yaml")), True),
    Push("a preset", push(commit("conf/train/gpu.yaml")), True),
    Push("a new preset", push(commit(added=("conf/model/yolo26s.yaml",))), True),
    Push("a preset removed", push(commit(removed=("conf/augment/light.yaml",))), True),
    Push("dvc.yaml", push(commit("dvc.yaml")), True),
    Push("the pins of training", push(commit("constraints-train.txt")), True),
    Push("code of a stage", push(commit("runner/stages/train.py")), True),
    Push("the detector, which evaluate measures", push(commit("serving/vision/detector.py")), True),
    Push("one commit of several", push(commit("README.md"), commit("params.yaml"), commit("docs/results.md")), True),
    Push("a merged pull request", push(commit("params.yaml"), commit(message="Merge pull request #7 from a/b")), True),
    Push(
        "new labels, merged from the bot", push(commit("params.yaml"), pusher=BOT, sender={"login": "flywheel"}), True
    ),
    Push("pushed with force", push(commit("params.yaml"), forced=True), True),
    Push("a message that only mentions a pin", push(commit("params.yaml", message="See Flywheel-Pin: above")), True),
    Push("a pin below another commit", push(commit("dvc.lock", message=PINNED), commit("params.yaml")), True),
    Push("the page of a fork without .git", push(commit("params.yaml"), repository={"clone_url": PAGE}), False),
    Push("another branch", push(commit("params.yaml"), ref="refs/heads/try"), False),
    Push("a branch that is called alike", push(commit("params.yaml"), ref="refs/heads/main/x"), False),
    Push("a branch with main behind it", push(commit("params.yaml"), ref="refs/heads/x/refs/heads/main"), False),
    Push("a tag", push(commit("params.yaml"), ref="refs/tags/main"), False),
    Push("another repository", push(commit("params.yaml"), repository=OTHER), False),
    Push("the branch was deleted", push(deleted=True, after=ZERO), False),
    Push("taken back to an older commit", push(forced=True), True),
    Push("a new branch at a commit that is there", push(created=True), True),
    Push("taken back, as a forge tells that has no word for force", push(forced=None), True),
    Push("pushed with force, whatever the rest says", push(commit("README.md"), forced=True), True),
    Push("the bot's pin", push(commit("dvc.lock", MODEL_ENV, message=PINNED)), False),
    Push("the bot's lock, with no pin", push(commit("dvc.lock", message=PINNED)), False),
    Push("a pin that changes an input too", push(commit("params.yaml", message=PINNED)), False),
    Push("a promotion", push(commit("gitops/serving/overlays/prod/model.env")), False),
    Push("the platform", push(commit("gitops/gpu/base/machine-set.yaml")), False),
    Push("documents", push(commit("README.md", "docs/results.md", "CHANGELOG.md")), False),
    Push("tests", push(commit("tests/unit/runner/stages/test_train.py")), False),
    Push("code that no stage reads", push(commit("runner/label_studio/pull.py", "runner/retrain/cli.py")), False),
    Push("code of the server that no stage reads", push(commit("serving/app.py", "serving/templates/a.html")), False),
    Push("seven commits, the oldest of which changes a training", push(*in_seven(0)), True),
    Push("seven commits, the newest of which changes a training", push(*in_seven(6)), True),
    Push("seven commits, none of which changes a training", push(*in_seven()), False),
    Push("as many commits as some forges send at most", push(*(commit("README.md") for _ in range(20))), True),
    Push("Gitea: three commits, one of which changes a training", gitea(*in_seven(0)[:3]), True),
    Push("Gitea: three commits, none of which changes a training", gitea(*in_seven()[:3]), False),
    Push("Gitea: seven commits, the oldest of which changes a training", gitea(*in_seven(0)), True),
    Push("Gitea: seven commits, the newest of which changes a training", gitea(*in_seven(6)), True),
    Push("Gitea: seven commits, of which two were not sent", gitea(*in_seven()), True),
    Push("Gitea: the bot's pin", gitea(commit("dvc.lock", MODEL_ENV, message=PINNED)), False),
    Push("Gitea: another branch", gitea(commit("params.yaml"), ref="refs/heads/try"), False),
    Push("Gitea: a list that is null", gitea() | {"commits": None}, True),
    Push("a commit whose lists are null", push(commit("params.yaml") | {"added": None, "removed": None}), True),
    Push("names alike", push(commit("params.yaml.orig", "docs/params.yaml", "myconf/a.yaml", "xrunner/a.py")), False),
    Push("an id that is none", push(commit("params.yaml"), after='0", "value": "$(whoami)'), False),
    Push("an id of another length", push(commit("params.yaml"), after=AFTER[:7]), False),
]
PUSHES[14] = Push(
    "the page's address", push(commit("params.yaml"), repository={"clone_url": "", "html_url": URL}), True
)


@pytest.mark.parametrize("each", PUSHES, ids=lambda each: str(each.what))
def test_a_push_starts_a_run_when_it_changes_a_training(listener: Listener, each: Push) -> None:
    runs = listener.deliver(each.payload)
    assert len(runs) == each.starts
    for run in runs:
        assert {param["name"]: param["value"] for param in run["spec"]["params"]} == {
            "revision": AFTER,
            "overrides": "[]",
            "gpu": "auto",
            "gpu-timeout": "20m",
        }


def test_what_a_training_is_made_of_starts_a_run_when_it_changes(project: Path, listener: Listener) -> None:
    for name in sources(project):
        path = f"{name}/any" if (project / name).is_dir() else name
        assert listener.deliver(push(commit(path))), path


BODY = json.dumps(push(commit("params.yaml"))).encode()


def digest(body: bytes, secret: str, algorithm: str = "sha256") -> str:
    return f"{algorithm}={hmac.new(secret.encode(), body, getattr(hashlib, algorithm)).hexdigest()}"


@pytest.mark.parametrize(
    ("what", "signature", "starts"),
    [
        ("right", digest(BODY, SECRET), True),
        ("of another secret", digest(BODY, "another"), False),
        ("of another body", digest(BODY + b" ", SECRET), False),
        ("of the empty secret", digest(BODY, ""), False),
        ("missing", None, False),
        ("empty", "", False),
        ("without its algorithm", digest(BODY, SECRET).removeprefix("sha256="), False),
        ("of an algorithm that nobody knows", f"md5={hashlib.md5(BODY, usedforsecurity=False).hexdigest()}", False),
        ("with one digit changed", digest(BODY, SECRET)[:-1] + "g", False),
    ],
)
def test_a_push_starts_a_run_when_its_signature_is_right(
    listener: Listener, what: str, signature: str | None, starts: bool
) -> None:
    assert bool(listener.deliver(BODY, X_Hub_Signature_256=signature)) is starts, what


def test_an_old_signature_is_no_signature_when_it_stands_alone(listener: Listener) -> None:
    old = digest(BODY, SECRET, "sha1")
    assert listener.deliver(BODY, X_Hub_Signature_256=None, X_Hub_Signature=old) == []


@pytest.mark.parametrize("event", ["ping", "pull_request", "workflow_run", None])
def test_another_event_starts_nothing_when_it_arrives(listener: Listener, event: str | None) -> None:
    assert listener.deliver(BODY, X_GitHub_Event=event) == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"not JSON", b'{"ref": "refs/heads/main"}', b"\xff\xfe"])
def test_nonsense_starts_nothing_when_it_is_signed(listener: Listener, body: bytes) -> None:
    assert listener.deliver(body) == []


def test_a_run_by_hand_is_the_run_of_a_push_when_it_has_the_same_params(
    rendered: list[Manifest], listener: Listener
) -> None:
    template = next(each for each in rendered if each["kind"] == "TriggerTemplate")
    (pushed,) = listener.deliver(BODY)
    by_hand = fill(template, {"revision": AFTER})
    assert by_hand["spec"] == pushed["spec"]
    assert by_hand["metadata"]["generateName"] == pushed["metadata"]["generateName"]
    assert by_hand["metadata"]["labels"].items() <= pushed["metadata"]["labels"].items()
