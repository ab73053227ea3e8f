"""The table of gitops/README: which pod holds which Secret, as the manifests give them."""

import re
from collections.abc import Iterator
from typing import Any

from tests.contract.test_gitops_references import PLATFORMS, README, objects
from tests.contract.test_gitops_workloads import TEMPLATES, pod, started_jobs
from tests.support import gitops

PUBLIC = ("store-ca",)  # certificates of authorities
ROW = re.compile(r"^\| (?P<pods>`flywheel-[^|]+) \| (?P<code>[^|]+) \| (?P<secrets>[^|]+) \| [^|]+ \|$", re.MULTILINE)
Held = dict[str, set[str]]  # namespace/pod → Secrets, as name or name.key


def secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):  # a CEL filter
        yield from (f"{name}.{key}" for key, name in re.findall(r'compareSecret\("(.+?)", "(.+?)"\)', value))
    if isinstance(value, list):
        for item in value:
            yield from secrets_in(item)
    if isinstance(value, dict):
        if {"secretName", "secretKey"} <= value.keys():  # of an interceptor
            yield f"{value['secretName']}.{value['secretKey']}"
        for key, item in value.items():
            match key, item:
                case "secretKeyRef", {"name": name, "key": of_it}:
                    yield f"{name}.{of_it}"
                case (("secretRef" | "secret"), ({"name": name} | {"secretName": name})):
                    yield str(name)
                case _:
                    yield from secrets_in(item)


def held(platform: str) -> Held:
    found: Held = {}
    clone = next(obj for obj in objects(platform) if obj["kind"] == "StepAction")
    backups = (obj for leaf in gitops.variants() if leaf.path.endswith(f"/{platform}, backup") for obj in leaf.objects)
    for obj in (*objects(platform), *backups):
        name, namespace, kind = obj["metadata"]["name"], obj["metadata"].get("namespace", ""), obj["kind"]
        if kind in TEMPLATES:
            parts: Any = pod(obj, platform).spec
        elif kind == "EventListener":
            parts = [trigger.get("interceptors") for trigger in obj["spec"]["triggers"]]
        elif kind == "Task":
            parts = [obj["spec"], clone["spec"] if "'ref': {'name': 'clone'}" in str(obj["spec"]) else None]
        elif kind == "PodTemplate":
            parts = obj["template"]
        else:
            continue
        secrets = {each for each in secrets_in(parts) if each not in PUBLIC}
        found.setdefault(general(f"{namespace}/{name}"), set()).update(map(general, secrets))
    for job in started_jobs(objects(platform)):
        name = job["metadata"]["name"].partition("-$(")[0]
        found[f"{job['metadata']['namespace']}/{name}"] = set(secrets_in(pod(job, platform).spec))
    return found


def general(text: str) -> str:
    names = "|".join(gitops.environments())
    return re.sub(rf"\b(flywheel|server)-({names})\b", r"\1-<environment>", text)


def test_the_table_of_secrets_is_what_pods_hold() -> None:
    told: Held = {}
    for row in ROW.finditer(README):
        secrets = set(re.findall(r"`([^`]+)`", row["secrets"]))
        for one in re.findall(r"`([^`]+)`", row["pods"]):
            told[one] = secrets
    found: Held = {}
    for platform in PLATFORMS:
        for name, secrets in held(platform).items():
            found.setdefault(name, set()).update(secrets)
    assert told == {name: secrets for name, secrets in found.items() if secrets or name in told}
    assert all(not found[name] for name in found.keys() - told.keys())


def test_pushed_code_holds_no_token_that_writes() -> None:
    """A step of a Task sees its own environment, not that of the clone before it."""
    for row in ROW.finditer(README):
        if row["code"].strip() == "commit":
            assert set(re.findall(r"`([^`]+)`", row["secrets"])) == {"store-trainer", "git.read-token"}
    for task in (obj for obj in objects("openshift") if obj["kind"] == "Task"):
        clone, *own = task["spec"]["steps"]
        if clone.get("params"):  # a commit's
            assert set(secrets_in(own)) == {"store-trainer"}, task["metadata"]["name"]


def test_the_key_that_signs_models_is_in_the_publishing_step_alone() -> None:
    for platform in PLATFORMS:
        assert [name for name, secrets in held(platform).items() if "signing" in secrets] == [
            "flywheel-pipelines/publish"
        ]
    task = next(obj for obj in objects("openshift") if obj["kind"] == "Task" and obj["metadata"]["name"] == "publish")
    clone, step = task["spec"]["steps"]
    (volume,) = (each["name"] for each in task["spec"]["volumes"] if "signing" in secrets_in(each))
    assert volume in {mount["name"] for mount in step["volumeMounts"]}
    shared = (*clone.get("volumeMounts", ()), *task["spec"]["stepTemplate"]["volumeMounts"])
    assert volume not in {mount["name"] for mount in shared}
