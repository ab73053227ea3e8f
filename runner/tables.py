"""Tables that commands print: aligned for a terminal, or as Markdown."""

from __future__ import annotations

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
        return _markdown(self) if markdown else _plain(self)


def figure(value: float | None) -> str:
    """Format a figure of 0 to 1; `-` for None."""
    return "-" if value is None else f"{value:.3f}"


def metric_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """Return the metrics of `evaluate` as rows: a head, one for all classes together, one for each class."""
    rows: list[Row] = [("class", "test boxes", *METRICS.values())]
    for name, figures in [("all", metrics), *metrics["classes"].items()]:
        rows.append((name, str(figures["boxes"]), *(figure(figures[key]) for key in METRICS)))
    return rows


def _plain(table: Table) -> str:
    widths = [max(len(row[column]) for row in table.rows) for column in range(len(table.rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table.rows
    ]
    return "\n".join([*filter(None, [table.title]), *(f"  {line}" for line in lines if line)])


def _markdown(table: Table) -> str:
    head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in table.rows)
    lines = [head, ["---"] * len(head), *rows]
    title = [f"### {table.title}", ""] if table.title else []
    return "\n".join([*title, *(f"| {' | '.join(line)} |" for line in lines)])
