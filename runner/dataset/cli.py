"""`python -m runner dataset …` and `weights …`; the code of an action is imported when it runs."""

import argparse
from pathlib import Path

FRAMES = ("seen", "stored")


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to `python -m runner`."""
    dataset = commands.add_parser(
        "dataset", help="`dataset add|diff|export|migrate`: versions of datasets in the store"
    )
    actions = dataset.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="check and store a dataset, and set it in params.yaml")
    add.add_argument("source", help="a zip, tar, folder or s3://bucket/prefix/: YOLO in any layout, COCO or Pascal VOC")
    add.add_argument("--name", help="folder of its versions in the store (default: from the file's name)")
    frame = "boxes of pictures that EXIF turns: of the picture as viewers show it (default), or as the file has it"
    add.add_argument("--exif-boxes", choices=FRAMES, default="seen", help=frame)
    diff = actions.add_parser("diff", help="print the counts of two versions, and the changed pictures")
    diff.add_argument("before", metavar="A", help="12 digits of a version, or store:datasets/<name>/<sha12>.jsonl")
    diff.add_argument("after", metavar="B", help="the other version, likewise")
    diff.add_argument("--sheet", type=Path, metavar="FILE", help="draw the first changed pictures into a .jpg or .png")
    export = actions.add_parser("export", help="write the version in params.yaml into a zip")
    export.add_argument("out", type=Path, metavar="OUT.zip", help="file to write")
    export.add_argument("--layout", choices=("workshop", "ultralytics"), default="workshop", help="default: workshop")
    migrate = actions.add_parser("migrate", help="make an indexed version of the zip that params.yaml names")
    migrate.add_argument("--exif-boxes", choices=FRAMES, help=f"{frame.replace(' (default)', '')}; asked for if needed")
    weights = commands.add_parser("weights", help="`weights add FILE.pt`: put pretrained weights into the store")
    add = weights.add_subparsers(dest="action", required=True).add_parser(
        "add", help="put a file of pretrained weights into the store"
    )
    add.add_argument("file", type=Path, help="such as yolo11n.pt")
    for parser in (dataset, weights):
        parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Run an action; return its exit status."""
    print(_run(given, Path.cwd()))
    return 0


def _run(given: argparse.Namespace, project: Path) -> str:
    match given.command, given.action:
        case "dataset", "add":
            from runner.config.compose import compose_before_dataset
            from runner.dataset.add import add_dataset

            composed = compose_before_dataset(project)
            return add_dataset(
                given.source, project=project, name=given.name, frame=given.exif_boxes, composed=composed
            )
        case "dataset", "diff":
            from runner.dataset.diff import diff_versions

            return diff_versions(project, given.before, given.after, given.sheet)
        case "dataset", "export":
            from runner.dataset.export_zip import export_dataset

            return export_dataset(project, given.out, given.layout)
        case "dataset", _:
            from runner.dataset.add import migrate_dataset

            return migrate_dataset(project, given.exif_boxes)
    from runner.dataset.weights import add_weights

    return add_weights(given.file, project=project)
