"""Bootstrap of AP50, and of its difference between two models, over resampled test pictures.

Found boxes are matched to labelled ones once; a draw only changes the pictures' weights, so a thousand draws cost a few
cumulative sums each. The average precision is COCO's, as in `runner.stages.evaluate.metrics`; a test compares both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.stages.evaluate.metrics import Boxes, Floats, Ids, matched

INTERVAL = 0.95  # confidence of `interval`
RECALLS = np.linspace(0, 1, 101)  # recalls at which COCO samples the precision


@dataclass(frozen=True)
class Ranked:
    """Found boxes of one class in all pictures, the most confident first."""

    pictures: NDArray[np.intp]  # (D,) index of each found box's picture. D may be 0
    right: NDArray[np.bool_]  # (D,) whether it matches a labelled box, at an overlap of 0.5
    labelled: Ids  # (P,) labelled boxes of the class in each picture


def rank(labelled: Sequence[Boxes], found: Sequence[Boxes], classes: int) -> list[Ranked]:
    """Match each picture once; return the ranked boxes of each class by its id; found boxes of others are ignored."""
    pictures = np.repeat(np.arange(len(found)), [len(each.class_ids) for each in found])
    class_ids, confidences, right = matched(labelled, found)
    order = np.argsort(-confidences, kind="stable")
    of_class = [order[class_ids[order] == class_id] for class_id in range(classes)]
    counts = [np.bincount(truth.class_ids, minlength=classes) for truth in labelled]
    per_picture = np.array(counts, np.int64).reshape(-1, classes)
    return [Ranked(pictures[rows], right[rows], per_picture[:, number]) for number, rows in enumerate(of_class)]


def only(ranked: Ranked, kept: NDArray[np.bool_]) -> Ranked:
    """Return the found and labelled boxes of the pictures in `kept`, (P,)."""
    rows = kept[ranked.pictures]
    return Ranked((np.cumsum(kept) - 1)[ranked.pictures[rows]], ranked.right[rows], ranked.labelled[kept])


def draw(pictures: int, times: int) -> Ids:
    """Return (times, pictures): how often each picture is in each draw, with replacement; always the same draws."""
    return np.random.default_rng(0).multinomial(pictures, np.full(pictures, 1 / pictures), size=times)


def ap50(ranked: Ranked, weights: Ids) -> Floats:
    """Return (draws,) average precision at an overlap of 0.5, 0 to 1; nan for a draw without a labelled box.

    `weights` (draws, P) are how often each picture counts; all ones give the average precision itself.
    """
    labelled = weights @ ranked.labelled
    hits = np.flatnonzero(ranked.right)
    right = np.cumsum(weights[:, ranked.pictures[hits]], axis=1)
    found = np.array([row[ranked.pictures].cumsum()[hits] for row in weights])  # one by one, to save memory
    precision = right / np.maximum(found, 1)
    # COCO's rule: at each of 101 recalls the best precision at that or a higher recall; then the mean.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, right / np.maximum(labelled, 1)[:, None], side="right")
    mean: Floats = (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return np.where(labelled > 0, mean, np.nan)


def interval(ap50s: Floats) -> tuple[float, float]:
    """Return the percentile interval of an AP50, 0 to 1, from its (draws,) values; a draw of nan is left out."""
    low, high = np.nanquantile(ap50s, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return round(float(low), 6), round(float(high), 6)


def drop_of(before: Ranked, after: Ranked, weights: Ids, confidence: float) -> tuple[float, float]:
    """Return the AP50 that a class lost between two models on the same pictures, and its bootstrap margin, 0 or more.

    The paired bootstrap: both models are measured on the same draws of the pictures (Koehn 2004, Statistical
    Significance Tests for Machine Translation Evaluation, section 3; https://aclanthology.org/W04-3250), and the margin
    is the distance from the drop to its one-sided percentile bound (Efron and Tibshirani 1993, An Introduction to the
    Bootstrap, chapter 13):

        drop = AP50(before) - AP50(after)
        margin = max(0, drop - quantile(drop of each draw, 1 - confidence))

    So `drop - margin` is the least loss, with that confidence (0.5 to 1). `weights` are (draws, P), see `draw`.
    """
    all_once = np.ones((1, weights.shape[1]), np.int64)
    drop = float((ap50(before, all_once) - ap50(after, all_once))[0])
    bound = float(np.nanquantile(ap50(before, weights) - ap50(after, weights), 1 - confidence))
    return drop, max(0.0, drop - bound)
