"""Command line of the cluster commands; their modules are imported when one is called."""

import argparse
import re
from pathlib import Path

from runner.errors import ConfigError


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to `python -m runner`."""
    discover = commands.add_parser(
        "discover", help="read the values of gitops/cluster/cluster.env from the cluster: domains, storage classes, …"
    )
    discover.add_argument("--write", action="store_true", help="write them into the file (default: show them)")
    bootstrap = commands.add_parser("bootstrap", help="bring Argo CD and its root Application to the cluster")
    bootstrap.add_argument("--platform", required=True, choices=["openshift", "kubernetes"])
    first_run = commands.add_parser(
        "first-run", help="load a dataset, train, and wait until dev of a new cluster serves its first model"
    )
    first_run.add_argument("--dataset", metavar="X", help="as `dataset add` takes it (default: that of params.yaml)")
    first_run.add_argument("--baseline", type=Path, metavar="FILE.pt", help="stock pretrained model to compare with")
    images = commands.add_parser("images", help="show the digests of images built in the cluster, for gitops/images/")
    images.add_argument("--write", action="store_true", help="write them into the file (default: show them)")
    retrain = commands.add_parser(
        "retrain", help="start a training in the cluster, with other values for this run alone"
    )
    retrain.add_argument(
        "values", nargs="*", metavar="NAME=VALUE", help="key of params.yaml, or the workshop's name, and its value"
    )
    retrain.add_argument("--revision", metavar="COMMIT", help="default: the head of the branch that cluster.env names")
    retrain.add_argument("--gpu", choices=("auto", "require", "off"), help="default: that of the TriggerTemplate")
    retrain.add_argument("--gpu-timeout", metavar="TIME", help="how long to wait for a GPU, such as 20m")
    retrain.add_argument("--now", action="store_true", help="start it even while another run is at work")
    retrain.add_argument(
        "--if-idle", action="store_true", help="while another run is at work, do nothing and exit with 0"
    )
    retrain.add_argument("--commit", action="store_true", help="open a pull request with the values instead")
    cron_job = commands.add_parser(
        "run-cron-job", help="run a CronJob of Label Studio once, when none of it is at work"
    )
    cron_job.add_argument("name", choices=("labels-pull", "labels-setup", "captures-push"))
    cron_job.add_argument("--after", type=float, default=0, metavar="SECONDS", help="wait this long first (default: 0)")
    for parser in (discover, bootstrap, first_run, images, retrain, cron_job):
        parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> None:
    from runner.cluster.waiting import say

    project = Path.cwd()
    match given.command:
        case "discover":
            from runner.cluster.discover import discover

            print(discover(project, write=given.write))
        case "bootstrap":
            from runner.cluster.bootstrap import bootstrap

            bootstrap(project, given.platform, say)
        case "first-run":
            from runner.cluster.first_run import first_run

            first_run(project, say, dataset=given.dataset, baseline=given.baseline and given.baseline.expanduser())
        case "images":
            from runner.cluster.container_images import update

            print(update(project, write=given.write))
        case "retrain":
            _retrain(given)
        case "run-cron-job":
            from runner.cluster.api import Cluster
            from runner.cluster.label_jobs import run_soon

            run_soon(Cluster(), given.name, after_s=given.after, say=say)


def _retrain(given: argparse.Namespace) -> None:
    from runner.cluster.api import PIPELINES, Cluster
    from runner.cluster.start import BusyError, check_values, commit_values, followed_branch, start
    from runner.cluster.waiting import seconds
    from runner.config.override import parse_overrides
    from runner.forge.git import head_of

    values, params = parse_overrides(given.values)
    params |= {name.replace("_", "-"): value for name in ("gpu", "gpu_timeout") if (value := getattr(given, name))}
    if given.commit:
        print(commit_values(Path.cwd(), values))
        return
    if values:
        check_values(Path.cwd(), values)
    if "gpu-timeout" in params:
        seconds(params["gpu-timeout"], "gpu-timeout")
    if given.revision and not re.fullmatch("[0-9a-f]{40}", given.revision):
        raise ConfigError(f"--revision: found {given.revision!r}, expected a commit's 40 hexadecimal digits")
    revision = given.revision or head_of(*followed_branch())
    try:
        name = start(Cluster(), revision, values, params, now=given.now)
    except BusyError as error:
        if not given.if_idle:
            raise
        print(f"nothing started: {error}")
        return
    with_values = f" with {' '.join(values)}: published, never pinned" if values else ""
    print(f"{name} trains {revision[:12]}{with_values}; `tkn -n {PIPELINES} pipelinerun logs -f {name}` shows it")
