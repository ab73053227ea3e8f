"""A sweep, its trials, and the table of what came out."""

import hashlib
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from runner.sweep.space import Axis, grid, parse_axes
from runner.tables import Row, Table, figure, measured_figure

MOST = 500  # trials
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Sweep(BaseModel):
    """What a sweep tries, and on which commit; equal ones have the same name, so that a sweep goes on after a stop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: list[str]  # KEY=VALUES, in Hydra's syntax
    search: int = Field(default=0, ge=0, le=MOST)  # trials of a search; 0: a grid
    revision: str  # a commit
    params: dict[str, str] = {}  # of the Pipeline: gpu, gpu-timeout

    @property
    def name(self) -> str:
        """Its name in the cluster, in the store and among DVC's experiments."""
        return f"sweep-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}"

    @property
    def axes(self) -> list[Axis]:
        """Keys with their values."""
        return parse_axes(self.words)[0]

    @property
    def size(self) -> int:
        """Number of trials."""
        return self.search or len(grid(self.axes))

    def trial_name(self, number: int) -> str:
        """Return the name of a trial; the names of a sweep's trials sort by number."""
        return f"{self.name}-{number:03}"


class ValFigures(BaseModel):
    """Figures on val, 0 to 1; None where val has no boxes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    map50: Share | None
    map50_low: Share | None
    map50_high: Share | None
    map50_95: Share | None


class Trial(BaseModel):
    """A trial that ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    values: list[str]  # KEY=VALUE of each axis
    state: str  # done, failed or cancelled
    figures: ValFigures | None = None  # None: not measured
    seconds: float = 0  # of all its Tasks; on this machine, of the training
    gpu_minutes: float = 0  # of its training: minutes times GPUs
    said: str = ""  # why it failed

    @property
    def score(self) -> float | None:
        """mAP50 on val; None when it was not measured."""
        return self.figures.map50 if self.figures and self.state == DONE else None


def told(trials: Sequence[Trial]) -> list[tuple[list[str], float]]:
    """Return the values and scores that a search learns from."""
    return [(each.values, each.score) for each in trials if each.score is not None]


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the highest mAP50 on val, the first of equal ones; None when none was measured."""
    return max((each for each in trials if each.score is not None), key=lambda each: each.score or 0, default=None)


def summary_of(sweep: Sweep, trials: Sequence[Trial], *, markdown: bool = False) -> str:
    """Return the table of all trials, the best first, with a line about the best one."""
    keys = [axis.key for axis in sweep.axes]
    rows: list[Row] = [("trial", *keys, "mAP50", "mAP50-95", "minutes", "GPU-minutes", "outcome")]
    for each in sorted(trials, key=lambda each: (-(-1.0 if each.score is None else each.score), each.number)):
        figures = each.figures.model_dump() if each.figures else {}
        measured = (measured_figure(figures, "map50"), figure(figures.get("map50_95")))
        cost = (f"{each.seconds / 60:.1f}", f"{each.gpu_minutes:.1f}")
        chosen = [value.partition("=")[2] for value in each.values]
        rows.append((str(each.number), *chosen, *measured, *cost, f"{each.state} {each.said}".strip()))
    title = f"{sweep.name}: {len(trials)} of {sweep.size} trials of {sweep.revision[:12]}, measured on val"
    return f"{Table(title, rows).as_text(markdown=markdown)}\n\n{_best_line(trials)}"


def _best_line(trials: Sequence[Trial]) -> str:
    found = best(trials)
    if found is None:
        return "No trial was measured."
    scores = [each.score for each in trials if each.score is not None and each is not found]
    low = found.figures.map50_low if found.figures else None
    near = sum(score >= low for score in scores) if low is not None else 0
    values = " ".join(value.removeprefix("++") for value in found.values)
    doubt = (
        f"; {near} of the {len(scores)} others are within its 95 % interval, so chance may have chosen" if near else ""
    )
    return (
        f"Best on val of {len(scores) + 1} measured trials: trial {found.number}, {values}{doubt}. None has met test: "
        "the best of many looks better on val than it is, and the gate measures it once on test."
    )
