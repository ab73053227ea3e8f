"""The first day: train once on the dataset that params.yaml names, so that dev serves a model.

It starts one run of the pipeline, as a push would, and waits until that is through. Run again it looks after the same
run; it starts no second one.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from runner.cluster import facts as cluster_env
from runner.cluster import kubectl
from runner.cluster.bootstrap import CRD, Say, require_pushed, wait_for
from runner.errors import ClusterError, ConfigError
from runner.retrain.branch import head_of
from runner.retrain.start import fill

NAMESPACE = "flywheel-pipelines"
LABEL = "flywheel/first-run"
RUNS = f"/apis/tekton.dev/v1/namespaces/{NAMESPACE}/pipelineruns"
TEMPLATE = f"/apis/triggers.tekton.dev/v1beta1/namespaces/{NAMESPACE}/triggertemplates/retrain"
IMAGES = Path("gitops/images/kustomization.yaml")
NEEDED = {
    CRD + "pipelineruns.tekton.dev": "pipelineruns.tekton.dev, which Tekton brings",
    f"/api/v1/namespaces/{NAMESPACE}/secrets/store": "Secret store, which the Job credentials makes",
    f"/api/v1/namespaces/{NAMESPACE}/secrets/git": "Secret git, which you supply (gitops/README.md has the command)",
    f"/apis/tekton.dev/v1/namespaces/{NAMESPACE}/pipelines/retrain": "Pipeline retrain, which Argo CD applies",
    TEMPLATE: "TriggerTemplate retrain, which Argo CD applies",
}


def first_run(project: Path, say: Say, *, patience_s: float = 900, pause_s: float = 5) -> None:
    """Start the first training, or look after the one that was started, until it is through.

    Args:
        project: the repository.
        say: is told what happens.
        patience_s: how long a thing may take that the cluster makes by itself; a training has no limit.
        pause_s: between two looks.
    Raises:
        ConfigError: cluster.env or the images are not complete or not pushed.
        ClusterError: something did not come in time, or the run failed.
    """
    values = cluster_env.check(project / cluster_env.PATH, complete=True)
    unbuilt = unbuilt_images(project / IMAGES)
    if unbuilt:
        raise ConfigError(
            f"{IMAGES}: {', '.join(unbuilt)} not built yet; once they are, `python -m runner images --write`, "
            "then commit and push"
        )
    require_pushed(project, values)
    for path, what in NEEDED.items():
        wait_for(path, what, say, patience_s=patience_s, pause_s=pause_s)
    runs = kubectl.items(RUNS, labels=f"{LABEL}=true")
    if not runs:
        _start(values)
        runs = kubectl.items(RUNS, labels=f"{LABEL}=true")
    name = str(runs[0]["metadata"]["name"])
    say(f"PipelineRun {name}: kubectl -n {NAMESPACE} get pipelinerun {name} -w")
    told = ""
    while True:
        condition = _condition(kubectl.get(f"{RUNS}/{name}") or {})
        if condition.get("message") not in (None, told):
            told = str(condition["message"])
            say(f"  {told}")
        match condition.get("status"):
            case "True":
                say(f"trained; once Argo CD has seen the pin: https://flywheel-dev.{values['APPS_DOMAIN']}")
                return
            case "False":
                raise ClusterError(
                    f"PipelineRun {name} failed: {told}; mend the cause, then "
                    f"`kubectl -n {NAMESPACE} delete pipelinerun {name}` and run this again"
                )
        time.sleep(pause_s)


def unbuilt_images(path: Path) -> list[str]:
    """Return the names in images/ whose digest is still zeros."""
    text = path.read_text(encoding="utf-8")
    return [
        name for name, entry in re.findall(r"^- name: (\S+)\n((?:  .*\n?)*)", text, re.MULTILINE) if "0" * 64 in entry
    ]


def _start(values: dict[str, str]) -> None:
    template = kubectl.get(TEMPLATE)
    if template is None:
        raise ClusterError(f"{TEMPLATE} is gone; look at Argo CD's Application pipelines")
    run = fill(template, {"revision": head_of(values["REPO_URL"], values["DETECTOR_REVISION"])})
    run["metadata"] |= {"generateName": "first-run-", "namespace": NAMESPACE}
    run["metadata"]["labels"][LABEL] = "true"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(run, file)
        file.flush()
        done = kubectl.run("create", "-f", file.name)
    if done.returncode:
        raise ClusterError(f"the pipeline was not started: {' '.join(done.stderr.split())}")


def _condition(run: dict[str, Any]) -> dict[str, Any]:
    conditions = (run.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == "Succeeded"), {})
