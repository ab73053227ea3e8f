"""Command line of labels, captures and flywheel; their modules are imported when one is called."""

import argparse
from pathlib import Path

from runner.dataset.cli import FRAMES
from runner.errors import NotSetUpError

LABELS = {
    "setup": "create the project in Label Studio, or update it to match params.yaml",
    "import": "create a task for each picture that has none; a dataset's boxes become finished annotations",
    "pull": "add the current dataset with all finished annotations as the next version of the dataset",
    "propose": "open the pull request that `labels pull --proposal` wrote to a file",
    "suspects": "list and draw labels that the trained model contradicts; needs no Label Studio without --review",
}


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `labels`, `captures` and `flywheel` to the commands of `python -m runner`."""
    labels = commands.add_parser("labels", help="`labels setup|import|pull|propose|suspects`: pictures and labels")
    actions = labels.add_subparsers(dest="action", required=True)
    parsers = {name: actions.add_parser(name, help=text) for name, text in LABELS.items()}
    parsers["import"].add_argument("source", help="a folder or zip of pictures or of a dataset, or s3://bucket/prefix")
    parsers["import"].add_argument(
        "--predict", action="store_true", help="add the deployed model's boxes to pictures without annotations"
    )
    parsers["import"].add_argument(
        "--exif-boxes", choices=FRAMES, default="seen", help="as for `dataset add`, for the boxes of a dataset"
    )
    parsers["pull"].add_argument(
        "--remove", action="store_true", help="leave out the dataset's pictures without a finished annotation"
    )
    parsers["pull"].add_argument(
        "--pull-request", action="store_true", help="open a pull request; params.yaml here stays as it is"
    )
    parsers["pull"].add_argument("--proposal", type=Path, metavar="FILE", help="write the pull request to a file")
    parsers["propose"].add_argument(
        "file", type=Path, help="file of `labels pull --proposal`; if it does not exist, nothing is done"
    )
    parsers["suspects"].add_argument(
        "--parts",
        nargs="+",
        choices=("val", "test"),
        default=["val", "test"],
        help="parts whose labels are judged (default: val test)",
    )
    parsers["suspects"].add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="N",
        help="judge train too, by N trainings on the other folds, such as 3",
    )
    parsers["suspects"].add_argument(
        "--review",
        type=int,
        default=0,
        metavar="N",
        help="make Label Studio tasks of the N most suspicious pictures",
    )
    captures = commands.add_parser(
        "captures", help="`captures push`: create Label Studio tasks from pictures that the model server kept"
    )
    text = "create a task for each capture and each report, the most useful first; each once"
    push = captures.add_subparsers(dest="action", required=True).add_parser("push", help=text)
    for parser in (parsers["pull"], push):
        parser.add_argument(
            "--if-set-up", action="store_true", help="exit 0 with a note if `labels setup` never ran; for CronJobs"
        )
    text = "report captured, annotated and added pictures, and the metrics, for each version of the dataset"
    flywheel = commands.add_parser("flywheel", help=text)
    flywheel.add_argument("--markdown", action="store_true", help="print Markdown")
    flywheel.add_argument(
        "--rescore", action="store_true", help="measure each round's model on the present test part too, with intervals"
    )
    flywheel.add_argument(
        "--agreement", action="store_true", help="compare what several people drew of one picture, from Label Studio"
    )
    for parser in (push, flywheel):
        parser.add_argument(
            "--source",
            help="folder or s3://bucket/prefix of the captures: CAPTURE_URI of the server (default: the store)",
        )
    for parser in (labels, captures, flywheel):
        parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Run one of the commands; return its exit status."""
    try:
        print(_run(given, Path.cwd()))
    except NotSetUpError as error:
        if not getattr(given, "if_set_up", False):
            raise
        print(f"nothing to do yet: {error}")
    return 0


def _run(given: argparse.Namespace, project: Path) -> str:
    match given.command, getattr(given, "action", None):
        case "labels", "setup":
            from runner.label_studio.setup import set_up

            return set_up(project)
        case "labels", "import":
            from runner.label_studio.import_pictures import import_pictures

            return import_pictures(given.source, project=project, predict=given.predict, frame=given.exif_boxes)
        case "labels", "suspects":
            from runner.suspects.find_suspects import find_suspects
            from runner.suspects.suspect_files import write_suspects

            if given.review:  # before hours of trainings
                from runner.label_studio.server import connected

                with connected():
                    pass
            judgement = find_suspects(project, parts=given.parts, folds=given.folds)
            text = write_suspects(project, judgement)
            if given.review:
                from runner.label_studio.review import send_for_review

                text += f"\n{send_for_review(project, judgement, given.review)}"
            return text
        case "labels", "propose":
            from runner.label_studio.proposal import propose_labels

            return propose_labels(project, given.file)
        case "labels", _:
            from runner.label_studio.pull import pull

            return pull(project, remove=given.remove, pull_request=given.pull_request, proposal=given.proposal)
        case "captures", _:
            from runner.label_studio.push import push_captures

            return push_captures(project, given.source)
    from runner.label_studio.flywheel import report

    return report(project, markdown=given.markdown, source=given.source, rescored=given.rescore, agreed=given.agreement)
