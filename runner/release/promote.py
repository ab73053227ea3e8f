"""Promote a version to an environment: check its objects, then write the pin.

Nothing is deployed here. Argo CD reads the pin from Git: commit it to deploy, `git revert` to undo.
"""

import tempfile
from pathlib import Path
from typing import Any

from runner.config.compose import compose
from runner.errors import ObjectError, RunnerError, StageError, StoreError
from runner.release.deployed import pinned_version
from runner.release.disagreements import missing_looks
from runner.release.pin import PROD, Pin, check_environment, pin_file, read_pin, write_pin
from runner.release.verdict import OUTCOMES, failures_text
from runner.store import Store
from runner.store.published import Version, latest, model_names, numbers, read_version, version_key
from runner.store.signatures import check_signature
from runner.tables import METRICS, Row, Table, measured_figure

BASELINE = "baseline"  # environment of a stock model, which the gate does not judge


def promote(project: Path, store: Store, environment: str, version: Version, *, force: bool, allow_local: bool) -> str:
    """Write an environment's model.env; return the result, to print.

    `force`: also when the gate rejected it or has not judged it, or too few of its disagreements were looked at, with a
    note in the pin; `allow_local`: also when the store is a folder, which no cluster can read. ObjectError: it has no
    valid signature, and SIGNATURES is require.
    """
    name = f"{version.model} {version.number}"
    reason = _objection(version, environment) or _unseen(project, store, version, environment)
    if reason and not force:
        raise StageError(f"{name}: {reason}; --force puts it into {environment} all the same, and the pin will say so")
    uri = store.uri_of(version_key(version.model, version.number))
    if not uri.startswith("s3://") and not allow_local:
        raise StoreError(
            f"{uri}: in a folder of this machine, expected s3:// that the cluster can read: set STORE_URI and publish "
            "there, or use --allow-local to try things out here"
        )
    check_signature(project, store, version)
    with tempfile.TemporaryDirectory(prefix="flywheel-promote-") as scratch:
        for file, sha256 in version.manifest.model_files.items():
            store.fetch(version_key(version.model, version.number, file), Path(scratch, file), sha256)
    map50 = "" if version.map50 is None else f"{version.map50:.3f}"
    note = f"forced: {reason}" if reason else ""
    pin = Pin(uri, version.sha256, str(version.number), version.manifest.commit or "", map50, note)
    if not write_pin(project, environment, pin):
        return f"{environment} is pinned to {name} already: nothing changed"
    forced = f" ({note})" if note else ""
    return (
        f"{pin_file(environment)} now names {name}{f', mAP50 {map50}' if map50 else ''}{forced}; "
        f"commit and push it, and {environment} follows"
    )


def choose(project: Path, store: Store, environment: str, model: str | None, number: int | None) -> Version:
    """Return the requested version, else the newest that passed; for the baseline the newest.

    ObjectError: there is none; ConfigError: there is no such environment. A `model` of None is that of params.yaml.
    """
    check_environment(project, environment)
    model = model or compose(project)[0].model.name
    there = numbers(store, model)
    if number is None:
        number = latest(store, model)
    if number is None and environment == BASELINE and there:
        number = there[-1]
    if number is None:
        others = ", ".join(name for name in model_names(store) if name != model)
        another = f", or choose another model with --model: {others}" if others else ""
        if not there:
            todo = f"`python -m runner gate`, then `python -m runner publish` makes one{another}"
            raise ObjectError(f"{store.uri}: no version of {model} to promote; {todo}")
        rejected = f"{', '.join(map(str, there))} did not pass the gate"
        todo = f"name one with --version and --force{another}"
        raise ObjectError(f"{store.uri}: no version of {model} to promote: {rejected}; {todo}")
    return read_version(store, model, number)


def difference(project: Path, environment: str, version: Version, *, markdown: bool) -> str:
    """Return the current and the new model of an environment, side by side."""
    now, notes = None, []
    if pin := read_pin(project, environment):
        try:
            now = pinned_version(project, pin)[1]
        except RunnerError as error:
            notes.append(f"{environment} is pinned to {pin.uri}, which cannot be read: {error}")
    else:
        notes.append(f"{environment} has no model yet")
    old, new = _facts(now) if now else {}, _facts(version)
    about: list[Row] = [("", "now", "then"), *((key, old.get(key, "-"), new[key]) for key in new)]
    tables = [Table(f"What {environment} runs", about)]
    if metrics := side_by_side(now, version):
        tables.append(Table("Quality on test, now → then", [("class", *METRICS.values()), *metrics]))
    if now and _measured_on(now) != _measured_on(version):
        notes.append("the test parts differ, so the figures are not of the same pictures")
    lines = [f"- {note}" if markdown else note for note in notes]
    return "\n\n".join([*(table.as_text(markdown=markdown) for table in tables), *lines])


def side_by_side(now: Version | None, then: Version) -> list[Row]:
    """Return metrics, now → then: a row for all classes together, one for each class; `-` means no figure."""
    old, new = _figures(now), _figures(then)

    def row(before: dict[str, Any], after: dict[str, Any]) -> Row:
        return tuple(f"{measured_figure(before, key)} → {measured_figure(after, key)}" for key in METRICS)

    return [(name, *row(old.get(name, {}), new.get(name, {}))) for name in new | old]


def _objection(version: Version, environment: str) -> str:
    """Return why the gate objects to a version in an environment; empty when it does not."""
    if version.passed is None:
        return "" if environment == BASELINE else "the gate has not judged it"
    return "" if version.passed else f"the gate did not let it pass: {failures_text(version.manifest.verdict)}"


def _unseen(project: Path, store: Store, version: Version, environment: str) -> str:
    """Return why too few disagreements of the version with the served model were looked at; empty: enough were."""
    wanted = compose(project)[0].gate.disagreements if environment == PROD else 0
    return missing_looks(store, f"{version.model} {version.number}", wanted) if wanted else ""


def _facts(version: Version) -> dict[str, str]:
    manifest = version.manifest
    return {
        "model": f"{version.model} {version.number}",
        "the gate": OUTCOMES[version.passed],
        "commit": manifest.commit or "-",
        "dataset": str(manifest.dataset.get("url") or "-"),
        "published": manifest.created or "-",
    }


def _figures(version: Version | None) -> dict[str, dict[str, Any]]:
    metrics = version.manifest.metrics if version else {}
    return {"all": metrics, **metrics.get("classes", {})} if metrics else {}


def _measured_on(version: Version) -> object:
    dataset = version.manifest.dataset
    return dataset.get("url"), dataset.get("sha256"), version.manifest.params.get("split")
