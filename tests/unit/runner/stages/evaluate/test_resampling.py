"""Average precision of test pictures that are drawn anew, held against the library that `evaluate` uses."""

import numpy as np
import pytest

from runner.stages.evaluate.metrics import Boxes, average_precision
from runner.stages.evaluate.resampling import Ranked, ap50, draw, drop_of, rank

Pictures = tuple[list[Boxes], list[Boxes]]


def boxes(*rows: tuple[float, int, float]) -> Boxes:
    """Boxes of 10x10 pixels, each (left, class, confidence), the most confident first."""
    left = np.array([row[0] for row in rows], np.float64).reshape(-1, 1)
    xyxy = np.concatenate([left, np.zeros_like(left), left + 10, np.full_like(left, 10)], axis=1)
    return Boxes(xyxy, np.array([row[1] for row in rows], np.int64), np.array([row[2] for row in rows], np.float64))


def pictures(count: int, classes: int, most: int, strays: int, seed: int = 0) -> Pictures:
    """Pictures with up to `most` labelled boxes, three in four of them found, and as many false ones."""
    random = np.random.default_rng(seed)
    labelled, found = [], []
    for _ in range(count):
        truth = [(20.0 * place, int(random.integers(classes)), 1.0) for place in range(random.integers(most + 1))]
        right = [(left + random.normal(), kind, random.random()) for left, kind, _ in truth if random.random() < 0.75]
        false = [(500 + 20.0 * place, int(random.integers(classes)), 0.8 * random.random()) for place in range(strays)]
        labelled.append(boxes(*truth))
        found.append(boxes(*sorted(right + false, key=lambda row: -row[2])))
    return labelled, found


def test_nothing_is_known_when_there_is_no_box() -> None:
    (ranked,) = rank([boxes()], [boxes()], 1)
    assert np.isnan(ap50(ranked, np.ones((2, 1), np.int64))).all()
    (ranked,) = rank([boxes()], [boxes((0, 0, 0.9))], 1)
    assert np.isnan(ap50(ranked, np.ones((1, 1), np.int64))).all()
    assert rank([], [], 2)[1].labelled.shape == (0,)
    (ranked,) = rank([boxes((0, 0, 1))], [boxes()], 1)  # nothing found, in one draw; nothing drawn, in the other
    assert ap50(ranked, np.array([[1], [0]])).tolist() == pytest.approx([0, np.nan], nan_ok=True)


@pytest.mark.parametrize(("count", "most", "strays"), [(3, 1, 1), (40, 4, 10), (200, 3, 60)])
def test_it_is_the_librarys_figure_when_each_picture_counts_once_or_is_drawn(
    count: int, most: int, strays: int
) -> None:
    labelled, found = pictures(count, 3, most, strays)
    weights = np.concatenate([np.ones((1, count), np.int64), draw(count, 3)])
    figures = np.array([ap50(each, weights) for each in rank(labelled, found, 3)])
    for number, row in enumerate(weights):
        drawn = np.repeat(np.arange(count), row)
        again = average_precision([labelled[i] for i in drawn], [found[i] for i in drawn], 3, 10_000)
        assert figures[:, number] == pytest.approx(again.map50, abs=1e-9, nan_ok=True)


def test_draws_are_repeatable_and_nothing_is_lost_when_both_are_the_same() -> None:
    assert (draw(7, 100) == draw(7, 100)).all() and (draw(7, 100).sum(axis=1) == 7).all()
    labelled, found = pictures(30, 1, 3, 8)
    (ranked,) = rank(labelled, found, 1)
    assert drop_of(ranked, ranked, draw(30, 200), 0.95) == (0, 0)


def two_models(count: int, seed: int) -> tuple[Ranked, Ranked]:
    """What two models found in pictures of one world; the second misses a fifth of what the first found."""
    labelled, found = pictures(count, 1, 3, 4, seed)
    thrown = np.random.default_rng(1000 + seed)
    weaker = [each.take(np.flatnonzero(thrown.random(len(each.class_ids)) > 0.2)) for each in found]
    return rank(labelled, found, 1)[0], rank(labelled, weaker, 1)[0]


def test_the_margin_shrinks_when_there_are_more_pictures_and_widens_with_the_confidence() -> None:
    margins = [drop_of(*two_models(count, 3), draw(count, 500), 0.95)[1] for count in (10, 100, 1000)]
    assert margins[0] > 2 * margins[1] > 4 * margins[2] > 0
    assert drop_of(*two_models(100, 3), draw(100, 500), 0.99)[1] > margins[1]


def test_the_true_loss_is_rarely_overstated_when_there_are_few_pictures() -> None:
    """The promise of the bound: in 5 of 100 samples, not in many, drop - margin lies above the loss in all pictures."""
    true_loss, _ = drop_of(*two_models(5000, 999), draw(5000, 1), 0.95)
    bounds = [drop_of(*two_models(80, seed), draw(80, 300), 0.95) for seed in range(60)]
    assert sum(drop - margin > true_loss for drop, margin in bounds) <= 9
    assert sum(drop > true_loss for drop, _ in bounds) > 20
