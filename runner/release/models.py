"""List of the store's model versions, with their figures and the environments that run them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.errors import ObjectError
from runner.release.pin import environments, read_pin
from runner.release.verdict import OUTCOMES
from runner.store import Store
from runner.store.published import latest, model_names, numbers, read_version
from runner.store.signatures import is_signed, signatures_of
from runner.tables import Row, Table, figure
from serving.storage.signature import Signers

Entry = dict[str, Any]


def list_models(project: Path, store: Store, model: str | None = None) -> list[Entry]:
    """Return an entry for each version of a model, or of all, the newest of each first.

    An entry holds model, version, map50 (0 to 1), passed (null: not judged), latest, commit, created, signed
    (whether a signer's signature is valid), environments, and `problem` where the manifest is damaged; then these are
    null. ObjectError if the store has versions, but none of this model.
    """
    pins = {name: pin.sha256 for name in environments(project) if (pin := read_pin(project, name))}
    signers = signatures_of(project).signers
    names = model_names(store)
    if model and names and model not in names:
        raise ObjectError(f"{store.uri}: no version of {model}; it has versions of {', '.join(names)}")
    return [entry for name in names if model in (None, name) for entry in _entries(store, name, pins, signers)]


def _entries(store: Store, model: str, pins: dict[str, str], signers: Signers) -> Iterator[Entry]:
    newest = latest(store, model)
    for number in reversed(numbers(store, model)):
        entry: Entry = {"model": model, "version": number, "latest": number == newest}
        entry |= dict.fromkeys(("map50", "passed", "commit", "created", "signed")) | {
            "environments": [],
            "problem": None,
        }
        try:
            version = read_version(store, model, number)
        except ObjectError as error:
            entry["problem"] = str(error)
        else:
            entry |= {"map50": version.map50, "passed": version.passed}
            entry |= {"commit": version.manifest.commit, "created": version.manifest.created}
            entry["signed"] = is_signed(signers, store, version)
            entry["environments"] = [name for name, sha256 in pins.items() if sha256 == version.sha256]
        yield entry


def models_text(entries: list[Entry], markdown: bool = False) -> str:
    """Return the entries as a table."""
    if not entries:
        return "no model was published yet; `python -m runner publish` does it"
    rows: list[Row] = [("model", "version", "mAP50", "the gate", "commit", "published", "signed", "runs in")]
    for entry in entries:
        verdict = "damaged" if entry["problem"] else OUTCOMES[entry["passed"]]
        verdict += ", latest" if entry["latest"] and not entry["problem"] else ""
        commit, created = (entry["commit"] or "-")[:12], entry["created"] or "-"
        row = (entry["model"], str(entry["version"]), figure(entry["map50"]), verdict, commit, created)
        rows.append((*row, "yes" if entry["signed"] else "no", ", ".join(entry["environments"]) or "-"))
    problems = [entry["problem"] for entry in entries if entry["problem"]]
    return "\n\n".join([Table("", rows).as_text(markdown=markdown), *problems])
