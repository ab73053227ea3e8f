"""Label Studio on the real cluster: its project is that of main, and an annotation there starts labels-pull."""

import json
from typing import Any

import pytest

from tests.cluster.desk import Desk, items, kubectl, until

pytestmark = pytest.mark.slow
NAMESPACE = "--namespace=flywheel-labels"
CALLS = """
import json, os, sys, urllib.request
headers = {"Authorization": "Token " + os.environ["LABEL_STUDIO_USER_TOKEN"], "Content-Type": "application/json"}
for method, path, content in json.load(sys.stdin):
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request("http://localhost:8080" + path, body, headers, method=method)
    print(json.dumps(json.loads(urllib.request.urlopen(request, timeout=60).read() or "null")))
"""


def label_studio(method: str, path: str, content: Any = None) -> Any:
    """Call Label Studio's API from within its own pod, as its administrator."""
    return label_studio_all([(method, path, content)])[0]


def label_studio_all(calls: list[tuple[str, str, Any]]) -> list[Any]:
    """Make several calls, each a method, a path and a content or None; return the answers."""
    pod = ("exec", "--stdin", "deployment/label-studio", NAMESPACE, "--")
    return [json.loads(line) for line in kubectl(*pod, "python", "-c", CALLS, stdin=json.dumps(calls)).splitlines()]


def pulls() -> set[str]:
    """Return the Jobs of the CronJob labels-pull."""
    owned = (each for each in items("jobs", NAMESPACE) if each["metadata"].get("ownerReferences"))
    return {
        str(each["metadata"]["name"])
        for each in owned
        if each["metadata"]["ownerReferences"][0]["name"] == "labels-pull"
    }


def test_an_annotator_can_open_the_project_when_the_first_day_is_over(desk: Desk) -> None:
    (project,) = label_studio("GET", "/api/projects/")["results"]
    assert project["parsed_label_config"]["label"]["labels"] == ["airplane", "helicopter"]
    (hook,) = label_studio("GET", f"/api/webhooks/?project={project['id']}")
    assert hook["is_active"] and hook["url"].startswith("http://el-retrain.flywheel-pipelines.svc")


def test_an_annotation_starts_labels_pull_within_seconds(desk: Desk) -> None:
    (project,) = label_studio("GET", "/api/projects/")["results"]
    before = pulls()
    label_studio("POST", f"/api/projects/{project['id']}/import", [{"data": {"image": "/data/upload/none.jpg"}}])
    task = max(each["id"] for each in label_studio("GET", f"/api/tasks/?project={project['id']}")["tasks"])
    try:  # skipped pictures are no part of a dataset, so the pull ends well
        label_studio("POST", f"/api/tasks/{task}/annotations/", {"result": [], "was_cancelled": True})
        until(lambda: pulls() - before, 60, "a Job of labels-pull")
    finally:
        label_studio("DELETE", f"/api/tasks/{task}/")
