from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.planting import KINDS as PLANTED
from benchmarks.planting import Planted, Rows, corners, plant
from runner.stages.evaluate.metrics import Boxes
from runner.suspects.ranking import KINDS, Suspect, fit_scale, rank_suspects, score_suspects
from tests.unit.runner.stages.evaluate.test_metrics import NONE, boxes

LEFT, RIGHT, FAR = (10, 10, 30, 30), (60, 10, 80, 30), (60, 60, 80, 80)
SURE = [(*LEFT, 0, 0.95), (*RIGHT, 1, 0.9)]
RIGHT_LABELS = boxes((*LEFT, 0, 1), (*RIGHT, 1, 1))


def first(labelled: Boxes, *found: tuple[float, float, float, float, int, float]) -> Suspect:
    """The most suspicious of a picture among ten others on which the model is right."""
    pictures = [labelled] + [RIGHT_LABELS] * 10
    predictions = [boxes(*found)] + [boxes(*SURE)] * 10
    ranked = suspects_of(pictures, predictions)
    assert ranked[0].picture == 0
    return ranked[0]


def suspects_of(labelled: Sequence[Boxes], found: Sequence[Boxes]) -> list[Suspect]:
    return rank_suspects(score_suspects(labelled, found, 2))


@pytest.mark.parametrize("found", [NONE, boxes(*SURE)])
def test_the_list_has_each_box_and_each_place_without_one(found: Boxes) -> None:
    assert suspects_of([], []) == []
    assert suspects_of([NONE], [NONE]) == []
    ranked = suspects_of([NONE, RIGHT_LABELS], [boxes(*SURE), found])
    assert sum(each.label is None for each in ranked) == 2
    assert sum(each.label is not None for each in ranked) == 2


def test_nothing_is_suspicious_when_the_model_agrees() -> None:
    ranked = suspects_of([RIGHT_LABELS] * 10, [boxes(*SURE)] * 10)
    assert len(ranked) == 20 and max(each.suspicion for each in ranked) < 0.05


def test_missed_when_a_sure_prediction_has_no_box() -> None:
    suspect = first(RIGHT_LABELS, *SURE, (*FAR, 1, 0.9))
    assert (suspect.kind, suspect.label) == ("missed", None)
    assert suspect.place is not None and suspect.place.class_id == 1 and suspect.suspicion > 0.5


def test_extra_when_nothing_is_found_at_a_box() -> None:
    suspect = first(boxes((*LEFT, 0, 1), (*RIGHT, 1, 1), (*FAR, 0, 1)), *SURE)
    assert (suspect.kind, suspect.label, suspect.place) == ("extra", 2, None)


def test_wrong_class_when_another_class_is_found_there() -> None:
    """A box may be predicted in several classes; the sum over both is what counts."""
    suspect = first(boxes((*LEFT, 0, 1), (*RIGHT, 0, 1)), *SURE, (*RIGHT, 0, 0.05))
    assert (suspect.kind, suspect.label) == ("wrong class", 1)
    assert suspect.scores["wrong class"] > 0.5 > suspect.scores["badly placed"]
    agreed = first(boxes((*LEFT, 0, 1), (*RIGHT, 0, 1)), *SURE, (*RIGHT, 0, 0.9))
    assert agreed.scores["wrong class"] < suspect.scores["wrong class"]


def test_badly_placed_when_the_prediction_is_beside_the_box() -> None:
    """One error, one suspect: the prediction is not missed too."""
    shifted = (LEFT[0] + 7, LEFT[1] + 7, LEFT[2] + 7, LEFT[3] + 7)
    suspect = first(boxes((*shifted, 0, 1), (*RIGHT, 1, 1)), *SURE)
    assert (suspect.kind, suspect.label) == ("badly placed", 0)
    ranked = suspects_of([boxes((*shifted, 0, 1))], [boxes(SURE[0])])
    assert [each.kind for each in ranked] == ["badly placed"]


