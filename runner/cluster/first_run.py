"""First day of a cluster: add a dataset, train a first model that dev serves, set up Label Studio, add a stock model.

Objects added to the store are recorded in params.yaml and in the baseline's pin, as `dataset add` and `promote` do; it
goes on once these are on the branch that the cluster follows. Run again, it resumes where it stopped.
"""

from functools import partial
from pathlib import Path

from runner.cluster import facts as cluster_env
from runner.cluster import kubectl
from runner.cluster.api import PIPELINES
from runner.cluster.bootstrap import CRD, changed_since, fetched, require_pushed
from runner.cluster.container_images import require_built
from runner.cluster.label_jobs import set_up_labels
from runner.cluster.training import same_inputs, summary_line, train
from runner.cluster.tunnel import opened
from runner.cluster.waiting import OPERATORS, Say, wait_until
from runner.errors import ClusterError, ConfigError, GitError
from runner.forge.git import git
from runner.pipeline.sources import sources
from runner.release.pin import Pin, parse_pin, pin_file

MODEL = "model"  # Deployment of an environment
PINS = {environment: pin_file(environment) for environment in ("dev", "baseline")}
#: Path in the API → the object and who creates it.
NEEDED = {
    CRD + "pipelineruns.tekton.dev": "pipelineruns.tekton.dev, which Tekton brings",
    f"/api/v1/namespaces/{PIPELINES}/secrets/store": "Secret store, which the Job credentials makes",
    f"/api/v1/namespaces/{PIPELINES}/secrets/git": "Secret git, which you supply (gitops/README.md has the command)",
    f"/apis/tekton.dev/v1/namespaces/{PIPELINES}/pipelines/retrain": "Pipeline retrain, which Argo CD applies",
    f"/apis/triggers.tekton.dev/v1beta1/namespaces/{PIPELINES}/triggertemplates/retrain": (
        "TriggerTemplate retrain, which Argo CD applies"
    ),
}


def first_run(
    project: Path,
    say: Say,
    *,
    dataset: str | None = None,
    baseline: Path | None = None,
    patience_s: float = 900,
    pause_s: float = 5,
) -> None:
    """Bring a cluster to its first served model.

    Without a dataset (a source, as for `dataset add`), that in params.yaml; without a baseline (a stock pretrained .pt
    file), only the pinned one. `patience_s` limits the wait for each thing that the cluster creates, not the training.
    ConfigError: cluster.env or the images are incomplete, or something is not pushed. ClusterError: a wait timed out,
    the run failed, or its model was not pinned.
    """
    values = cluster_env.check(project / cluster_env.PATH, complete=True)
    require_built(project)
    require_pushed(project, values)
    for path, description in NEEDED.items():
        missing = partial(_missing, path, description)
        wait_until(missing, say, remedy=OPERATORS, patience_s=patience_s, pause_s=pause_s)
    if dataset is not None:
        from runner.config.compose import compose_before_dataset
        from runner.dataset.add import add_dataset

        with opened(values, "store") as store:
            say(add_dataset(dataset, project=project, store=store, composed=compose_before_dataset(project)))
    if baseline is not None:
        _add_baseline(project, values, baseline, say)
    _train(project, values, say, pause_s=pause_s)
    try:
        if set_up_labels(say, patience_s=patience_s, pause_s=pause_s):
            say(f"annotators work at https://label-studio.{values['APPS_DOMAIN']}, in the project that is set up there")
    except ClusterError as error:  # the CronJob tries again within the hour; the model is served anyway
        say(f"Label Studio's project is not set up yet: {error}")
    commit = fetched(project, values["REPO_URL"], values["DETECTOR_REVISION"])
    for environment in PINS:
        if pin := _pin(project, commit, environment):
            await_served(environment, pin.uri, say, patience_s=patience_s, pause_s=pause_s)
            say(f"{environment} serves {pin.uri}: https://flywheel-{environment}.{values['APPS_DOMAIN']}")


def _missing(path: str, description: str) -> str:
    return "" if kubectl.get(path) else description


