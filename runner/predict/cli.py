"""Command line of predict; its modules are imported when it is called."""

import argparse
from pathlib import Path


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `predict` to the commands of `python -m runner`."""
    text = "detect objects in a picture, a folder or a bucket's prefix; run it again to go on after a kill"
    predict = commands.add_parser("predict", help=text)
    predict.add_argument("source", help="a picture, a folder, or s3://bucket/prefix")
    predict.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="file to write, a row a picture: .parquet | .csv | .jsonl",
    )
    predict.add_argument("--draw", type=Path, metavar="FOLDER", help="folder for a copy of each picture with its boxes")
    predict.add_argument(
        "--model",
        metavar="M",
        help="an environment, whose pin counts, or a manifest.json, latest.json or .onnx, by path or s3://bucket/key "
        "(default: MODEL_URI, else dev)",
    )
    predict.add_argument(
        "--review", type=int, default=0, metavar="N", help="make Label Studio tasks of N doubtful pictures"
    )
    predict.set_defaults(run=_predict)


def _predict(given: argparse.Namespace) -> None:
    from runner.errors import StageError
    from runner.predict.drawn import check_folder, draw_pictures
    from runner.predict.predict import predict

    if not (given.to or given.draw):
        raise StageError("predict writes nothing: expected --to FILE.csv, --draw FOLDER, or both")
    if given.draw:
        check_folder(given.source, given.draw)
    scores = predict(Path.cwd(), given.source, given.to, given.model)
    print(scores.as_text())
    if given.draw:
        print(draw_pictures(scores, given.draw))
    if given.review:
        from runner.predict.doubtful import send_doubtful

        print(send_doubtful(Path.cwd(), scores, given.review))
