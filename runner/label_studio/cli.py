"""Command line of labels, captures and flywheel; their modules are imported when one is called."""

from __future__ import annotations

import argparse
from pathlib import Path

from runner.errors import NotSetUpError

LABELS = {
    "setup": "make the project in Label Studio match params.yaml; change only what differs",
    "import": "make tasks of pictures, or of a dataset with its boxes; each picture once",
    "pull": "make the next version of the dataset of all finished annotations",
}


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `labels`, `captures` and `flywheel` to the commands of `python -m runner`."""
    labels = commands.add_parser("labels", help="`labels setup|import|pull`: Label Studio in and out")
    actions = labels.add_subparsers(dest="action", required=True)
    parsers = {name: actions.add_parser(name, help=text, description=text) for name, text in LABELS.items()}
    parsers["import"].add_argument("source", help="a folder or zip of pictures or of a dataset, or s3://bucket/prefix")
    parsers["import"].add_argument(
        "--predict", action="store_true", help="draw the deployed model's boxes on pictures that nobody labelled"
    )
    parsers["pull"].add_argument(
        "--remove", action="store_true", help="also leave out pictures that were skipped, or whose task was deleted"
    )
    parsers["pull"].add_argument(
        "--pull-request", action="store_true", help="propose it in Git; params.yaml here stays as it is"
    )
    if_set_up = "where nobody has set Label Studio up yet, say so and end well, as a CronJob should"
    parsers["pull"].add_argument("--if-set-up", action="store_true", help=if_set_up)
    captures = commands.add_parser("captures", help="`captures push`: what the server missed becomes tasks")
    text = "make tasks of captures and feedback, the most useful first; each once"
    push = captures.add_subparsers(dest="action", required=True).add_parser("push", help=text, description=text)
    push.add_argument("--source", help="what CAPTURE_URI of the server is (default: the store)")
    push.add_argument("--if-set-up", action="store_true", help=if_set_up)
    flywheel = commands.add_parser("flywheel", help="is the wheel turning? captured, annotated, added, and the metrics")
    flywheel.add_argument("--markdown", action="store_true", help="as Markdown")
    for parser in (labels, captures, flywheel):
        parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Run one of the commands; return its exit status."""
    try:
        _run(given)
    except NotSetUpError as error:
        if not getattr(given, "if_set_up", False):
            raise
        print(f"nothing to do yet: {error}")
    return 0


def _run(given: argparse.Namespace) -> None:
    if given.command == "labels":
        print(_labels(given))
    elif given.command == "captures":
        from runner.label_studio.push import push_captures

        print(push_captures(Path.cwd(), given.source))
    else:
        from runner.label_studio.flywheel import report

        print(report(Path.cwd(), markdown=given.markdown))


def _labels(given: argparse.Namespace) -> str:
    project = Path.cwd()
    if given.action == "setup":
        from runner.label_studio.setup import set_up

        return set_up(project)
    if given.action == "import":
        from runner.label_studio.intake import import_pictures

        return import_pictures(given.source, project=project, predict=given.predict)
    from runner.label_studio.pull import propose_pull, pull

    return (propose_pull if given.pull_request else pull)(project, remove=given.remove)
