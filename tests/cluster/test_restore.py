"""Volumes and Secrets of the store and of Label Studio are lost, and come back by the lines of docs/backups.md.

The second store is a MinIO of its own in another namespace. Takes two trainings' time; not in the short half.
"""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from runner.cluster.tunnel import opened, tunnel
from tests.cluster.conftest import settle
from tests.cluster.desk import ARGO_CD, Desk, Object, blocks, get, items, kubectl, refresh, typed, until, values_of
from tests.cluster.images import reference
from tests.cluster.runs import PIN, assert_pinned_and_served, ended, pins, rolled_out, run_of, served
from tests.cluster.test_labels import label_studio
from tests.conftest import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.faults]
PAGE = PROJECT / "docs/backups.md"
ELSEWHERE, PORT = "elsewhere", 9000
STORE, LABELS = "--namespace=flywheel-minio", "--namespace=flywheel-labels"
APPLICATIONS = ("flywheel-minio", "flywheel-label-studio")
HALF = "models/half-published/1/model.onnx"  # of a publish that was killed
LOST = ("minio-root", "store", "store-trainer", "store-publisher", "store-labels-pull", "label-studio")


@pytest.fixture
def second() -> Iterator[dict[str, str]]:
    """A second store with nothing in it, and what names it to its administrator."""
    user, password = "root", secrets.token_hex(16)
    labels = {"app": "second"}
    container = {
        **{"name": "minio", "image": f"registry.flywheel.test/{reference('flywheel/flywheel-minio')}"},
        "args": ["server", "--address", f":{PORT}", "/data"],
        "env": [
            {"name": "HOME", "value": "/tmp"},
            {"name": "MINIO_ROOT_USER", "value": user},
            {"name": "MINIO_ROOT_PASSWORD", "value": password},
        ],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    kinds: list[tuple[str, Object]] = [
        ("Pod", {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}),
        ("Service", {"selector": labels, "ports": [{"port": PORT}]}),
    ]
    kubectl("create", "namespace", ELSEWHERE)
    try:
        for kind, spec in kinds:
            meta = {"name": "second", "namespace": ELSEWHERE, "labels": labels}
            apply({"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": spec})
        kubectl("wait", "pod/second", f"--namespace={ELSEWHERE}", "--for=condition=Ready", "--timeout=120s")
        yield {
            **{"STORE_URI": "s3://flywheel-backup", "AWS_ENDPOINT_URL": f"http://second.{ELSEWHERE}.svc:{PORT}"},
            **{"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": password},
        }
    finally:
        kubectl("delete", "namespace", ELSEWHERE, "--wait=false")


def apply(obj: Object) -> None:
    kubectl("apply", "--filename=-", stdin=json.dumps(obj))


@contextmanager
def backed_up(desk: Desk, second: dict[str, str]) -> Iterator[None]:
    """Set backups up by the lines of the page, and take the component away again."""
    _, *make_bucket = typed(blocks(PAGE, "## Set it up", "## Restore")[0])
    supply, turn_on = (typed(each) for each in blocks(PAGE, "## Set it up", "## Restore")[1:3])
    with tunnel(ELSEWHERE, "second", PORT) as here:
        desk.shell("\n".join(make_bucket), environment=second | {"AWS_ENDPOINT_URL": f"http://{here}"})
    desk.shell("\n".join(supply), environment=second)
    desk.pull()
    desk.shell(f"sed -i 's/port: 443/port: {PORT}/' gitops/components/backup/to-backup.yaml")
    desk.shell("\n".join(turn_on))
    try:
        refresh()
        until(
            lambda: get("cronjob", "backup", STORE) and get("cronjob", "backup", LABELS), 420, "the CronJobs", every=2
        )
        settle()
        yield
    finally:
        desk.pull()
        undo = 'git revert --no-edit "$(git log -1 --format=%H --grep="Backups every night")"'
        desk.shell(f"{undo} && git push --quiet origin HEAD:main HEAD:platform")
        for namespace in (STORE, LABELS):
            kubectl("delete", "job", "backup-by-hand", "restore-by-hand", "setup-after-restore", namespace, fails=True)
            kubectl("delete", "secret", "backup", namespace)
        refresh()


def state(desk: Desk) -> dict[str, Any]:
    """What must be as before: digests of all versions, annotations and people, the pin."""
    with opened(values_of(desk), "store") as store:
        models = {key: store.digest(key) for key in store.list("models/")}
        datasets = store.list("datasets/")
    projects = label_studio("GET", "/api/projects/")["results"]
    return {
        "models": models,
        "datasets": datasets,
        "projects": [(each["title"], each["task_number"], each["total_annotations_number"]) for each in projects],
        "people": sorted(each["email"] for each in label_studio("GET", "/api/users/")),
        "pin": (desk.clone / PIN).read_text(),
    }


def lose() -> None:
    """Let go of the volumes and the Secrets of both parts, as if their disks and etcd were lost."""
    for name in APPLICATIONS:
        kubectl("annotate", "application", name, f"--namespace={ARGO_CD}", "argocd.argoproj.io/skip-reconcile=true")
    kubectl("delete", "statefulset/minio", STORE, "--cascade=foreground")
    workloads = ("deployment/label-studio", "statefulset/label-studio-postgresql")
    kubectl("delete", *workloads, LABELS, "--cascade=foreground")
    for namespace in (STORE, LABELS):  # a pod holds its volume, even when it has ended
        kubectl("delete", "pod", "--all", namespace)
    kubectl("delete", "pvc", "data-minio-0", STORE)
    kubectl("delete", "pvc", "label-studio", "data-label-studio-postgresql-0", LABELS)
    for each in items("secrets", "--all-namespaces"):
        name, namespace = each["metadata"]["name"], each["metadata"]["namespace"]
        if namespace.startswith("flywheel-") and (name in (*LOST, "label-studio-postgresql") or "store-user-" in name):
            kubectl("delete", "secret", name, f"--namespace={namespace}")
    for name in APPLICATIONS:
        kubectl("annotate", "application", name, f"--namespace={ARGO_CD}", "argocd.argoproj.io/skip-reconcile-")


def sync(name: str) -> None:
    """Sync an Application by hand, as gitops/README.md says, and wait until that ended well.

    Asked at the moment at which Argo CD begins to heal something, a sync is lost in that one, which is of some
    resources and runs no hook: it is asked again.
    """
    patch = '{"operation":{"sync":{}},"status":{"operationState":null}}'

    def ended_well() -> bool:
        found = get("application", name, f"--namespace={ARGO_CD}")
        last = found.get("status", {}).get("operationState", {})
        if "operation" in found or last.get("phase") == "Running":
            return False
        if not last or "resources" in last["operation"].get("sync", {}):
            kubectl("patch", "application", name, f"--namespace={ARGO_CD}", "--type=merge", f"--patch={patch}")
            return False
        return bool(last["phase"] == "Succeeded")

    kubectl("patch", "application", name, f"--namespace={ARGO_CD}", "--type=merge", f"--patch={patch}")
    until(ended_well, 600, f"a sync of {name}", every=2)


def test_all_is_as_before_when_volumes_and_secrets_are_lost(desk: Desk, second: dict[str, str]) -> None:
    with backed_up(desk, second):
        (project,) = label_studio("GET", "/api/projects/")["results"]
        tasks = [{"data": {"image": f"/data/upload/{number}.jpg"}} for number in range(3)]
        label_studio("POST", f"/api/projects/{project['id']}/import", tasks)
        newest = max(each["id"] for each in label_studio("GET", f"/api/tasks/?project={project['id']}")["tasks"])
        skipped = {"result": [], "was_cancelled": True}
        label_studio("POST", f"/api/tasks/{newest}/annotations/", skipped)
        with opened(values_of(desk), "store-publisher") as store:
            store.replace(HALF, b"half")
        desk.shell("\n".join(typed(blocks(PAGE, "## Set it up", "## Restore")[3])))
        before, trained = state(desk), pins(desk)

        lose()
        began = time.monotonic()
        for name in ("flywheel-credentials", *APPLICATIONS):
            sync(name)
        lost, *_ = blocks(PAGE, "## Cluster lost", "## Snapshots")
        desk.shell("\n".join(typed(lost)))
        kubectl("delete", "pod", "--all", "--namespace=flywheel-dev")  # they have the key of before
        for begin, end in (("### The store", "### Label Studio"), ("### Label Studio", "## Cluster lost")):
            for block in blocks(PAGE, begin, end):
                print(desk.shell("\n".join(typed(block))))
        until(lambda: served() and rolled_out("dev"), 600, "dev serves what the pin names", every=2)
        print(f"restored within {time.monotonic() - began:.0f} s")

        assert state(desk) == before
        settle()
        commit = desk.retrain("After the restore", epochs=2)
        run = run_of(commit)
        ended(run)
        assert_pinned_and_served(desk, commit, run, trained)
