"""Verdict of the gate on a model: passed or not, with every reason, as a file and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from runner.config.schema import GateConfig
from runner.errors import StageError
from runner.tables import Row, Table


class Finding(BaseModel):
    """One criterion, and what was found.

    Attributes:
        criterion: what is judged: `mAP50`, `AP50 of <class>`, `latency`, `size`.
        candidate: the figure of the model that is judged: 0 to 1, milliseconds or bytes; None where there is none.
        deployed: the same of the deployed model; None for a criterion that needs none.
        said: the comparison in words.
        passed: whether it is good enough.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    criterion: str
    candidate: float | None
    deployed: float | None
    said: str
    passed: bool


class Against(BaseModel):
    """The deployed model that the candidate was compared with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    version: int
    manifest_sha256: str


class Verdict(BaseModel):
    """What the gate says of a model.

    Attributes:
        passed: whether every criterion is met.
        findings: the criteria, one by one.
        left_out: what could not be judged, and why.
        onnx_sha256: the model file that this is about.
        pictures: how many test pictures both models were shown.
        deployed: None where there was none to compare with.
        criteria: the section `gate` of the configuration, without `deploy`.
        deploy: what `gate.deploy` says: whether a model that passes is proposed for staging.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    passed: bool
    findings: list[Finding]
    left_out: list[str]
    onnx_sha256: str
    pictures: int
    deployed: Against | None
    criteria: dict[str, int | float]
    deploy: bool

    def as_text(self, *, markdown: bool = False) -> str:
        """Return a table of the criteria, the parts not judged, and the outcome."""
        rows = criteria_rows(each.model_dump() for each in self.findings)
        against = f"against {self.deployed.model} {self.deployed.version}" if self.deployed else "alone"
        table = Table(f"The gate: this model {against}, on {self.pictures} test pictures", rows)
        failed = [each.criterion for each in self.findings if not each.passed]
        outcome = f"does not pass: {', '.join(failed)}" if failed else "passes"
        bullet = "- " if markdown else ""
        closing = [*(f"left out: {line}" for line in self.left_out), outcome]
        return "\n".join([table.as_text(markdown=markdown), "", *(f"{bullet}{line}" for line in closing)])


def criteria_rows(findings: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the criteria of a verdict as rows under a head.

    Args:
        findings: as in a manifest: the fields of `Finding`.
    """
    rows: list[Row] = [("criterion", "found", "verdict")]
    return rows + [(each["criterion"], each["said"], "yes" if each["passed"] else "NO") for each in findings]


def criteria_of(rules: GateConfig) -> dict[str, int | float]:
    """Return the criteria of a verdict: the section `gate` without `deploy`, which is no criterion."""
    return rules.model_dump(exclude={"deploy"})


def verdict_file(work: Path) -> Path:
    """Return the path of the last verdict."""
    return work / "verdict.json"


def read_verdict(work: Path, onnx_sha256: str, criteria: dict[str, int | float]) -> Verdict:
    """Return the verdict on a model file; StageError when the gate has not judged it by these criteria."""
    file, remedy = verdict_file(work), "run `python -m runner gate` first"
    try:
        verdict = Verdict.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise StageError(f"{file} is missing, expected the gate's verdict on the model; {remedy}") from error
    except ValidationError as error:
        raise StageError(f"{file}: not a verdict ({error.errors()[0]['msg']}); {remedy}") from error
    if verdict.onnx_sha256 != onnx_sha256:
        raise StageError(f"{file}: is about another model.onnx ({verdict.onnx_sha256[:12]}…); {remedy}")
    if verdict.criteria != criteria:
        raise StageError(f"{file}: was given by other criteria than the section gate says now; {remedy}")
    return verdict
