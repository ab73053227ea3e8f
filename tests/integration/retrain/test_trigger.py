"""Which pushes start a retrain, and which calls start CronJobs of Label Studio, in Tekton Triggers' own sink.

The EventListener is the rendered one, with Triggers' own interceptors. Payloads have those fields of GitHub's, Gitea's
and GitLab's that a filter could read: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push, PushPayload
in Gitea's modules/structs/hook.go, https://docs.gitlab.com/user/project/integrations/webhook_events/#push-events
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cluster.start import fill
from runner.pipeline.sources import sources
from tests.support import gitops
from tests.support.gitops import Manifest
from tests.support.listener import LABELS_SECRET, REPORTS_SECRET, SECRET, Listener, listening, signature

URL = "https://github.com/aviation/flyingthings.git"
PAGE = URL.removesuffix(".git")
BEFORE, AFTER = "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"
ZERO = "0" * 40  # of a branch that is gone
Payload = dict[str, Any]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    values = gitops.SAMPLE | {"REPO_URL": URL, "DETECTOR_REVISION": "main"}
    copy = gitops.copy_with(values, tmp_path_factory.mktemp("fork"))
    return gitops.render("pipelines/overlays/openshift", copy).objects


@pytest.fixture(scope="module")
def listener(rendered: list[Manifest], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    with listening(rendered, tmp_path_factory.mktemp("listener")) as made:
        yield made


def commit(*modified: str, added: tuple[str, ...] = (), removed: tuple[str, ...] = (), message: str = "Fix") -> Payload:
    files = {"added": list(added), "removed": list(removed), "modified": list(modified)}
    return {"id": AFTER, "message": message, "author": {"name": "Octo Cat"}} | files


def push(*commits: Payload, **changes: Any) -> Payload:
    repository = {
        **{"full_name": "aviation/flyingthings", "html_url": PAGE, "url": PAGE, "default_branch": "main"},
        **{"clone_url": URL, "ssh_url": "git@github.com:aviation/flyingthings.git"},
    }
    return {
        **{"ref": "refs/heads/main", "before": BEFORE, "after": AFTER},
        "repository": repository | changes.pop("repository", {}),
        **{"pusher": {"name": "octocat"}, "sender": {"login": "octocat"}},
        **{"created": False, "deleted": False, "forced": False, "base_ref": None},
        **{"commits": list(commits), "head_commit": commits[-1] if commits else None},
    } | changes


def in_seven(*changing: int) -> list[Payload]:
    """Return seven commits, oldest first, of which some change params.yaml."""
    return [commit("params.yaml" if number in changing else "README.md") for number in range(7)]


def gitea(*commits: Payload, **changes: Any) -> Payload:
    """Return Gitea's payload: no word of deletion or force; the newest five commits, newest first, of how many."""
    made = push(*commits, **changes)
    newest = list(reversed(commits))[:5]
    kept = {key: value for key, value in made.items() if key not in ("created", "deleted", "forced", "base_ref")}
    return kept | {"commits": newest, "total_commits": len(commits), "head_commit": newest[0] if newest else None}


def gitlab(*commits: Payload, **changes: Any) -> Payload:
    """Return GitLab's payload: a project; the newest 20 commits, oldest first, of how many; no head, no force."""
    project = {
        **{"name": "Flyingthings", "namespace": "Aviation", "path_with_namespace": "aviation/flyingthings"},
        **{"web_url": PAGE, "homepage": PAGE, "git_http_url": URL, "http_url": URL, "default_branch": "main"},
        **dict.fromkeys(("git_ssh_url", "ssh_url", "url"), "git@github.com:aviation/flyingthings.git"),
    } | changes.pop("project", {})
    sent = [each | {"id": AFTER if each is commits[-1] else BEFORE, "title": "any"} for each in commits]
    return {
        **{"object_kind": "push", "event_name": "push", "ref": "refs/heads/main", "ref_protected": True},
        **{"before": BEFORE, "after": AFTER, "checkout_sha": AFTER, "message": None},
        **{"user_id": 4, "user_name": "Octo Cat", "user_username": "octocat", "project_id": 15, "project": project},
        "repository": {"name": "Flyingthings", "homepage": PAGE, "git_http_url": URL, "visibility_level": 0},
        **{"commits": sent[-20:], "total_commits_count": len(commits), "push_options": {}},
    } | changes


