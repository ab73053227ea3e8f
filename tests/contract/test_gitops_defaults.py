"""What admission would add inside a list is written out, so that a difference which Argo CD shows is one.

An apply on the server's side takes such a list as a whole: a field that a webhook fills in there differs for ever.
The rules are those of Tekton Pipelines (`SetDefaults` of pkg/apis/pipeline/v1: param_types.go, result_defaults.go,
pipeline_defaults.go; its webhook stores what it read, so durations come back in Go's form), of Triggers
(event_listener_defaults.go), and of Kubernetes' apps/v1 (the type of a claim in volumeClaimTemplates). A listener's
container gets a name that Triggers refuses to be given: Application flywheel-pipelines compares on the server.
"""

import re
from collections.abc import Iterator
from typing import Any

from tests.support import gitops

GO_DURATION = re.compile(r"([1-9]\d*h[0-5]?\dm|[1-5]?\dm)?[0-5]?\ds")


def missing(obj: gitops.Manifest) -> Iterator[str]:
    """Yield the fields that admission would add to an object, or write in another form."""
    spec: dict[str, Any] = obj.get("spec", {})
    if obj["kind"] in ("Task", "Pipeline", "StepAction"):
        for field in ("params", "results"):
            yield from (f"{field}.{each['name']}.type" for each in spec.get(field, ()) if "type" not in each)
    if obj["kind"] == "Pipeline":
        for task in (*spec["tasks"], *spec.get("finally", ())):
            if "kind" not in task.get("taskRef", {"kind": ""}):
                yield f"tasks.{task['name']}.taskRef.kind"
            if not GO_DURATION.fullmatch(task.get("timeout", "0s")):
                yield f"tasks.{task['name']}.timeout: {task['timeout']}"
    if obj["kind"] == "EventListener":
        for trigger in spec["triggers"]:
            yield from (f"bindings.{each['ref']}.kind" for each in trigger["bindings"] if "kind" not in each)
    if obj["kind"] == "StatefulSet":
        for claim in spec.get("volumeClaimTemplates", ()):
            yield from (f"volumeClaimTemplates.{field}" for field in ("apiVersion", "kind") if field not in claim)


def test_a_duration_is_told_from_one_that_go_writes_otherwise() -> None:
    assert [each for each in ("0s", "45s", "10m0s", "1h0m0s", "24h0m0s") if not GO_DURATION.fullmatch(each)] == []
    assert [each for each in ("30m", "1h", "1h0m", "90m0s", "24h") if GO_DURATION.fullmatch(each)] == []


def test_nothing_is_left_to_fill_in_when_a_manifest_is_admitted() -> None:
    objects = [obj for leaf in gitops.leaves() for obj in leaf.objects]
    found = {f"{obj['kind']} {obj['metadata']['name']}: {field}" for obj in objects for field in missing(obj)}
    assert sorted(found) == []
