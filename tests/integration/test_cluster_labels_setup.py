"""The CronJob labels-setup, run by hand on Kubernetes' own API server; the test writes what controllers would."""

from typing import Any

import pytest

from runner.cluster.labels_setup import message_of_last_pod, set_up_labels
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
