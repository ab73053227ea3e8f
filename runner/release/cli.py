"""Command line of gate, publish, promote and models; their modules are imported when one is called."""

import argparse
import json
from pathlib import Path

EXIT_REJECTED = 3  # exit status of `gate --exit-code` when the model does not pass


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to `python -m runner`."""
    gate = commands.add_parser("gate", help="judge the model, by itself and beside the one that dev runs")
    gate.add_argument("--alone", action="store_true", help="judge it by itself only")
    gate.add_argument("--exit-code", action="store_true", help="exit with 3 when the model does not pass")
    gate.add_argument("--markdown", action="store_true", help="print Markdown")
    publish = commands.add_parser("publish", help="put the model that the gate judged into the store, as a version")
    publish.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="publish this stock model instead, under its own name: a .pt of Ultralytics or an .onnx",
    )
    publish.add_argument(
        "--declaration",
        type=Path,
        metavar="FILE.yaml",
        help="preprocessing and output of the --baseline's .onnx of another family, as docs/releases.md describes",
    )
    shape = publish.add_mutually_exclusive_group()
    shape.add_argument("--uri", action="store_true", help="print the manifest's URI alone, as MODEL_URI wants it")
    shape.add_argument("--json", action="store_true", help="print JSON")
    promote = commands.add_parser("promote", help="pin a version to an environment")
    promote.add_argument("--to", required=True, metavar="ENV", help="dev | staging | prod | baseline")
    promote.add_argument("--version", type=int, metavar="N", help="default: the newest that passed the gate")
    promote.add_argument("--model", metavar="NAME", help="default: model.name of params.yaml")
    promote.add_argument("--force", action="store_true", help="pin it even though the gate did not let it pass")
    promote.add_argument(
        "--allow-local", action="store_true", help="accept a store that is a folder, which no cluster can read"
    )
    promote.add_argument(
        "--diff", action="store_true", help="print the old and the new model side by side, and write nothing"
    )
    promote.add_argument("--markdown", action="store_true", help="print --diff as Markdown")
    models = commands.add_parser("models", help="list the versions in the store, and the environments that run them")
    models.add_argument("--model", metavar="NAME", help="only versions of this model")
    models.add_argument("--shadow", action="store_true", help="count captured disagreements with challengers instead")
    sign = models.add_subparsers(metavar="sign").add_parser("sign", help="sign versions that are in the store")
    sign.add_argument("--model", default=argparse.SUPPRESS, metavar="NAME", help="only versions of this model")
    sign.add_argument("--version", type=int, metavar="N", help="default: all that are not signed")
    shape = models.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument("--markdown", action="store_true", help="print Markdown")
    for parser, run in ((gate, _gate), (publish, _publish), (promote, _promote), (models, _models), (sign, _sign)):
        parser.set_defaults(run=run)


def _gate(given: argparse.Namespace) -> int:
    from runner.release.gate import gate
    from runner.release.verdict import verdict_text

    verdict = gate(Path.cwd(), alone=given.alone)
    print(verdict_text(verdict, markdown=given.markdown))
    return 0 if verdict.passed or not given.exit_code else EXIT_REJECTED


def _publish(given: argparse.Namespace) -> None:
    from runner.errors import StageError
    from runner.release.contents import releasing
    from runner.release.publish import publish
    from runner.store import open_store

    if given.declaration and not given.baseline:
        raise StageError("--declaration describes the file of --baseline, which is missing")
    with releasing(Path.cwd(), given.baseline, given.declaration) as release:
        published = publish(open_store(Path.cwd()), release)
    print(published.uri if given.uri else published.as_json() if given.json else published.as_text())


def _promote(given: argparse.Namespace) -> None:
    from runner.release.promote import choose, difference, promote
    from runner.store import open_store

    project, store = Path.cwd(), open_store(Path.cwd())
    version = choose(project, store, given.to, given.model, given.version)
    if given.diff:
        print(difference(project, given.to, version, markdown=given.markdown))
    else:
        print(promote(project, store, given.to, version, force=given.force, allow_local=given.allow_local))


def _models(given: argparse.Namespace) -> None:
    from runner.release.disagreements import disagreements_text, list_disagreements
    from runner.release.models import list_models, models_text
    from runner.store import open_store

    store = open_store(Path.cwd())
    if given.shadow:
        entries = list_disagreements(store, given.model)
        text = disagreements_text(entries, given.markdown)
    else:
        entries = list_models(Path.cwd(), store, given.model)
        text = models_text(entries, given.markdown)
    print(json.dumps(entries, indent=2, ensure_ascii=False) if given.json else text)


def _sign(given: argparse.Namespace) -> None:
    from runner.errors import ObjectError
    from runner.release.signing import sign_version
    from runner.store import open_store
    from runner.store.published import model_names, numbers, read_version

    project, store = Path.cwd(), open_store(Path.cwd())
    models = [given.model] if given.model else model_names(store)
    versions = [(model, n) for model in models for n in ([given.version] if given.version else numbers(store, model))]
    if not versions:
        raise ObjectError(f"{store.uri}: no version of {given.model or 'any model'} to sign; `models` lists them")
    for model, number in versions:
        print(sign_version(project, store, read_version(store, model, number)), flush=True)
