"""Flywheel report: for each round the captured, annotated and added pictures, and the metrics.

A round is one version of the dataset and the models that were trained on it. All of it is read from the store: captures
are filed under the model that answered, a version of the dataset has a record of its `labels pull`, and a model's
manifest names its dataset and metrics.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.config.compose import compose
from runner.dataset.versions import record_key
from runner.errors import StageError
from runner.label_studio.captures import CaptureStore, count_captures
from runner.store import SCHEME, Store, open_store
from runner.store.published import Version, numbers, read_version
from runner.tables import Row, Table, figure
from runner.workspace import work_folder, writing

MOST_CLASSES = 12  # more are drawn thin and grey, without names
_HEAD = ("round", "dataset", "captured", "feedback", "annotated", "added", "relabelled", "model", "test", "mAP50", "")


@dataclass
class Round:
    """A version of the dataset, and the models trained on it."""

    dataset: str  # its sha256, in hex
    record: dict[str, Any]  # of the `labels pull` that made the version; empty when a person added it
    captured: int  # number of captures of the previous round's models
    feedback: int  # number of feedbacks on those models' answers
    versions: list[Version] = field(default_factory=list)  # of the model, ascending; at least one

    @property
    def model(self) -> Version:
        """The newest version that passed the gate, else the newest."""
        return next((each for each in reversed(self.versions) if each.passed), self.versions[-1])

    @property
    def returned(self) -> int:
        """Number of new or relabelled pictures that come from captures."""
        origins = self.record.get("origins", {})
        return int(origins.get("capture", 0)) + int(origins.get("feedback", 0))

    def map50(self, name: str) -> float | None:
        """MAP50 of a class on test, 0 to 1; None: not measured."""
        value = self.model.manifest.metrics.get("classes", {}).get(name, {}).get("map50")
        return float(value) if isinstance(value, int | float) else None


def report(project: Path, *, markdown: bool = False) -> str:
    """Return the rounds as tables, and draw them; StageError when no model was published yet."""
    config, _ = compose(project)
    store = open_store(project)
    counts = count_captures(CaptureStore(project), config.model.name)
    rounds = rounds_of(store, config.model.name, counts)
    if not rounds:
        raise StageError(f"{config.model.name} has no published version yet; `python -m runner publish` adds one")
    captured, feedback = _count(rounds[-1], counts)
    file = work_folder(project) / "flywheel.png"
    draw(rounds, file)
    returned = sum(each.returned > 0 for each in rounds)
    since = f"{captured} captures and {feedback} feedbacks since the last round"
    if returned:
        summary = f"{returned} of {len(rounds)} rounds added or relabelled captured pictures; {since}"
    elif captured or feedback:
        summary = f"no captured picture was annotated yet; {since}: `captures push`, annotate, `labels pull`"
    else:
        summary = "nothing was captured yet; set CAPTURE_URI of the model server"
    table = _rounds(rounds)
    table.rows.append(("next", "", str(captured), str(feedback), *([""] * 7)))
    tables = [table.as_text(markdown=markdown), _classes(rounds).as_text(markdown=markdown)]
    return "\n\n".join([*tables, f"{summary}\ndrawn in {file}"])


def rounds_of(store: Store, model: str, counts: Counter[tuple[str, str]]) -> list[Round]:
    """Return the rounds of a model, the first one first; `counts` is (version, captured | feedback) → count."""
    rounds: list[Round] = []
    for number in numbers(store, model):
        version = read_version(store, model, number)
        dataset = str(version.manifest.dataset.get("sha256") or "")
        if not rounds or rounds[-1].dataset != dataset:
            captured, feedback = _count(rounds[-1], counts) if rounds else (0, 0)
            rounds.append(Round(dataset, _record(store, version), captured, feedback))
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
    left.set(title="Captured, annotated and added pictures", xlabel="round", ylabel="pictures")
    lines = {name: [each.map50(name) for each in rounds] for name in _class_names(rounds)}
    named = len(lines) <= MOST_CLASSES
    style = {} if named else {"color": "0.8", "linewidth": 0.7}
    for name, values in lines.items():
        label = name.replace("$", r"\$") if named else None
        right.plot(places, values, marker="o", label=label, **style)  # None: a gap
    overall = [each.model.map50 for each in rounds]
    right.plot(places, overall, marker="o", color="black", linewidth=2, label="all classes")
    right.set(title="mAP50 on test", xlabel="round", ylim=(0, 1.02))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    with writing(file) as temporary:
        figure_.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _rounds(rounds: Sequence[Round]) -> Table:
    rows: list[Row] = [_HEAD]
    last: float | None = None
    for number, each in enumerate(rounds, start=1):
        annotated = str(each.returned) if each.record else "-"
        added, relabelled = (str(each.record.get(key, "-")) for key in ("added", "relabelled"))
        model = f"{each.model.number}{' (did not pass)' if each.model.passed is False else ''}"
        test = str(each.model.manifest.metrics.get("pictures", "-"))
        row = (str(number), each.dataset[:12] or "the sample", str(each.captured), str(each.feedback), annotated)
        change = _change(last, each.model.map50)
        rows.append((*row, added, relabelled, model, test, figure(each.model.map50), change))
        last = each.model.map50
    return Table("Rounds", rows)


def _classes(rounds: Sequence[Round]) -> Table:
    rows: list[Row] = [("class", *(f"round {number}" for number in range(1, len(rounds) + 1)), "change")]
    for name in _class_names(rounds):
        values = [each.map50(name) for each in rounds]
        known = [value for value in values if value is not None]
        change = _change(known[0], known[-1]) if len(known) > 1 else ""
        rows.append((name, *map(figure, values), change))
    return Table("mAP50 of each class, on test", rows)


def _count(before: Round, counts: Counter[tuple[str, str]]) -> tuple[int, int]:
    """Return the numbers of captures and feedbacks of a round's models."""
    versions = [str(version.number) for version in before.versions]
    return sum(counts[each, "captured"] for each in versions), sum(counts[each, "feedback"] for each in versions)


def _record(store: Store, version: Version) -> dict[str, Any]:
    url = str(version.manifest.dataset.get("url") or "")
    key = record_key(url.removeprefix(SCHEME))
    if not url.startswith(SCHEME) or not store.exists(key):
        return {}
    found = json.loads(store.read(key))
    return found if isinstance(found, dict) and found.get("made_by") == "labels pull" else {}


def _class_names(rounds: Sequence[Round]) -> list[str]:
    return list(dict.fromkeys(name for each in rounds for name in each.model.manifest.metrics.get("classes", {})))


def _change(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+.3f}"