def test_a_box_is_less_suspicious_when_the_model_overlooks_such_boxes_often() -> None:
    unseen = boxes((*LEFT, 0, 1), (*FAR, 0, 1))
    often = [each for each in suspects_of([unseen] * 10, [boxes(SURE[0])] * 10) if each.label == 1]
    assert max(each.suspicion for each in often) < first(unseen, SURE[0]).suspicion


def test_confidences_become_probabilities_of_being_right() -> None:
    """Half of those of 0.9 are right; without predictions a confidence stays as it is."""
    truth, found = boxes((*LEFT, 0, 1)), boxes((*LEFT, 0, 0.9), (*FAR, 0, 0.9))
    confidence = np.array([0.9])
    assert fit_scale([truth] * 200, [found] * 200).probability(confidence) == pytest.approx(0.5, abs=0.02)
    assert fit_scale([], []).probability(confidence) == pytest.approx(0.9)


def test_the_kinds_take_turns() -> None:
    """A model that confuses classes often does not hide the boxes that it misses."""
    confused = [boxes((*LEFT, 0, 1))] * 5
    found = [boxes((*LEFT, 1, 0.9))] * 5
    lacking = [NONE] * 5 + [RIGHT_LABELS] * 10
    ranked = suspects_of(confused + lacking, [*found, *[boxes((*FAR, 0, 0.6))] * 5, *[boxes(*SURE)] * 10])
    assert {each.kind for each in ranked[:2]} == {each.kind for each in ranked[2:4]} == {"wrong class", "missed"}
    own = {kind: [each.suspicion for each in ranked if each.kind == kind] for kind in KINDS}
    assert all(scores == sorted(scores, reverse=True) for scores in own.values())


def test_planted_errors_come_first_when_the_model_is_good() -> None:
    """120 pictures of two boxes; predictions are off by some pixels, unsure, and sometimes absent or false."""
    random = np.random.default_rng(3)
    labels = {}
    for number in range(120):
        centres = np.array([[0.25, 0.3], [0.7, 0.65]]) + random.uniform(-0.08, 0.08, (2, 2))
        sides = random.uniform(0.1, 0.25, (2, 2))
        labels[f"{number:03}"] = np.concatenate([random.integers(0, 2, (2, 1)), centres, sides], axis=1)
    found = [_predictions(rows, random) for rows in labels.values()]
    changed, planted = plant(labels, 2, 0.05, 0)
    assert {each.kind for each in planted} == set(PLANTED) and len(planted) == 12
    truth = [Boxes(corners(rows), rows[:, 0].astype(np.int64), np.ones(len(rows))) for rows in changed.values()]
    ranked = suspects_of(truth, found)[: 2 * len(planted)]
    pictures = list(labels)

    def is_caught(error: Planted) -> bool:
        own = (each for each in ranked if pictures[each.picture] == error.image)
        boxes_of = (
            truth[each.picture].xyxy_px[each.label]
            if each.place is None or each.label is not None
            else each.place.xyxy_px
            for each in own
        )
        return any(np.abs(box - error.box).max() < 0.05 for box in boxes_of)

    assert sum(map(is_caught, planted)) >= 0.9 * len(planted)
    assert {each.kind for each in ranked} == set(KINDS)


def _predictions(rows: Rows, random: np.random.Generator) -> Boxes:
    """What a model of about 0.9 mAP50 says of right labels."""
    near = corners(rows) + random.normal(0, 0.008, (len(rows), 4))
    right = random.random(len(rows)) < 0.93
    confidences = np.where(right, random.beta(8, 2, len(rows)), random.beta(1, 12, len(rows)))
    far = np.array([[0.8, 0.05, 0.95, 0.2]])
    table = np.concatenate([near, far])
    ids = np.append(rows[:, 0], random.integers(0, 2)).astype(np.int64)
    scores = np.append(confidences, random.beta(1, 12))
    order = np.argsort(-scores)
    return Boxes(table[order], ids[order], scores[order])
