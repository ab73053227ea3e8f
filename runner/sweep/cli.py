"""Command line of sweeps; their modules are imported when one is called."""

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import ConfigError

if TYPE_CHECKING:
    from runner.sweep.trials import Sweep


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `sweep` to `python -m runner`."""
    sweep = commands.add_parser("sweep", help="try several values, in the cluster or here, and compare them on val")
    what = sweep.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "values",
        nargs="*",
        default=[],
        metavar="KEY=VALUE,VALUE",
        help="values of a key, in Hydra's syntax, such as train.lr0=0.001,0.01",
    )
    what.add_argument("--go-on", action="store_true", help="start pending trials, as many as GPUs are free")
    sweep.add_argument(
        "--search", type=int, default=0, metavar="N", help="draw N trials with Optuna, instead of a grid"
    )
    sweep.add_argument("--here", action="store_true", help="run the trials on this machine, as DVC's experiments")
    sweep.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> None:
    from runner.cluster.start import check_values
    from runner.forge.git import git, head_of
    from runner.sweep.space import corners, parse_axes
    from runner.sweep.trials import MOST, Sweep

    if given.go_on:
        from runner.cluster.api import Cluster
        from runner.sweep.queue import start_next

        print(f"trials started: {', '.join(start_next(Cluster())) or 'none'}")
        return
    project, words = Path.cwd(), [word for each in given.values for word in each.split()]
    axes, params = parse_axes(words)
    if not 0 <= given.search <= MOST:
        raise ConfigError(f"--search: found {given.search}, expected 1 to {MOST} trials")
    for values in corners(axes):
        check_values(project, values)
    if given.here:
        head, changes = git(project, "rev-parse", "HEAD"), git(project, "diff", "HEAD")  # of which both are tried
        revision = head + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else "")
        sweep = Sweep(words=words, search=given.search, revision=revision)
    else:
        from runner.cluster.start import followed_branch

        sweep = Sweep(words=words, search=given.search, revision=head_of(*followed_branch()), params=params)
    if sweep.size > MOST:
        raise ConfigError(
            f"{' '.join(words)}: {sweep.size} combinations, at most {MOST}; try fewer values, or SEARCH=50"
        )
    (_here if given.here else _in_cluster)(project, sweep)


def _here(project: Path, sweep: "Sweep") -> None:
    from runner.cluster.waiting import say
    from runner.sweep.here import run_here
    from runner.sweep.trials import best, summary_of
    from runner.workspace import work_folder, write_text

    trials = run_here(project, sweep, say)
    file = work_folder(project) / "sweeps" / f"{sweep.name}.md"
    write_text(file, summary_of(sweep, trials, markdown=True))
    print(summary_of(sweep, trials))
    if found := best(trials):
        print(f"The table is in {file}.")
        print(
            f"`dvc exp apply {sweep.trial_name(found.number)}; dvc repro` takes the best trial; in between, DVC misses"
        )
        print("artifacts/evaluation: no trial meets test.")


def _in_cluster(project: Path, sweep: "Sweep") -> None:
    from runner.cluster.api import PIPELINES, Cluster
    from runner.sweep.queue import LABEL, add_missing, start_next, unfinished

    cluster = Cluster()
    going = unfinished(cluster, sweep)
    made, started = add_missing(cluster, going), start_next(cluster)
    told = f"{going.size} trials, {len(made)} of them new; started: {', '.join(started) or 'none'}"
    print(f"{going.name} of {going.revision[:12]}: {told}")
    print(f"`kubectl -n {PIPELINES} get pipelineruns -l {LABEL}={going.name}` shows them, the same command goes on.")
    print(f"The last one writes runs/sweeps/{going.name}/table.md to the store, and opens a pull request of the best.")
