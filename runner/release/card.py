"""Model card of a version in Markdown: intended use, quality, limits, provenance.

The headings follow Mitchell and others 2019, Model Cards for Model Reporting (https://arxiv.org/abs/1810.03993).
Everything in it follows from the manifest.
"""

from runner.release.verdict import criteria_rows
from runner.tables import Row, Table, metric_rows
from serving.storage.manifest import Manifest, Verdict

FEW_BOXES = 30  # boxes in test; figures of a class with fewer are unreliable
LOW_RECALL = 0.7  # recall below which a class is listed among the limits


def model_card(manifest: Manifest) -> str:
    """Return the card of a version, ending with a newline, from its manifest as `publish` writes it."""
    sections = [
        f"# {_plain(manifest.name)} {manifest.version}\n\n{_opening(manifest)}",
        f"## Intended use\n\n{_intended_use(manifest)}",
        f"## Data\n\n{_data(manifest)}",
        f"## Quality\n\n{_quality(manifest)}",
        f"## Limits\n\n{_bullets(_limits(manifest))}",
        f"## Provenance\n\n{_provenance(manifest)}",
    ]
    return "\n\n".join(sections) + "\n"


def _opening(manifest: Manifest) -> str:
    classes = ", ".join(map(_plain, manifest.classes[:20])) + (" …" if len(manifest.classes) > 20 else "")
    verdict = manifest.verdict
    gate = "was not asked" if verdict is None else "let it pass" if verdict.passed else "did not let it pass"
    return f"A detector of {len(manifest.classes)} classes: {classes}. The gate {gate}."


def _intended_use(manifest: Manifest) -> str:
    if not manifest.metrics:
        return (
            "A stock pretrained model, as it came: a baseline to hold one's own models against. "
            "It was not measured here."
        )
    return (
        f"Finding these classes in pictures like those of the dataset {_plain(manifest.dataset['name'])}: the same "
        "kind of camera, distance, light and scene. Answers are boxes with a confidence; only those above a class's "
        "threshold are shown. Where a miss or a false find matters, people should look too."
    )


def _data(manifest: Manifest) -> str:
    dataset = manifest.dataset
    if not dataset:
        return "Not known here; see where the weights come from."
    boxes = ", ".join(f"{count} {_plain(name)}" for name, count in dataset["boxes"].items())
    split = manifest.params["split"]
    together = f"; pictures whose name agrees in `{split['group']}` stay together" if split["group"] else ""
    by_hash = f"by hash, seed {split['seed']}{together}"
    parts = {"given": "as the dataset came", "auto": f"as the dataset came, else {by_hash}"}.get(split["mode"], by_hash)
    digest = f" (sha256 {dataset['sha256']})" if dataset["sha256"] else ""
    return (
        f"{_plain(dataset['name'])}, {dataset['url']}{digest}: {dataset['pictures']} pictures, boxes: {boxes}. "
        f"Dealt to train, val and test {parts}; {manifest.metrics['pictures']} pictures are in test. "
        "Thresholds were chosen on val, everything below was measured on test, with the server's own detector."
    )


def _quality(manifest: Manifest) -> str:
    if not manifest.metrics:
        return f"Not measured. The threshold is {manifest.thresholds.overall:g} for every class."
    verdict = manifest.verdict or Verdict()
    findings = [("criterion of the gate", "found", "verdict"), *criteria_rows(verdict)[1:]]
    left_out = [f"Left out: {_plain(line)}." for line in verdict.left_out]
    parts = [_table(metric_rows(manifest.metrics)), _table(findings), _bullets(left_out)]
    return "\n\n".join(filter(None, parts))


def _limits(manifest: Manifest) -> list[str]:
    side = max(manifest.imgsz) if isinstance(manifest.imgsz, list) else manifest.imgsz
    limits = [
        f"The input is {side} pixels: pictures are scaled to it, and what is then a few pixels large is missed.",
        "What the dataset does not show (other weather, night, other cameras) was not measured.",
    ]
    for name, figures in manifest.metrics.get("classes", {}).items():
        if figures["boxes"] < FEW_BOXES:
            limits.append(f"{_plain(name)}: only {figures['boxes']} boxes in test, so its figures say little.")
        elif figures["recall"] < LOW_RECALL:
            limits.append(f"{_plain(name)}: {1 - figures['recall']:.0%} of the boxes in test were missed.")
    return limits + [f"{_plain(note)}." for note in manifest.metrics.get("notes", [])]


def _provenance(manifest: Manifest) -> str:
    params = manifest.params
    model = f"{params['model']['base']} at {params['model']['imgsz']} px, seed {params['seed']}" if params else "stock"
    rows: list[Row] = [
        ("", ""),
        ("commit", f"{manifest.commit or '-'} ({manifest.work_tree})"),
        ("published", manifest.created or "-"),
        ("network", model),
        ("model.onnx", f"sha256 {manifest.onnx_sha256}"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())),
        ("licence, as the exporter wrote it", manifest.license or "-"),
    ]
    return _table(rows)


def _table(rows: list[Row]) -> str:
    return Table("", [tuple(map(_plain, row)) for row in rows]).as_text(markdown=True)


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _plain(text: str) -> str:
    """Escape Markdown in a text: class names come from annotators."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#~" else letter for letter in " ".join(text.split()))
