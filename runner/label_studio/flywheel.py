"""Flywheel report: for each round the captured, annotated and added pictures, and the metrics.

A round is one version of the dataset and the models that were trained on it, with all `labels pull` since the round
before. It is read from the store: captures are filed under the model that answered, a version of the dataset has a
record of its pull and names the version before, and a model's manifest names its dataset and metrics.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import dirname
from typing import Any

from runner.config.compose import compose
from runner.dataset.versions import record_key
from runner.errors import ObjectError, StageError
from runner.label_studio.captures import CAPTURED, FEEDBACK, CaptureStore, count_captures
from runner.label_studio.labelled_dataset import PULL
from runner.label_studio.next_step import next_step, read_record
from runner.label_studio.server import connected
from runner.store import SCHEME, Store, open_store
from runner.store.published import Version, model_names, numbers, read_version
from runner.tables import Row, Table, figure
from runner.workspace import work_folder, writing

MOST_CLASSES = 12  # more are drawn thin and grey, without names
MOST_NAMED = 5  # models that are not published
Points = Mapping[str, Sequence[tuple[float, float, float] | None]]  # name → AP50, low, high of each round; None: a gap
_HEAD = ("round", "dataset", "captured", "feedback", "annotated", "added", "relabelled", "model", "test", "mAP50", "")


@dataclass
class Round:
    """A version of the dataset, and the models trained on it."""

    dataset: str  # its sha256, in hex
    pulled: Counter[str] | None  # pictures added, relabelled, removed, returned by `labels pull`; None: there was none
    captured: int = 0  # number of captures since the round before, of the models of earlier rounds
    feedback: int = 0  # number of feedbacks on those models' answers
    versions: list[Version] = field(default_factory=list)  # of the model, ascending; at least one

    @property
    def model(self) -> Version:
        """The newest version that passed the gate, else the newest."""
        return next((each for each in reversed(self.versions) if each.passed), self.versions[-1])

    def map50(self, name: str) -> float | None:
        """MAP50 of a class on test, 0 to 1; None: not measured."""
        value = self.model.manifest.metrics.get("classes", {}).get(name, {}).get("map50")
        return float(value) if isinstance(value, int | float) else None


def report(
    project: Path, *, markdown: bool = False, source: str | None = None, rescored: bool = False, agreed: bool = False
) -> str:
    """Return the rounds as tables and the next step, and draw the rounds; StageError when no model was published yet.

    `source` is where captures/ is (the server's CAPTURE_URI); None: the store. `rescored`: measure each round's model
    on the present test part. `agreed`: add the agreement of annotators, from Label Studio.
    """
    config, _ = compose(project)
    store = open_store(project)
    versions, unreadable = list[Version](), list[str]()
    for number in numbers(store, config.model.name):
        try:
            versions.append(read_version(store, config.model.name, number))
        except ObjectError as error:
            unreadable.append(f"left out: {error}")
    if not versions:
        missing = f"{config.model.name} has no published version yet; `python -m runner publish` adds one"
        raise StageError("\n".join([missing, *unreadable]))
    files = {version.manifest.onnx_sha256: version.number for version in versions}
    counts = count_captures(CaptureStore(project, source), config.model.name, files)
    rounds = rounds_of(store, versions)
    captured, feedback = _count(rounds, counts.of_versions)
    file = work_folder(project) / "flywheel.png"
    trained = {each.dataset for each in rounds}
    current = config.dataset.sha256 or ""
    untrained = current[:12] if current not in trained else ""
    pulled = _changes(_pulled(store, config.dataset.url, trained)) if untrained else ("", "", "")
    table = _rounds(rounds)
    table.rows.append(("next", untrained, str(captured), str(feedback), *pulled, *([""] * 4)))
    tables = [table.as_text(markdown=markdown), _classes(rounds).as_text(markdown=markdown)]
    points: Points | None = None
    if rescored:
        from runner.label_studio.rescored import rescore

        found = rescore(project, config, store, [each.model for each in rounds], markdown=markdown)
        tables.append(found.text)
        points = found.points
    draw(rounds, file, points)
    if agreed:
        from runner.label_studio.agreement import agreement

        with connected() as server:
            tables.append(agreement(server.project(config.labels.title)).as_text(markdown=markdown))
    returned = sum(bool(each.pulled and each.pulled["returned"]) for each in rounds)
    lines = [
        f"{returned} of {len(rounds)} rounds added or relabelled captured pictures; {captured} captures and {feedback} "
        "feedbacks since the last round",
        *unreadable,
        *_of_others(counts.of_others, config.model.name, model_names(store)),
        f"next: {next_step(project, store, config, untrained, captured + feedback)}",
        f"drawn in {file}",
    ]
    return "\n\n".join([*tables, "\n".join(lines)])


def rounds_of(store: Store, versions: Sequence[Version]) -> list[Round]:
    """Return the rounds of a model's versions, ascending, without their captures."""
    rounds: list[Round] = []
    for version in versions:
        dataset = str(version.manifest.dataset.get("sha256") or "")
        if not rounds or rounds[-1].dataset != dataset:
            pulled = _pulled(store, str(version.manifest.dataset.get("url") or ""), {each.dataset for each in rounds})
            rounds.append(Round(dataset, pulled))
        rounds[-1].versions.append(version)
    return rounds


def _count(rounds: Sequence[Round], counts: Counter[tuple[int, str, str]]) -> tuple[int, int]:
    """Count captures and feedbacks in the rounds; return the numbers of those since the last round.

    A capture counts to the first round after its model's that was published on its day or later: a model that did not
    pass leaves an older one in service.
    """
    home = {version.number: place for place, each in enumerate(rounds) for version in each.versions}
    published = [each.versions[0].manifest.created or "9999" for each in rounds]
    later: Counter[str] = Counter()
    for (number, day, kind), count in counts.items():
        places = range(home[number] + 1, len(rounds))
        place = next((place for place in places if published[place][: len(day)] >= day), None)
        if place is None:
            later[kind] += count
        elif kind == CAPTURED:
            rounds[place].captured += count
        else:
            rounds[place].feedback += count
    return later[CAPTURED], later[FEEDBACK]


def _of_others(counts: Counter[tuple[str, str, str]], model: str, published: Collection[str]) -> list[str]:
    """Return a line about captures of models that nobody published, if there are any."""
    unknown = {place: count for place, count in counts.items() if place[0] not in published or place[0] == model}
    if not unknown:
        return []
    captured, feedback = (sum(n for place, n in unknown.items() if place[2] == kind) for kind in (CAPTURED, FEEDBACK))
    names = ", ".join(sorted({f"{name}/{version}" for name, version, _ in unknown})[:MOST_NAMED])
    return [
        f"{captured} captures and {feedback} feedbacks of models that are not published ({names}): publish that model, "
        "and start the server with MODEL_URI=…/manifest.json"
    ]


def draw(rounds: Sequence[Round], file: Path, points: Points | None = None) -> None:
    """Draw captures and added pictures beside the metrics, as a PNG.

    `points` are those of one test part, drawn with their intervals; None: each model's own mAP50.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure_ = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure_.subplots(1, 2)
    places = range(1, len(rounds) + 1)
    bars = {
        "captured": [each.captured for each in rounds],
        "annotated of these": [each.pulled["returned"] if each.pulled else 0 for each in rounds],
        "added to the dataset": [each.pulled["added"] if each.pulled else 0 for each in rounds],
    }
    for number, (name, counted) in enumerate(bars.items()):
        left.bar([place + 0.27 * (number - 1) for place in places], counted, width=0.25, label=name)
    left.set(title="Captured, annotated and added pictures", xlabel="round", ylabel="pictures")
    own = {name: [each.map50(name) for each in rounds] for name in _class_names(rounds)}
    own["all classes"] = [each.model.map50 for each in rounds]
    lines = points or {
        name: [None if value is None else (value, value, value) for value in values] for name, values in own.items()
    }
    *classes, overall = lines
    for number, name in enumerate(lines):
        values = np.array([each or (math.nan,) * 3 for each in lines[name]])  # (rounds, 3); nan: a gap
        style: dict[str, Any] = {"label": name.replace("$", r"\$")}
        if name == overall:
            style |= {"color": "black", "linewidth": 2}
        elif len(classes) > MOST_CLASSES:
            style = {"color": "0.8", "linewidth": 0.7}
        errors = abs(values[:, 1:] - values[:, :1]).T if points else None
        right.errorbar(
            [place + 0.3 * number / len(lines) for place in places], values[:, 0], errors, marker="o", **style
        )
    title = "AP50 on the present test part, with 95 % intervals" if points else "mAP50 on test"
    right.set(title=title, xlabel="round", ylim=(0, 1.02))
    for axes, corner in ((left, "upper left"), (right, "lower right")):  # finding the best one may take seconds
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(loc=corner)
    with writing(file) as temporary:
        figure_.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _rounds(rounds: Sequence[Round]) -> Table:
    rows: list[Row] = [_HEAD]
    last: float | None = None
    for number, each in enumerate(rounds, start=1):
        model = f"{each.model.number}{' (did not pass)' if each.model.passed is False else ''}"
        test = str(each.model.manifest.metrics.get("pictures", "-"))
        row = (str(number), each.dataset[:12] or "the sample", str(each.captured), str(each.feedback))
        change = _change(last, each.model.map50)
        rows.append((*row, *_changes(each.pulled), model, test, figure(each.model.map50), change))
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


def _changes(pulled: Counter[str] | None) -> Row:
    """Return the cells annotated, added and relabelled."""
    return tuple("-" if pulled is None else str(pulled[key]) for key in ("returned", "added", "relabelled"))


def _pulled(store: Store, url: str, until: Collection[str]) -> Counter[str] | None:
    """Return the sums of all `labels pull` from a version back to, and without, those named `until`; None: no pull.

    `returned` counts the new and relabelled pictures that come from captures.
    """
    sums: Counter[str] | None = None
    key = record_key(url.removeprefix(SCHEME)) if url.startswith(SCHEME) else ""
    seen: set[str] = set()
    while key and key not in seen and (record := read_record(store, key)):
        seen.add(key)
        if record.get("made_by") == PULL:
            origins = record.get("origins", {})
            sums = sums or Counter()
            sums.update({name: int(record.get(name, 0)) for name in ("added", "relabelled", "removed")})
            sums["returned"] += int(origins.get("capture", 0)) + int(origins.get("feedback", 0))
        previous = str(record.get("previous") or "")
        key = f"{dirname(key)}/{previous[:12]}.json" if previous and previous not in until else ""
    return sums


def _class_names(rounds: Sequence[Round]) -> list[str]:
    return list(dict.fromkeys(name for each in rounds for name in each.model.manifest.metrics.get("classes", {})))


def _change(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+.3f}"
