"""`python -m runner NAME`: the stages that DVC runs, and the commands that people and the cluster run."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from pathlib import Path

from runner.errors import RunnerError
from runner.label_studio.commands import add_parsers, run_captures, run_labels
from runner.retrain import cli as retrain

# Nothing heavy is imported before a command is chosen, so that --help answers at once.
STAGES = {
    "compose": "lay params.yaml over the presets of conf/, one checked file per stage",
    "fetch": "draw the sample, or unpack the dataset's version from the store",
    "prepare": "check and convert pictures and labels, report what was left out",
    "split": "deal pictures to train, val and test",
    "train": "train the detector, continuing after a kill",
    "export": "write model.onnx and compare it with the weights",
    "evaluate": "measure model.onnx through the server's own detector",
}


NO = 3  # exit status of `gate --exit-code` when the answer is no


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status: 0, or 1 after an error that is the user's to mend."""
    given = _parser().parse_args(arguments)
    try:
        return _run(given)
    except RunnerError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("runner", "serving"):
            raise  # a bug, not a missing package
        return _fail(f"{given.command} needs the package {error.name}, which is not installed; run `make setup`")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        where = error.filename or f"writing below {Path.cwd()}"  # Python knows no name when a write fails
        return _fail(f"{where}: {error.strerror}; free some space or change the rights, then run again")
    except KeyboardInterrupt:
        return 130


def _fail(message: str) -> int:
    if file := os.environ.get("RUNNER_ERROR_FILE"):  # a Task's result, for the report
        Path(file).write_text(message[:1000], encoding="utf-8")
    print(f"error: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runner", description="Flywheel's stages and commands.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="NAME")
    for name, text in STAGES.items():
        commands.add_parser(name, help=f"stage: {text}", description=text)
    plan = commands.add_parser("plan", help="which stages would run, and because of which keys")
    plan.add_argument("--json", action="store_true", help="for programs")
    plan.add_argument("--answer", type=Path, metavar="FILE", help="write train, gate-only or nothing into a file")
    plan.add_argument("--image", action="store_true", help="refuse when other packages are installed than are pinned")
    plan.add_argument("--remote", action="store_true", help="look into the store's run cache too")
    summary = commands.add_parser("summary", help="what went in, what came out, how long each stage took")
    summary.add_argument("--markdown", action="store_true", help="as Markdown")
    gate = commands.add_parser("gate", help="judge the model, also beside the one that dev runs")
    gate.add_argument("--alone", action="store_true", help="judge it by itself, without the deployed model")
    gate.add_argument("--exit-code", action="store_true", help="exit with 3 when the answer is no")
    gate.add_argument("--markdown", action="store_true", help="as Markdown")
    publish = commands.add_parser("publish", help="bring the model that the gate judged into the store, as a version")
    publish.add_argument(
        "--baseline", type=Path, metavar="FILE.pt", help="a stock pretrained model, under its own name"
    )
    shape = publish.add_mutually_exclusive_group()
    shape.add_argument("--uri", action="store_true", help="print the manifest's URI alone, as MODEL_URI wants it")
    shape.add_argument("--json", action="store_true", help="for programs")
    publish.add_argument("--results", type=Path, metavar="FOLDER", help="write model, version and pin-mode into files")
    promote = commands.add_parser("promote", help="pin a version to an environment")
    promote.add_argument("--to", required=True, metavar="ENV", help="dev | staging | prod | baseline")
    promote.add_argument("--version", type=int, metavar="N", help="default: the newest that passed the gate")
    promote.add_argument("--model", metavar="NAME", help="default: model.name of params.yaml")
    promote.add_argument("--force", action="store_true", help="also when the gate did not let it pass")
    promote.add_argument("--allow-local", action="store_true", help="also from a store that is a folder")
    promote.add_argument("--diff", action="store_true", help="print old and new side by side, write nothing")
    promote.add_argument("--markdown", action="store_true", help="--diff as Markdown")
    models = commands.add_parser("models", help="the versions in the store, and which environment runs which")
    models.add_argument("--model", metavar="NAME", help="only of this one")
    shape = models.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="for programs")
    shape.add_argument("--markdown", action="store_true", help="as Markdown")
    commands.add_parser("doctor", help="explain a broken set-up, line by line with the remedy")
    dataset = commands.add_parser("dataset", help="`dataset add X`: put a dataset's version into the store")
    add = dataset.add_subparsers(dest="action", required=True).add_parser("add", help="check, pack and store a dataset")
    add.add_argument("source", help="a zip, a folder or s3://bucket/prefix/, in the workshop's or Ultralytics' layout")
    add.add_argument("--name", help="folder of its versions in the store (default: from the file's name)")
    weights = commands.add_parser("weights", help="`weights add FILE.pt`: put pretrained weights into the store")
    add = weights.add_subparsers(dest="action", required=True).add_parser("add", help="store a .pt file")
    add.add_argument("file", type=Path, help="such as yolo11n.pt")
    store = commands.add_parser("store", help="`store init|use|verify|policy`: the store that STORE_URI names")
    actions = store.add_subparsers(dest="action", required=True)
    init = actions.add_parser("init", help="make bucket, expiry and users, find out what the endpoint can do")
    init.add_argument("--captures-days", type=int, default=90, metavar="N", help="captures expire (default: 90)")
    init.add_argument("--versions-days", type=int, default=30, metavar="N", help="replaced ones expire (default: 30)")
    actions.add_parser("use", help="let DVC's remote be in the store")
    actions.add_parser("verify", help="hash everything whose digest is known")
    policy = actions.add_parser("policy", help="print what a user may do, for endpoints that are not MinIO")
    policy.add_argument("user", help="runner | server-dev | … | labels")
    discover = commands.add_parser("discover", help="find out the cluster's facts for gitops/cluster/cluster.env")
    discover.add_argument("--write", action="store_true", help="merge them into the file instead of only showing them")
    bring = commands.add_parser("bootstrap", help="bring Argo CD and its root Application to the cluster")
    bring.add_argument("--platform", required=True, choices=["openshift", "kubernetes"])
    commands.add_parser("first-run", help="the first training on a new cluster, until dev serves its model")
    images = commands.add_parser("images", help="digests of images built in the cluster, for gitops/images/")
    images.add_argument("--write", action="store_true", help="put them into the file instead of only showing them")
    retrain.add_parsers(commands)
    add_parsers(commands)
    return parser


