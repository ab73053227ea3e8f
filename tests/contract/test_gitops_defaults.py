"""What admission would add inside a list is written out, so that a difference which Argo CD shows is one.

An apply on the server's side takes such a list as a whole: a field that a webhook fills in there differs for ever.
The rules are those of Tekton Pipelines (`SetDefaults` of pkg/apis/pipeline/v1: param_types.go, result_defaults.go,
pipeline_defaults.go; its webhook stores what it read, so durations come back in Go's form), of Triggers
(event_listener_defaults.go), and of Kubernetes' apps/v1 (the type of a claim in volumeClaimTemplates). A listener's
container gets a name that Triggers refuses to be given: Application flywheel-pipelines compares on the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

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


@pytest.mark.parametrize("duration", ["30m", "1h", "1h0m", "90m0s", "24h"])
def test_a_duration_is_refused_when_it_is_not_as_go_writes_it(duration: str) -> None:
    assert not GO_DURATION.fullmatch(duration)


@pytest.mark.parametrize("duration", ["0s", "45s", "10m0s", "1h0m0s", "24h0m0s"])
def test_a_duration_is_taken_when_it_is_as_go_writes_it(duration: str) -> None:
    assert GO_DURATION.fullmatch(duration)


def test_nothing_is_left_to_fill_in_when_a_manifest_is_admitted() -> None:
    found = {
        f"{leaf.path}: {obj['kind']} {obj['metadata']['name']}: {field}"
        for leaf in gitops.leaves()
        for obj in leaf.objects
        for field in missing(obj)
    }
    assert sorted(found) == []
