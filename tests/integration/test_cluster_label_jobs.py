"""CronJobs of Label Studio, run by hand or by an event; Kubernetes' own API server, the test for controllers."""

from typing import Any

import pytest

from runner.cluster.api import Cluster
from runner.cluster.label_jobs import message_of_last_pod, run_soon, set_up_labels
from runner.cluster.start import fill
from runner.errors import ClusterError
from tests.support import gitops
from tests.support.apiserver import ApiServer
from tests.support.processes import meanwhile, until

pytestmark = pytest.mark.slow
NAMESPACE = "flywheel-labels"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NOW = "2026-11-30T12:00:00Z"


def end(server: ApiServer, how: str, message: str = "") -> None:
    """Wait for the Job that has not ended, and end it and a pod of it, as Kubernetes does."""
    job = until(lambda: [each for each in server.items(JOBS) if not each["status"].get("conditions")])[0]
    name, template = job["metadata"]["name"], job["spec"]["template"]
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **template["metadata"]}}
    pod["metadata"]["labels"] |= {"batch.kubernetes.io/job-name": name}
    server.ask("POST", PODS, pod | {"spec": template["spec"]})
    phase = {"Complete": "Succeeded", "Failed": "Failed"}[how]
    ended = {"terminated": {"exitCode": int(how == "Failed"), "message": message}}
    state = {"name": "setup", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": ended}
    server.ask("PATCH", f"{PODS}/{name}/status", {"status": {"phase": phase, "containerStatuses": [state]}})
    reached = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[how]
    conditions = [{"type": each, "status": "True"} for each in (reached, how)]
    status: dict[str, Any] = {"startTime": NOW, "conditions": conditions}
    status |= {"completionTime": NOW} if how == "Complete" else {}
    server.ask("PATCH", f"{JOBS}/{name}/status", {"status": status})


def test_the_cron_job_runs_now_and_its_refusal_is_told(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    api_server.make_namespaces(NAMESPACE)
    said: list[str] = []
    assert not set_up_labels(said.append, patience_s=0, pause_s=0)  # Label Studio is left out
    leaf = gitops.leaf("label-studio/overlays/openshift")
    jobs = [each for each in leaf.of_kind("CronJob") if each["metadata"]["name"] == "labels-setup"]
    servers = [each for each in leaf.of_kind("Deployment") if each["metadata"]["name"] == "label-studio"]
    api_server.apply([*jobs, *servers])
    with pytest.raises(ClusterError, match="0 s for Label Studio in"):
        set_up_labels(said.append, patience_s=0, pause_s=0)
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/label-studio/status"
    api_server.ask("PATCH", path, {"status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}})
    refused = "helicopter: annotations use labels that dataset.classes does not list"
    with (
        meanwhile(lambda: end(api_server, "Failed", f"error: {refused}\n")),
        pytest.raises(ClusterError, match=refused),
    ):
        set_up_labels(said.append, patience_s=60, pause_s=0.2)
    assert message_of_last_pod() == refused
    (job,) = api_server.items(JOBS)
    assert [each["kind"] for each in job["metadata"]["ownerReferences"]] == ["CronJob"]
    api_server.ask("DELETE", PODS)
    with meanwhile(lambda: end(api_server, "Complete")):
        assert set_up_labels(said.append, patience_s=60, pause_s=0.2)
    assert message_of_last_pod() is None


def test_an_event_starts_a_cron_job_once_no_other_run_is_at_work(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rights of the Job that the EventListener makes, which the API server takes."""
    api_server.make_namespaces(NAMESPACE, "flywheel-pipelines")

    def pulls() -> list[str]:
        names = [str(each["metadata"]["name"]) for each in api_server.items(JOBS)]
        return [name for name in names if name.startswith("labels-pull-")]

    leaf = gitops.leaf("label-studio/overlays/kubernetes")
    names = ("starter", "labels-pull")
    api_server.apply([each for each in leaf.objects if each["metadata"]["name"] in names])
    (listener,) = gitops.leaf("pipelines/overlays/kubernetes").of_kind("EventListener")
    (template,) = (each["template"] for each in listener["spec"]["triggers"] if each["name"] == "annotation")
    api_server.apply([fill(template, {"cron-job": "labels-pull"})], "--dry-run=server")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api_server.port))
    cluster = Cluster(api_server.write_account(NAMESPACE, "starter"))
    said: list[str] = []
    run_soon(cluster, "labels-pull", after_s=0, say=said.append)
    (first,) = pulls()
    with meanwhile(lambda: end(api_server, "Complete")):
        run_soon(cluster, "labels-pull", after_s=0, say=said.append)
    assert first in said[1]  # what it waited for
    assert len(pulls()) == 2
    path = f"/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs/labels-pull"
    api_server.ask("PATCH", path, {"spec": {"suspend": True}})
    with meanwhile(lambda: end(api_server, "Complete")):
        run_soon(cluster, "labels-pull", after_s=0, say=said.append)
    assert len(pulls()) == 2
    with pytest.raises(ClusterError, match="captures-push"):
        run_soon(cluster, "captures-push", after_s=0, say=said.append)