def _run(given: argparse.Namespace) -> int:
    if given.command in STAGES:
        from runner.stages import run_stage

        run_stage(given.command)
    elif given.command == "plan":
        from runner.plan import make_plan

        if given.image:
            from runner.doctor import check_image

            check_image(Path.cwd())
        plan = make_plan(Path.cwd(), remote=given.remote)
        print(plan.as_json() if given.json else plan.as_text())
        if given.answer:
            given.answer.write_text(plan.answer)
    elif given.command == "summary":
        from runner.summary import summarize

        print(summarize(Path.cwd(), markdown=given.markdown))
    elif given.command == "gate":
        from runner.gate import gate

        verdict = gate(Path.cwd(), alone=given.alone)
        print(verdict.as_text(markdown=given.markdown))
        return 0 if verdict.passed or not given.exit_code else NO
    elif given.command == "publish":
        print(_publish(given))
    elif given.command == "promote":
        print(_promote(given))
    elif given.command == "models":
        print(_models(given))
    elif given.command == "doctor":
        from runner.doctor import examine

        text, well = examine(Path.cwd())
        print(text)
        return 0 if well else 1
    elif given.command == "dataset":
        from runner.dataset.versions import add_dataset

        print(add_dataset(given.source, project=Path.cwd(), name=given.name))
    elif given.command == "weights":
        from runner.weights import add_weights

        print(add_weights(given.file, project=Path.cwd()))
    elif given.command == "store":
        return _store(given)
    elif given.command == "discover":
        from runner.discover import discover

        print(discover(Path.cwd(), write=given.write))
    elif given.command == "bootstrap":
        from runner.bootstrap import bootstrap

        bootstrap(Path.cwd(), given.platform, _say)
    elif given.command == "first-run":
        from runner.first_run import first_run

        first_run(Path.cwd(), _say)
    elif given.command == "images":
        from runner.images import update

        print(update(Path.cwd(), write=given.write))
    elif given.command in retrain.NAMES:
        retrain.run(given)
    elif given.command == "labels":
        print(run_labels(given))
    elif given.command == "captures":
        print(run_captures(given))
    elif given.command == "flywheel":
        from runner.flywheel import report

        print(report(Path.cwd(), markdown=given.markdown))
    return 0


def _store(given: argparse.Namespace) -> int:
    from runner.store import open_store

    if given.action == "init":
        from runner.store.init import init_store

        days = {"captures_days": given.captures_days, "versions_days": given.versions_days}
        print(init_store(Path.cwd(), **days))
    elif given.action == "use":
        from runner.store.use import use_store

        print(use_store(Path.cwd()))
    elif given.action == "policy":
        from runner.store.policies import policy_text

        print(policy_text(given.user, open_store(Path.cwd()).uri))
    else:
        from runner.store.verify import verify_store

        text, well = verify_store(open_store(Path.cwd()))
        print(text)
        return 0 if well else 1
    return 0


def _publish(given: argparse.Namespace) -> str:
    from runner.publish import publish
    from runner.release import releasing
    from runner.store import open_store

    with releasing(Path.cwd(), given.baseline) as release:
        published = publish(open_store(Path.cwd()), release)
    if given.results:
        from runner.compose import compose

        version, mode = published.version, compose(Path.cwd())[0].pin.mode
        for name, value in (("model", version.model), ("version", version.number), ("pin-mode", mode)):
            (given.results / name).write_text(str(value), encoding="utf-8")
    return published.uri if given.uri else published.as_json() if given.json else published.as_text()


def _promote(given: argparse.Namespace) -> str:
    from runner.promote import choose, difference, promote
    from runner.store import open_store

    project, store = Path.cwd(), open_store(Path.cwd())
    version = choose(project, store, given.to, given.model, given.version)
    if given.diff:
        return difference(project, given.to, version, markdown=given.markdown)
    return promote(project, store, given.to, version, force=given.force, allow_local=given.allow_local)


def _models(given: argparse.Namespace) -> str:
    from runner.models import list_models, models_text
    from runner.store import open_store

    entries = list_models(Path.cwd(), open_store(Path.cwd()), given.model)
    return json.dumps(entries, indent=2, ensure_ascii=False) if given.json else models_text(entries, given.markdown)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
