"""Verdict of the gate: its file, its table, its text."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.config.schema import GateConfig
from runner.errors import StageError
from runner.tables import Row, Table
from serving.storage.manifest import JudgedVariant, Verdict

OUTCOMES = {True: "passed", False: "did not pass", None: "not judged"}  # of `Version.passed`


def criteria_rows(verdict: Verdict) -> list[Row]:
    """Return the criteria as rows of a table, after its head; those of the variant begin with its kind."""
    rows = [(each.criterion, each.said, "yes" if each.passed else "NO") for each in verdict.findings]
    if variant := verdict.variant:
        judged = variant.findings
        rows += [(f"{variant.kind}: {each.criterion}", each.said, "yes" if each.passed else "NO") for each in judged]
    return [("criterion", "found", "verdict"), *rows]


def variant_line(variant: JudgedVariant) -> str:
    """Return in words what follows from the verdict on a variant."""
    if variant.passed:
        return f"{variant.kind} passes: servers take it where their hardware suits it"
    failed = ", ".join(each.criterion for each in variant.findings if not each.passed)
    return f"{variant.kind} is refused ({failed}): the version has the float model alone"


def verdict_text(verdict: Verdict, *, markdown: bool = False) -> str:
    """Return a table of the criteria, the parts not judged, and the outcome."""
    compared = [f"{each.model} {each.version}" for each in (verdict.deployed, verdict.champion) if each]
    against = f"against {' and the champion '.join(compared)}" if compared else "alone"
    title = f"The gate: this model {against}, on {verdict.pictures} test pictures"
    failed = ", ".join(each.criterion for each in verdict.failed)
    closing = [f"left out: {line}" for line in verdict.left_out]
    if verdict.variant:
        closing.append(variant_line(verdict.variant))
    closing.append(f"does not pass: {failed}" if failed else "passes")
    lines = [f"- {line}" if markdown else line for line in closing]
    return "\n".join([Table(title, criteria_rows(verdict)).as_text(markdown=markdown), "", *lines])


def failures_text(verdict: Verdict | None) -> str:
    """Return in words the criteria that a model did not pass, and what was found; empty for none."""
    return "; ".join(f"{each.criterion} {each.said}" for each in verdict.failed) if verdict else ""


def criteria_of(rules: GateConfig) -> dict[str, Any]:
    """Return the criteria of a verdict: the section `gate` without `deploy` and `disagreements`, which come later."""
    return rules.model_dump(exclude={"deploy", "disagreements"})


def verdict_file(work: Path) -> Path:
    """Return the path of the last verdict."""
    return work / "verdict.json"


def read_verdict(work: Path, onnx_sha256: str, variant_sha256: str | None, criteria: dict[str, Any]) -> Verdict:
    """Return the verdict on a model file and its variant (None: it has none).

    StageError: the gate has not judged them by these criteria.
    """
    file, remedy = verdict_file(work), "run `python -m runner gate` first"
    try:
        verdict = Verdict.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise StageError(f"{file} is missing, expected the gate's verdict on the model; {remedy}") from error
    except ValidationError as error:
        raise StageError(f"{file}: not a verdict ({error.errors()[0]['msg']}); {remedy}") from error
    if verdict.onnx_sha256 != onnx_sha256:
        raise StageError(f"{file}: is about another model.onnx ({verdict.onnx_sha256[:12]}…); {remedy}")
    if (verdict.variant.sha256 if verdict.variant else None) != variant_sha256:
        raise StageError(f"{file}: is not about the variant that export.quantize has made; {remedy}")
    if verdict.criteria != criteria:
        raise StageError(f"{file}: was given by other criteria than the section gate says now; {remedy}")
    return verdict
