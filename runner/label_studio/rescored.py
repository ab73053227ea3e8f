"""The model of every round on the present test part, so that rounds can be compared: `flywheel --rescore`.

A published model's own figures are of the test part of its day, which grows with the dataset. Here all models are
measured on the same pictures, those that none of them was trained on; each runs once, as its detections are kept in
.work/gate by the digests of model, test part and settings.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.config.schema import Config
from runner.errors import ObjectError, StageError
from runner.release.deployed import trained_on
from runner.release.gate import TestPart, detections_of, read_test_part, unseen_pictures
from runner.stages.evaluate.examples import Example
from runner.stages.evaluate.metrics import Floats, Ids
from runner.stages.evaluate.resampling import Ranked, ap50, draw, interval, only
from runner.store import Store
from runner.store.published import Version
from runner.tables import Row, Table
from runner.workspace import ARTIFACTS, work_folder
from serving.vision.metadata import ModelError

ALL = "all classes"


class Score(NamedTuple):
    """AP50 of a class, 0 to 1, of one model: on the test part, and on each draw of its pictures."""

    value: float
    draws: Floats  # (draws,)


class Rescored(NamedTuple):
    """The models of all rounds on one test part."""

    text: str  # tables of each round's AP50 with intervals, and of what changed since the round before
    points: dict[str, list[tuple[float, float, float] | None]]  # class, then ALL → AP50 and its interval, of each round


def rescore(
    project: Path, config: Config, store: Store, models: Sequence[Version], *, markdown: bool = False
) -> Rescored:
    """Measure each round's model on the present test part.

    `models` are those of the rounds, oldest first; one that is gone, damaged or no detector leaves a gap. StageError:
    there is no test part here, or no picture of it that none of them was trained on.
    """
    if not (project / ARTIFACTS / "split/test.txt").is_file():
        raise StageError("artifacts/ has no test part; run `dvc repro`, or `dvc pull`, then `flywheel --rescore` again")
    work = work_folder(project)
    part = read_test_part(project / ARTIFACTS, config, work)
    unseen, unknown = np.ones(len(part.examples), np.bool_), list[str]()
    for version in models:
        try:
            known = trained_on(store, version)
        except ObjectError:
            known = None
        if known is None:
            unknown.append(str(version.number))
        else:
            unseen &= unseen_pictures(part.entries, known, near=config.split.near != "ignore")
    if not unseen.any():
        raise StageError("every picture of the test part was trained on by a model of some round: nothing to compare")
    draws = draw(int(unseen.sum()), config.gate.resamples)
    scores, gaps = list[dict[str, Score]](), list[str]()
    for place, version in enumerate(models, start=1):
        try:
            scores.append(_scores(store, version, part, config, work, unseen, draws))
        except (ObjectError, ModelError) as error:
            scores.append({})
            gaps.append(f"round {place} is not measured: {error}")
    names = [ALL, *part.names]
    labelled = np.concatenate([each.labelled.class_ids for each in _kept(part, unseen)])
    boxes = {name: int((labelled == number).sum()) for number, name in enumerate(part.names)}
    lines = [f"{int(unseen.sum())} of {len(part.examples)} test pictures, which no model of a round was trained on"]
    if unknown:
        lines.append(f"of version {', '.join(unknown)} nobody knows what it was trained on")
    tables = [_values(names, boxes, models, scores), _changes(names, models, scores)]
    said = "\n".join([*lines, *gaps, *_improved(names, scores)])
    points = {
        name: [(each[name].value, *interval(each[name].draws)) if name in each else None for each in scores]
        for name in (*part.names, ALL)
    }
    return Rescored("\n\n".join([*(table.as_text(markdown=markdown) for table in tables), said]), points)


def _scores(
    store: Store, version: Version, part: TestPart, config: Config, work: Path, unseen: NDArray[np.bool_], draws: Ids
) -> dict[str, Score]:
    """Return the score of each class with boxes in these pictures, and of all; a class that the model lacks has 0."""
    found = detections_of(store, version, part, config, work).classes
    once, scores = np.ones((1, draws.shape[1]), np.int64), dict[str, Score]()
    for number, name in enumerate(part.names):
        labelled = np.array([int((each.labelled.class_ids == number).sum()) for each in _kept(part, unseen)], np.int64)
        if not labelled.any():
            continue
        none = Ranked(np.zeros(0, np.intp), np.zeros(0, np.bool_), labelled)
        ranked = only(found[name], unseen) if name in found else none
        scores[name] = Score(float(ap50(ranked, once)[0]), ap50(ranked, draws))
    values, drawn = [each.value for each in scores.values()], [each.draws for each in scores.values()]
    scores[ALL] = Score(float(np.mean(values)), np.nanmean(drawn, axis=0)) if scores else Score(0.0, np.zeros(1))
    return scores


def _kept(part: TestPart, unseen: NDArray[np.bool_]) -> list[Example]:
    return [each for each, is_kept in zip(part.examples, unseen, strict=True) if is_kept]


def _values(
    names: Sequence[str], boxes: dict[str, int], models: Sequence[Version], scores: Sequence[dict[str, Score]]
) -> Table:
    head = [f"round {place} (model {version.number})" for place, version in enumerate(models, start=1)]
    rows: list[Row] = [("class", "boxes", *head)]
    for name in names:
        count = sum(boxes.values()) if name == ALL else boxes[name]
        rows.append((name, str(count), *(_with_interval(each.get(name)) for each in scores)))
    return Table("AP50 on the present test part, with 95 % intervals", rows)


def _changes(names: Sequence[str], models: Sequence[Version], scores: Sequence[dict[str, Score]]) -> Table:
    rows: list[Row] = [("class", *(f"round {place}" for place in range(2, len(models) + 1)))]
    for name in names:
        changes = (_change(before, after, name) for before, after in pairwise(scores))
        cells = ("-" if each is None else "{:+.3f} ({:+.2f} to {:+.2f})".format(*each) for each in changes)
        rows.append((name, *cells))
    return Table("Change since the round before, with 95 % intervals of the paired bootstrap", rows)


def _improved(names: Sequence[str], scores: Sequence[dict[str, Score]]) -> list[str]:
    """Return a line for each round after the first: classes whose interval of the change excludes 0."""
    lines = []
    for place, (before, after) in enumerate(pairwise(scores), start=2):
        if not before or not after:
            continue
        changes = {name: change for name in names if (change := _change(before, after, name))}
        better = [name for name, (_, low, _) in changes.items() if low > 0]
        worse = [name for name, (_, _, high) in changes.items() if high < 0]
        said = [f"improved {', '.join(better)}"] if better else []
        said += [f"worsened {', '.join(worse)}"] if worse else []
        lines.append(f"round {place} {' and '.join(said) or 'changed nothing that is not chance'}")
    return lines


def _change(before: dict[str, Score], after: dict[str, Score], name: str) -> tuple[float, float, float] | None:
    """Return the change of a class and its interval, both models on the same draws; None: no box of it."""
    if name not in before or name not in after:
        return None
    return after[name].value - before[name].value, *interval(after[name].draws - before[name].draws)


def _with_interval(score: Score | None) -> str:
    if score is None:
        return "-"
    low, high = interval(score.draws)
    return f"{score.value:.3f} ({low:.2f}-{high:.2f})"