def await_served(environment: str, uri: str, say: Say, *, patience_s: float, pause_s: float) -> None:
    """Wait until all pods of an environment serve the manifest at `uri`; ClusterError when that takes too long."""
    namespace = f"flywheel-{environment}"
    remedy = (
        f"look at Argo CD's Application serving-{environment} and at the pods "
        f"(kubectl -n {namespace} get pods; kubectl -n {namespace} logs deployment/{MODEL})"
    )
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{MODEL}"

    def missing() -> str:
        deployment = kubectl.get(path)
        if deployment is None:
            return f"Deployment {MODEL} in {namespace}, which Argo CD applies"
        if (deployment["metadata"].get("annotations") or {}).get("flywheel/model") != uri:
            return f"{uri} in {namespace}, which Argo CD reads from Git within minutes"
        # The conditions of `kubectl rollout status`: generation observed, every pod updated, all ready.
        wanted, status = int(deployment["spec"].get("replicas", 1)), deployment.get("status") or {}
        is_seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        counts = [status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")]
        if is_seen and counts == [wanted] * 3:
            return ""
        return f"the pods of {namespace}: {counts[2] if is_seen else 0} of {wanted} serve {uri}"

    wait_until(missing, say, remedy=remedy, patience_s=patience_s, pause_s=pause_s)


def _add_baseline(project: Path, values: dict[str, str], file: Path, say: Say) -> None:
    from runner.release.contents import releasing
    from runner.release.promote import BASELINE, promote
    from runner.release.publish import publish

    with releasing(project, file) as release, opened(values, "store-publisher") as store:
        published = publish(store, release)
        say(published.as_text())
        say(promote(project, store, BASELINE, published.version, force=False, allow_local=False))


def _train(project: Path, values: dict[str, str], say: Say, *, pause_s: float) -> None:
    """Train the current files once they are on the branch, and check that dev is pinned to the model."""
    url, branch = values["REPO_URL"], values["DETECTOR_REVISION"]
    commit = fetched(project, url, branch)
    if changed := changed_since(project, commit, [*sources(project), str(PINS["baseline"])]):
        raise ConfigError(
            f"{', '.join(changed)} differ{'' if changed[1:] else 's'} from {branch} of {url}, which the cluster "
            "trains and serves; commit and push (a review may be asked for), then run this again:\n"
            f'  git add {" ".join(changed)} && git commit -m "The first day" && git push origin HEAD:{branch}'
        )
    if pin := _trained(project, commit):
        if _is_stored(values, pin):
            say(f"dev is pinned to a model of {commit[:12]} already")
            return
        say(f"dev is pinned to {pin.uri}, which the store of this cluster lacks: training anew")
    name = train(project, commit, say, pause_s=pause_s)
    pin = _trained(project, fetched(project, url, branch))
    if pin is None or not _is_stored(values, pin):
        with opened(values, "store") as store:
            line = summary_line(name, commit, store)
        summary = f"-l tekton.dev/pipelineRun={name},tekton.dev/pipelineTask=summary --all-containers --tail=-1"
        raise ClusterError(
            f"PipelineRun {name} succeeded, but {branch} does not pin dev to its model: {line}; "
            f"kubectl -n {PIPELINES} logs {summary} has the summary"
        )


def _trained(project: Path, commit: str) -> Pin | None:
    """Return dev's pin if its model was trained with the same inputs as a commit, else None."""
    pin = _pin(project, commit, "dev")
    return pin if pin is not None and same_inputs(project, pin.commit, commit) else None


def _is_stored(values: dict[str, str], pin: Pin) -> bool:
    with opened(values, "store") as store:
        key = pin.uri.removeprefix(f"{store.uri}/")
        return key != pin.uri and store.exists(key)


def _pin(project: Path, commit: str, environment: str) -> Pin | None:
    """Return an environment's pin at a commit; None when there is none."""
    try:
        text = git(project, "show", f"{commit}:{PINS[environment].as_posix()}")
    except GitError:  # the commit has no such file
        return None
    return parse_pin(text, PINS[environment])
