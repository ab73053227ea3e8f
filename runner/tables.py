"""Tables that commands print: aligned for a terminal, or as Markdown."""

from collections.abc import Mapping
from typing import Any, NamedTuple

Row = tuple[str, ...]
#: Keys of metrics.json → column headings.
METRICS = {
    "map50": "mAP50",
    "map50_95": "mAP50-95",
    "precision": "precision",
    "recall": "recall",
    "threshold": "threshold",
}


class Table(NamedTuple):
    """A titled table; the first row is its head. An empty title, or a head of empty cells, is not printed."""

    title: str
    rows: list[Row]

    def as_text(self, *, markdown: bool = False) -> str:
        """Return the table, aligned or as Markdown."""
        if markdown:
            head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in self.rows)
            title = [f"### {self.title}", ""] if self.title else []
            return "\n".join([*title, *(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))])
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in self.rows]
        return "\n".join([*filter(None, [self.title]), *(f"  {line}" for line in lines if line)])


def figure(value: float | None) -> str:
    """Format a figure of 0 to 1; `-` for None."""
    return "-" if value is None else f"{value:.3f}"


def measured_figure(figures: Mapping[str, Any], key: str) -> str:
    """Format a figure of `evaluate`, mAP50 with its 95 % interval; `-` where it is missing."""
    text = figure(figures.get(key))
    if key != "map50" or figures.get("map50_low") is None:
        return text
    return f"{text} (95 %: {figures['map50_low']:.2f}-{figures['map50_high']:.2f})"


def metric_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """Return the metrics of `evaluate` as rows: a head, one for all classes together, one for each class."""
    rows: list[Row] = [("class", "test boxes", *METRICS.values())]
    for name, figures in [("all", metrics), *metrics["classes"].items()]:
        rows.append((name, str(figures["boxes"]), *(measured_figure(figures, key) for key in METRICS)))
    return rows