BOT = {"name": "flywheel[bot]", "email": "flywheel@users.noreply.github.com"}
PINNED = "dev runs flyingthings 3, mAP50 0.931\n\nOf 0d1a26e, by retrain-x7k2p.\n\nFlywheel-Pin: flyingthings/3"
OTHER = {
    name: f"https://github.com/mallory/flyingthings{end}" for name, end in (("html_url", ""), ("clone_url", ".git"))
}
OTHER |= {"full_name": "mallory/flyingthings", "ssh_url": "git@github.com:mallory/flyingthings.git"}
INPUT, NONE = commit("params.yaml"), commit("README.md")
STARTS = {
    "a new preset": push(commit(added=("conf/model/yolo26s.yaml",))),
    "a preset removed": push(commit(removed=("conf/augment/light.yaml",))),
    "new labels, merged from the bot": push(INPUT, pusher=BOT, sender={"login": "flywheel"}),
    "a message that only mentions a pin": push(commit("params.yaml", message="See Flywheel-Pin: above")),
    "a pin below another commit": push(commit("dvc.lock", message=PINNED), INPUT),
    "the page's address": push(INPUT, repository={"clone_url": "", "html_url": URL}),
    "the address in another case, as people write it": push(
        INPUT, repository={"clone_url": URL.replace("aviation/fly", "Aviation/Fly"), "html_url": "", "ssh_url": ""}
    ),
    "a new branch at a commit that is there": push(created=True),
    "a new branch, as forges tell it": push(INPUT, before=ZERO, created=True),
    "a file renamed out of a folder": push(commit("README.md", added=("docs/a.yaml",), removed=("conf/model/a.yaml",))),
    "a name that is not ASCII": push(commit(added=("conf/model/größe ü.yaml",))),
    "a merge, whose own commit has no files": push(commit("params.yaml"), commit(message="Merge pull request #7")),
    "GitLab: a new branch, as it tells that": gitlab(INPUT, before=ZERO),
    "taken back, as a forge tells that has no word for force": push(forced=None),
    "pushed with force, whatever the rest says": push(NONE, forced=True),
    "seven commits, the oldest of which changes a training": push(*in_seven(0)),
    "seven commits, the newest of which changes a training": push(*in_seven(6)),
    "as many commits as some forges send at most": push(*[NONE] * 20),
    "Gitea: three commits, one of which changes a training": gitea(*in_seven(0)[:3]),
    "Gitea: seven commits, of which two were not sent": gitea(*in_seven()),
    "Gitea: a list that is null": gitea() | {"commits": None},
    "GitLab: three commits, one of which changes a training": gitlab(*in_seven(1)[:3]),
    "GitLab: as many as it sends, and more": gitlab(*[NONE] * 21),
    "GitLab: no commit, as of a new branch": gitlab(),
    "GitLab: a pin below another commit": gitlab(commit("dvc.lock", message=PINNED), INPUT),
    "a commit whose lists are null": push(INPUT | {"added": None, "removed": None}),
}
IGNORED = {
    "the page of a fork without .git": push(INPUT, repository={"clone_url": PAGE}),
    "a repository that begins alike": push(
        INPUT, repository={"clone_url": f"{PAGE}-2.git", "html_url": f"{PAGE}-2", "ssh_url": ""}
    ),
    "a branch that is called alike": push(INPUT, ref="refs/heads/main/x"),
    "a branch with main behind it": push(INPUT, ref="refs/heads/x/refs/heads/main"),
    "a tag": push(INPUT, ref="refs/tags/main"),
    "another repository": push(INPUT, repository=OTHER),
    "the branch was deleted": push(deleted=True, after=ZERO),
    "a pin that changes an input too": push(commit("params.yaml", message=PINNED)),
    "a promotion": push(commit("gitops/serving/environments/prod/model.env")),
    "the platform, documents and tests": push(
        commit("gitops/gpu/base/machine-set.yaml"),
        commit("README.md", "docs/results.md", "CHANGELOG.md", "dvc.lock"),
        commit("tests/unit/runner/stages/test_train.py"),
    ),
    "code that no stage reads": push(
        commit("runner/label_studio/pull.py", "runner/retrain/cli.py", "serving/app.py", "serving/templates/a.html")
    ),
    "nineteen commits, none of which changes a training": push(*[NONE] * 19),
    "Gitea: three commits, none of which changes a training": gitea(*in_seven()[:3]),
    "GitLab: three commits, none of which changes a training": gitlab(*in_seven()[:3]),
    "GitLab: a pin that changes an input too": gitlab(INPUT, commit("params.yaml", message=PINNED)),
    "GitLab: the branch was deleted": gitlab(after=ZERO, checkout_sha=None),
    "GitLab: another project": gitlab(
        INPUT, project={"git_http_url": OTHER["clone_url"], "web_url": OTHER["html_url"]}
    ),
    "GitLab: another branch": gitlab(INPUT, ref="refs/heads/labels"),
    "names alike": push(commit("params.yaml.orig", "docs/params.yaml", "myconf/a.yaml", "xrunner/a.py")),
    "an id that is none": push(INPUT, after='0", "value": "$(whoami)'),
    "an id of another length": push(INPUT, after=AFTER[:7]),
}


