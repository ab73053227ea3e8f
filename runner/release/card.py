"""Model card of a version in Markdown: intended use, quality, limits, provenance. Its text is the template card.md.

The headings follow Mitchell and others 2019, Model Cards for Model Reporting (https://arxiv.org/abs/1810.03993).
Everything in it follows from the manifest.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runner.release.verdict import criteria_rows, variant_line
from runner.tables import Row, Table, metric_rows
from serving.storage.manifest import Manifest, Verdict


def model_card(manifest: Manifest) -> str:
    """Return the card of a version, ending with a newline, from its manifest as `publish` writes it."""
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {"one_line": _one_line, "plain": _plain, "table": _table}
    judged = manifest.verdict.variant if manifest.verdict else None
    return environment.get_template("card.md").render(
        **dict(manifest),
        side=max(manifest.imgsz) if isinstance(manifest.imgsz, list) else manifest.imgsz,
        figures=metric_rows(manifest.metrics) if manifest.metrics else [],
        variant_text=variant_line(judged) if judged else "",
        criteria=[("criterion of the gate", "found", "verdict"), *criteria_rows(manifest.verdict or Verdict())[1:]],
    )


def _table(rows: list[Row]) -> str:
    return Table("", [tuple(map(_plain, row)) for row in rows]).as_text(markdown=True)


def _plain(text: str) -> str:
    """Escape Markdown in a text: class names come from annotators."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#~" else letter for letter in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
