"""Flywheel report: for each round the captured, annotated and added pictures, and the metrics.

A round is one version of the dataset and the models that were trained on it. All of it is read from the store: captures
are filed under the model that answered, a version of the dataset has a record of its `labels pull`, and a model's
manifest names its dataset and metrics.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.config.compose import compose
from runner.dataset.versions import record_key
from runner.errors import StageError
from runner.label_studio.captures import Place, count_captures
from runner.store import SCHEME, Store, open_store
from runner.store.published import Version, numbers, read_version
from runner.tables import Row, Table, figure
from runner.workspace import work_folder, writing

MOST_CLASSES = 12  # more are drawn thin and grey, without names


@dataclass
class Round:
    """A version of the dataset, and the models trained on it.

    Attributes:
        dataset: its sha256, in hex.
        versions: of the model, ascending; at least one.
        record: of the `labels pull` that made the version; empty when a person added it.
        captured: number of captures of the previous round's models.
        feedback: number of feedbacks on those models' answers.
    """

    dataset: str
    versions: list[Version]
    record: dict[str, Any] = field(default_factory=dict)
    captured: int = 0
    feedback: int = 0

    @property
    def model(self) -> Version:
        """The newest version that passed the gate, else the newest."""
        return next((each for each in reversed(self.versions) if each.passed), self.versions[-1])

    @property
    def returned(self) -> int:
        """Number of new or relabelled pictures that come from captures."""
        origins = self.record.get("origins", {})
        return int(origins.get("capture", 0)) + int(origins.get("feedback", 0))


def report(project: Path, *, markdown: bool = False) -> str:
    """Return the rounds as tables, and draw them; StageError when no model was published yet."""
    config, _ = compose(project)
    store = open_store(project)
    counts = count_captures(Place(project), config.model.name)
    rounds = rounds_of(store, config.model.name, counts)
    if not rounds:
        raise StageError(f"no version of {config.model.name} was published yet; the wheel begins with the first one")
    file = work_folder(project) / "flywheel.png"
    draw(rounds, file)
    waiting = Round("", [], {}, *_kept(rounds[-1], counts))
    texts = [_rounds(rounds, waiting).as_text(markdown=markdown), _classes(rounds).as_text(markdown=markdown)]
    return "\n\n".join([*texts, f"{_judge(rounds, waiting)}\ndrawn in {file}"])


def rounds_of(store: Store, model: str, counts: Counter[tuple[str, str]]) -> list[Round]:
    """Return the rounds of a model, the first one first; `counts` is (version, captured | feedback) → count."""
    rounds: list[Round] = []
    for number in numbers(store, model):
        version = read_version(store, model, number)
        dataset = str(version.manifest.dataset.get("sha256") or "")
        if not rounds or rounds[-1].dataset != dataset:
            kept = _kept(rounds[-1], counts) if rounds else (0, 0)
            rounds.append(Round(dataset, [], _record(store, version), *kept))
        rounds[-1].versions.append(version)
    return rounds


def draw(rounds: Sequence[Round], file: Path) -> None:
    """Draw captures and added pictures beside the metrics, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure_ = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure_.subplots(1, 2)
    places = range(1, len(rounds) + 1)
    bars = {
        "captured": [each.captured for each in rounds],
        "annotated of these": [each.returned for each in rounds],
        "added to the dataset": [int(each.record.get("added", 0)) for each in rounds],
    }
    for number, (name, counted) in enumerate(bars.items()):
        left.bar([place + 0.27 * (number - 1) for place in places], counted, width=0.25, label=name)
    left.set(title="What went around", xlabel="round", ylabel="pictures")
    names = _class_names(rounds)
    named = len(names) <= MOST_CLASSES
    for name in names:
        style = {} if named else {"color": "0.8", "linewidth": 0.7}
        known = [_of_class(each, name) for each in rounds]
        right.plot(
            places,
            [float("nan") if value is None else value for value in known],
            marker="o",
            label=name.replace("$", r"\$") if named else None,
            **style,
        )
    overall = [float("nan") if each.model.map50 is None else each.model.map50 for each in rounds]
    right.plot(places, overall, marker="o", color="black", linewidth=2, label="all classes")
    right.set(title="What it did: mAP50 on test", xlabel="round", ylim=(0, 1.02))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    with writing(file) as temporary:
        figure_.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _rounds(rounds: Sequence[Round], waiting: Round) -> Table:
    rows: list[Row] = [
        ("round", "dataset", "captured", "feedback", "annotated", "added", "relabelled", "model", "test", "mAP50", "")
    ]
    last: float | None = None
    for number, each in enumerate(rounds, start=1):
        counted = [str(each.record.get(key, "-")) for key in ("added", "relabelled")]
        annotated = str(each.returned) if each.record else "-"
        pictures = str(each.model.manifest.metrics.get("pictures", "-"))
        state = "" if each.model.passed else " (did not pass)" if each.model.passed is False else ""
        rows.append(
            (
                *(str(number), each.dataset[:12] or "the sample", str(each.captured), str(each.feedback), annotated),
                *(*counted, f"{each.model.number}{state}", pictures, figure(each.model.map50)),
                _change(last, each.model.map50),
            )
        )
        last = each.model.map50
    rows.append(("next", "", str(waiting.captured), str(waiting.feedback), *([""] * 7)))
    return Table("Rounds", rows)


def _classes(rounds: Sequence[Round]) -> Table:
    rows: list[Row] = [("class", *(f"round {number}" for number in range(1, len(rounds) + 1)), "change")]
    for name in _class_names(rounds):
        values = [_of_class(each, name) for each in rounds]
        known = [value for value in values if value is not None]
        change = _change(known[0], known[-1]) if len(known) > 1 else ""
        rows.append((name, *map(figure, values), change))
    return Table("mAP50 of each class, on test", rows)


def _judge(rounds: Sequence[Round], waiting: Round) -> str:
    """Return a sentence: whether captures return as training pictures, and what to check if not."""
    turned = sum(each.returned > 0 for each in rounds)
    kept = f"{waiting.captured} captures and {waiting.feedback} verdicts since the last round"
    if turned:
        return f"the wheel turns: captured pictures came back in {turned} of {len(rounds)} rounds; {kept}"
    if waiting.captured or waiting.feedback:
        return f"the wheel stands still: {kept}, none came back yet: `captures push`, annotate, `labels pull`"
    return "the wheel stands still: nothing was captured; set CAPTURE_URI of the model server"


def _kept(before: Round, counts: Counter[tuple[str, str]]) -> tuple[int, int]:
    """Return the numbers of captures and feedbacks of a round's models."""
    versions = [str(version.number) for version in before.versions]
    captured, feedback = (sum(counts[version, kind] for version in versions) for kind in ("captured", "feedback"))
    return captured, feedback


def _record(store: Store, version: Version) -> dict[str, Any]:
    url = str(version.manifest.dataset.get("url") or "")
    key = record_key(url.removeprefix(SCHEME))
    if not url.startswith(SCHEME) or not store.exists(key):
        return {}
    found = json.loads(store.read(key))
    return found if isinstance(found, dict) else {}


def _class_names(rounds: Sequence[Round]) -> list[str]:
    return list(dict.fromkeys(name for each in rounds for name in each.model.manifest.metrics.get("classes", {})))


def _of_class(each: Round, name: str) -> float | None:
    value = each.model.manifest.metrics.get("classes", {}).get(name, {}).get("map50")
    return float(value) if isinstance(value, int | float) else None


def _change(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+.3f}"