def sender_of(payload: Payload) -> dict[str, str | None]:
    """Return the headers of a delivery, where they are not GitHub's."""
    return GITLAB if payload.get("object_kind") == "push" else {}


GITLAB = {"X_GitHub_Event": None, "X_Hub_Signature_256": None, "X_Gitlab_Event": "Push Hook", "X_Gitlab_Token": SECRET}


@pytest.mark.parametrize("payload", STARTS.values(), ids=STARTS.keys())
def test_a_push_starts_one_run_when_it_changes_a_training(listener: Listener, payload: Payload) -> None:
    (run,) = listener.deliver(payload, **sender_of(payload))
    params = {param["name"]: param["value"] for param in run["spec"]["params"]}
    assert params == {"revision": AFTER, "overrides": "[]", "gpu": "auto", "gpu-timeout": "20m", "sweep": ""}


@pytest.mark.parametrize("payload", IGNORED.values(), ids=IGNORED.keys())
def test_a_push_starts_nothing_when_it_changes_no_training(listener: Listener, payload: Payload) -> None:
    assert listener.deliver(payload, **sender_of(payload)) == []


def test_what_a_training_is_made_of_starts_a_run_when_it_changes(project: Path, listener: Listener) -> None:
    for name in sources(project):
        path = f"{name}/any" if (project / name).is_dir() else name
        assert listener.deliver(push(commit(path))), path


BODY = json.dumps(push(INPUT)).encode()
REFUSED = {
    "of another secret": {"X_Hub_Signature_256": signature(BODY, "another")},
    "of the empty secret": {"X_Hub_Signature_256": signature(BODY, "")},
    "missing": {"X_Hub_Signature_256": None},
    "empty": {"X_Hub_Signature_256": ""},
    "without its algorithm": {"X_Hub_Signature_256": signature(BODY).removeprefix("sha256=")},
    "of the body and a line end": {"X_Hub_Signature_256": signature(BODY + b"\n")},
    "of SHA-1 alone, in the header of old": {
        "X_Hub_Signature_256": None,
        "X_Hub_Signature": f"sha1={hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()}",
    },
    **{f"the event {event}": {"X_GitHub_Event": event} for event in ("ping", "pull_request", "workflow_run", None)},
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED.keys())
def test_nothing_starts_when_signature_or_event_is_wrong(listener: Listener, headers: dict[str, str | None]) -> None:
    assert listener.deliver(BODY)
    assert listener.deliver(BODY, **headers) == []


