"""Label Studio's project in a cluster: the CronJob labels-setup, run now, and the outcome of its last run.

A Job made from a CronJob: https://kubernetes.io/docs/reference/kubectl/generated/kubectl_create/kubectl_create_job/
"""

from runner.cluster import kubectl
from runner.cluster.kubectl import Object
from runner.cluster.waiting import Say, wait_until
from runner.errors import ClusterError

LABELS = "flywheel-labels"
CRON_JOB = "labels-setup"
_BATCH = f"/apis/batch/v1/namespaces/{LABELS}"
_REMEDY = f"look at the pods of Label Studio (kubectl -n {LABELS} get pods)"


def set_up_labels(say: Say, *, patience_s: float, pause_s: float) -> bool:
    """Run the CronJob labels-setup once, as soon as Label Studio is ready; False where there is no such CronJob.

    ClusterError: `labels setup` refused, with its message, or a wait timed out.
    """
    cron_job = kubectl.get(f"{_BATCH}/cronjobs/{CRON_JOB}")
    if cron_job is None:
        return False

    def not_ready() -> str:
        deployment = kubectl.get(f"/apis/apps/v1/namespaces/{LABELS}/deployments/label-studio") or {}
        return "" if (deployment.get("status") or {}).get("availableReplicas") else f"Label Studio in {LABELS}"

    wait_until(not_ready, say, remedy=_REMEDY, patience_s=patience_s, pause_s=pause_s)
    job = kubectl.request("create", f"{_BATCH}/jobs", _job_of(cron_job))
    name = str(job["metadata"]["name"])

    def running() -> str:
        return "" if _state(name) else f"Job {name} in {LABELS}, which sets up Label Studio's project"

    wait_until(running, say, remedy=_REMEDY, patience_s=patience_s, pause_s=pause_s)
    if _state(name) == "Failed":
        message = message_of_last_pod(job=name) or f"kubectl -n {LABELS} logs job/{name} --all-containers tells why"
        raise ClusterError(f"`labels setup` in the cluster: {message}")
    return True


def message_of_last_pod(job: str = "") -> str | None:
    """Return the message of the newest run's pod, of one Job or of any, if it failed, else None."""
    labels = f"app.kubernetes.io/name={CRON_JOB}" + (f",batch.kubernetes.io/job-name={job}" if job else "")
    pods = kubectl.items(f"/api/v1/namespaces/{LABELS}/pods", labels=labels)
    ended = [each for each in pods if (each.get("status") or {}).get("phase") in ("Succeeded", "Failed")]
    if not ended:
        return None
    status = max(ended, key=lambda each: str(each["metadata"]["creationTimestamp"]))["status"]
    if status["phase"] == "Succeeded":
        return None
    states = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    messages = [(each.get("state") or {}).get("terminated", {}).get("message", "") for each in states]
    return " ".join("".join(messages).split()).removeprefix("error: ")


def _job_of(cron_job: Object) -> Object:
    """Return a Job that belongs to its CronJob, so that it goes when newer ones have ended."""
    meta, template = cron_job["metadata"], cron_job["spec"]["jobTemplate"]
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **(template.get("metadata") or {}),
            "generateName": f"{meta['name']}-",
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def _state(job: str) -> str:
    """Return Complete, Failed or, while it runs, an empty text."""
    status = (kubectl.get(f"{_BATCH}/jobs/{job}") or {}).get("status") or {}
    ended = [each["type"] for each in status.get("conditions") or () if each["status"] == "True"]
    return next((each for each in ended if each in ("Complete", "Failed")), "")
