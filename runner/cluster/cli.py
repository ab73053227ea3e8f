"""The commands that know a cluster; what they do is imported when one is called."""

from __future__ import annotations

import argparse
from pathlib import Path

NAMES = ("discover", "bootstrap", "first-run", "images")


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to `python -m runner`."""
    discover = commands.add_parser("discover", help="find out the cluster's facts for gitops/cluster/cluster.env")
    discover.add_argument("--write", action="store_true", help="merge them into the file instead of only showing them")
    bring = commands.add_parser("bootstrap", help="bring Argo CD and its root Application to the cluster")
    bring.add_argument("--platform", required=True, choices=["openshift", "kubernetes"])
    first = commands.add_parser("first-run", help="the first day of a cluster, until dev serves a model")
    first.add_argument("--dataset", metavar="X", help="as `dataset add` takes it (default: what params.yaml names)")
    first.add_argument("--baseline", type=Path, metavar="FILE.pt", help="a stock pretrained model to compare with")
    images = commands.add_parser("images", help="digests of images built in the cluster, for gitops/images/")
    images.add_argument("--write", action="store_true", help="put them into the file instead of only showing them")


def run(given: argparse.Namespace) -> int:
    """Run one of the commands; return its exit status."""
    project = Path.cwd()
    if given.command == "discover":
        from runner.cluster.discover import discover

        print(discover(project, write=given.write))
    elif given.command == "bootstrap":
        from runner.cluster.bootstrap import bootstrap

        bootstrap(project, given.platform, _say)
    elif given.command == "first-run":
        from runner.cluster.first_run import first_run

        first_run(project, _say, dataset=given.dataset, baseline=given.baseline and given.baseline.expanduser())
    else:
        from runner.cluster.images import update

        print(update(project, write=given.write))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
