"""Label Studio's CronJobs in a cluster: run one now, or soon after an event; the outcome of labels-setup.

A Job made from a CronJob: https://kubernetes.io/docs/reference/kubectl/generated/kubectl_create/kubectl_create_job/
"""

import time

from runner.cluster import kubectl
from runner.cluster.api import Cluster
from runner.cluster.kubectl import MissingError, Object
from runner.cluster.waiting import Say, wait_until
from runner.errors import ClusterError

LABELS = "flywheel-labels"
SETUP = "labels-setup"
_CRON_JOBS = f"/apis/batch/v1/namespaces/{LABELS}/cronjobs"
_JOBS = f"/apis/batch/v1/namespaces/{LABELS}/jobs"
_REMEDY = f"look at the pods of Label Studio (kubectl -n {LABELS} get pods)"


def run_soon(cluster: Cluster, name: str, *, after_s: float, say: Say, patience_s: float = 7200) -> None:
    """Run a CronJob once, `after_s` from now and once no Job of it is at work; nothing while it is suspended.

    Label Studio sends an event for each annotation. The Job that calls this has one name, so events that come before
    it ends start no second one, and what they tell of is read by the run that it starts.
    """
    time.sleep(after_s)

    def at_work() -> str:
        found = [each for each in cluster.get(_JOBS)["items"] if _owner(each) == name and not _end(each)]
        return f"Job {found[0]['metadata']['name']}" if found else ""

    wait_until(at_work, say, remedy=_REMEDY, patience_s=patience_s, pause_s=2)
    cron_job = cluster.get(f"{_CRON_JOBS}/{name}")
    if cron_job["spec"].get("suspend"):
        say(f"CronJob {name} is suspended, so nothing is started")
        return
    say(f"Job {cluster.create(_JOBS, _job_of(cron_job))['metadata']['name']} is started")


def set_up_labels(say: Say, *, patience_s: float, pause_s: float) -> bool:
    """Run the CronJob labels-setup once, as soon as Label Studio is ready; False where there is no such CronJob.

    ClusterError: `labels setup` refused, with its message, or a wait timed out.
    """
    cluster = Cluster()
    try:
        cron_job = cluster.get(f"{_CRON_JOBS}/{SETUP}")
    except MissingError:
        return False

    def not_ready() -> str:
        deployment = kubectl.get(f"/apis/apps/v1/namespaces/{LABELS}/deployments/label-studio") or {}
        return "" if (deployment.get("status") or {}).get("availableReplicas") else f"Label Studio in {LABELS}"

    wait_until(not_ready, say, remedy=_REMEDY, patience_s=patience_s, pause_s=pause_s)
    name = str(cluster.create(_JOBS, _job_of(cron_job))["metadata"]["name"])

    def running() -> str:
        ended = _end(cluster.get(f"{_JOBS}/{name}"))
        return "" if ended else f"Job {name} in {LABELS}, which sets up Label Studio's project"

    wait_until(running, say, remedy=_REMEDY, patience_s=patience_s, pause_s=pause_s)
    if _end(cluster.get(f"{_JOBS}/{name}")) == "Failed":
        message = message_of_last_pod(job=name) or f"kubectl -n {LABELS} logs job/{name} --all-containers tells why"
        raise ClusterError(f"`labels setup` in the cluster: {message}")
    return True


def message_of_last_pod(job: str = "") -> str | None:
    """Return the message of labels-setup's newest pod, of one Job or of any, if it failed, else None."""
    labels = f"app.kubernetes.io/name={SETUP}" + (f",batch.kubernetes.io/job-name={job}" if job else "")
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


def _owner(job: Object) -> str:
    return next(
        (str(each["name"]) for each in job["metadata"].get("ownerReferences") or () if each.get("controller")), ""
    )


def _end(job: Object) -> str:
    """Return Complete, Failed or, while a Job runs, an empty text."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    ended = [each["type"] for each in conditions if each["status"] == "True"]
    return next((each for each in ended if each in ("Complete", "Failed")), "")