@pytest.mark.parametrize(
    "changes",
    [
        *({"X_Gitlab_Token": token} for token in (None, "", "another", SECRET[:-1], SECRET.upper())),
        *({"X_Gitlab_Event": event} for event in (None, "Tag Push Hook", "Merge Request Hook", "push")),
    ],
)
def test_nothing_starts_when_gitlabs_token_or_event_is_wrong(
    listener: Listener, changes: dict[str, str | None]
) -> None:
    assert listener.deliver(gitlab(INPUT), **GITLAB)
    assert listener.deliver(gitlab(INPUT), **GITLAB | changes) == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"not JSON", b'{"ref": "refs/heads/main"}', b"\xff\xfe"])
def test_nonsense_starts_nothing_when_it_is_signed(listener: Listener, body: bytes) -> None:
    assert listener.deliver(body) == []


def test_a_run_by_hand_is_that_of_a_push_when_params_are_the_same(rendered: list[Manifest], listener: Listener) -> None:
    template = next(each for each in rendered if each["kind"] == "TriggerTemplate")
    (pushed,) = listener.deliver(BODY)
    by_hand = fill(template, {"revision": AFTER})
    assert by_hand["spec"] == pushed["spec"]
    assert by_hand["metadata"]["generateName"] == pushed["metadata"]["generateName"]
    assert by_hand["metadata"]["labels"].items() <= pushed["metadata"]["labels"].items()


def started(listener: Listener, body: Payload | bytes, **headers: str | None) -> list[str]:
    """Return the CronJobs whose Job the sink tried to make; the API that it has here knows no Jobs, as it logs."""
    before = listener.log.stat().st_size
    listener.deliver(body, **headers)
    log = listener.log.read_bytes()[before:].decode()
    found = re.findall(r"ResolvedParams : \[\{Name:cron-job Value:([\w-]+)\}\]", log)
    assert bool(found) == ("kubernetes server resources for apiVersion batch/v1" in log)
    return found


ANNOTATED = b'{"action": "ANNOTATION_CREATED"}'  # Label Studio without send_payload
WITHOUT_SIGNATURE = {"X_GitHub_Event": None, "X_Hub_Signature_256": None}


@pytest.mark.parametrize(("secret", "cron_job"), [(LABELS_SECRET, "labels-pull"), (REPORTS_SECRET, "captures-push")])
def test_a_secret_starts_its_cron_job_and_no_other(listener: Listener, secret: str, cron_job: str) -> None:
    for body in (ANNOTATED, b"{}", json.dumps(push(INPUT)).encode()):
        assert started(listener, body, **WITHOUT_SIGNATURE, Authorization=f"Bearer {secret}") == [cron_job]
    refused = ["", "Bearer ", f"Bearer {SECRET}", secret, f"Bearer {secret}x", f"bearer {secret}"]
    for authorization in (*refused, None):
        assert started(listener, ANNOTATED, **WITHOUT_SIGNATURE, Authorization=authorization) == []


def test_a_push_starts_labels_setup_when_it_is_to_the_branch(listener: Listener) -> None:
    for payload in (push(INPUT), push(NONE), gitea(NONE), gitlab(NONE)):
        assert started(listener, payload, **sender_of(payload)) == ["labels-setup"]
    for payload in (push(INPUT, ref="refs/heads/main/x"), push(INPUT, repository=OTHER), push(deleted=True)):
        assert started(listener, payload) == []
    assert started(listener, BODY, X_Hub_Signature_256=signature(BODY, "another")) == []


def test_the_job_of_an_event_has_one_name_when_events_come_fast(rendered: list[Manifest]) -> None:
    (listener,) = (each for each in rendered if each["kind"] == "EventListener")
    one, *others = (each["template"] for each in listener["spec"]["triggers"] if "spec" in each["template"])
    assert others and all(each == one for each in others)
    job = fill(one, {"cron-job": "labels-pull"})
    assert job["metadata"] == {"name": "start-labels-pull", "namespace": "flywheel-labels"}
    assert job["spec"]["ttlSecondsAfterFinished"] == 0
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "CRON_JOB", "value": "labels-pull"} in environment
