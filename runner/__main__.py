"""`python -m runner NAME`: stages that DVC runs, and commands for people and the cluster."""

import argparse
import errno
import getpass
import json
import os
import sys
from pathlib import Path

from runner.cluster import cli as cluster
from runner.dataset import cli as dataset
from runner.errors import RunnerError
from runner.label_studio import cli as label_studio
from runner.predict import cli as predict
from runner.release import cli as release
from runner.retrain import cli as retrain
from runner.store import cli as store
from runner.sweep import cli as sweep

# Nothing heavy is imported before a command is chosen, so that --help answers at once.
STAGES = {
    "compose": "compose the presets and params.yaml, validate, write one file per stage",
    "fetch": "get the index and the pictures of the dataset version, or draw the sample",
    "prepare": "check pictures and labels, report the files left out",
    "split": "split the pictures into train, val and test",
    "train": "train the detector; resume after a kill",
    "export": "export model.onnx and compare it with the weights",
    "evaluate": "evaluate model.onnx with the server's detector",
}
COMMANDS = (dataset, release, store, label_studio, predict, cluster, sweep, retrain)  # their modules add them


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status: 0, or 1 after an error that the user can fix."""
    given = _parser().parse_args(arguments)
    _name_user()
    try:
        return int(given.run(given) or 0)
    except RunnerError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("runner", "serving"):
            raise  # a bug, not a missing package
        return _fail(f"{given.command} needs the package {error.name}, which is not installed; run `make setup`")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        where = error.filename or f"writing below {Path.cwd()}"  # an OSError of a write has no file name
        return _fail(f"{where}: {error.strerror}; free some space or change the rights, then run again")
    except KeyboardInterrupt:
        if given.command == "train":
            print("stopped; the next `dvc repro` goes on from the last whole epoch", file=sys.stderr)
        return 130


def _name_user() -> None:
    """Set USER where this uid has no name, as in a container with any uid: DVC and PyTorch stop where there is none."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        os.environ["USER"] = f"uid-{os.getuid()}"


def _fail(message: str) -> int:
    if folder := os.environ.get("RUNNER_RESULTS"):  # of a Task, for the summary
        file = Path(folder, "error")
        if not file.exists():  # else a stage wrote the reason, and this is the Task around it
            file.write_text(message[:1000], encoding="utf-8")
    print(f"error: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runner",
        description="Stages, which `dvc repro` runs, and commands. Begin with `doctor`; NAME --help explains each.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="NAME")
    for name, text in STAGES.items():
        commands.add_parser(name, help=f"stage: {text}")
    commands.choices["evaluate"].add_argument(
        "--as-ultralytics",
        action="store_true",
        help="only print our figures of model.onnx beside those of Ultralytics' own val",
    )
    commands.choices["evaluate"].add_argument(
        "--manifest",
        metavar="URI",
        help="only print the figures of this published version on the test part; `publish` prints the URI",
    )
    commands.choices["evaluate"].add_argument(
        "--val", action="store_true", help="only print figures of model.onnx on val, as JSON; a sweep compares by them"
    )
    plan = commands.add_parser("plan", help="list the stages that `dvc repro` would run, and the keys that cause it")
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.add_argument("--remote", action="store_true", help="look into the store's run cache too")
    summary = commands.add_parser(
        "summary", help="show the dataset, the metrics, and the time of each stage, after `dvc repro`"
    )
    summary.add_argument("--markdown", action="store_true", help="print Markdown")
    commands.add_parser(
        "doctor", help="check the set-up, and the cluster if there is one; name a remedy for each fault"
    )
    for own in commands.choices.values():
        own.set_defaults(run=_run)
    for module in COMMANDS:
        module.add_parsers(commands)
    _describe(parser)
    return parser


def _describe(parser: argparse.ArgumentParser) -> None:
    """Let the --help of every command begin with its line in the list of commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for listed in action._choices_actions:
                action.choices[listed.dest].description = listed.help
                _describe(action.choices[listed.dest])


def _run(given: argparse.Namespace) -> int:
    project = Path.cwd()
    if given.command == "evaluate" and given.as_ultralytics:
        from runner.pipeline.ultralytics_val import beside_ultralytics

        print(beside_ultralytics(project))
    elif given.command == "evaluate" and given.val:
        from runner.pipeline.validation import measure_val

        print(json.dumps(measure_val(project)))
    elif given.command == "evaluate" and given.manifest:
        from runner.release.measured import measure

        print(measure(project, given.manifest))
    elif given.command in STAGES:
        from runner.stages.registry import run_stage

        run_stage(given.command)
    elif given.command == "plan":
        from runner.pipeline.plan import make_plan

        plan = make_plan(project, remote=given.remote)
        print(plan.as_json() if given.json else plan.as_text())
    elif given.command == "summary":
        from runner.pipeline.summary import summarize

        print(summarize(project, markdown=given.markdown))
    else:
        from runner.cluster.checks import check_cluster
        from runner.label_studio.setup import check_label_studio
        from runner.pipeline.doctor import examine

        text, is_well = examine(project, check_cluster, check_label_studio)
        print(text)
        return 0 if is_well else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
