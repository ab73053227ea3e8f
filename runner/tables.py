"""Tables that commands print: aligned for a terminal, or as Markdown."""

from __future__ import annotations

from typing import NamedTuple

Row = tuple[str, ...]


class Table(NamedTuple):
    """A titled table; the first row is its head. An empty title and a head of empty cells are left out of a terminal."""

    title: str
    rows: list[Row]

    def as_text(self, *, markdown: bool = False) -> str:
        """Return what to print."""
        return _markdown(self) if markdown else _plain(self)


def figure(value: float | None) -> str:
    """Return a figure of 0 to 1 as people read it; `-` for none."""
    return "-" if value is None else f"{value:.3f}"


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
