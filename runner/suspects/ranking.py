"""Suspicion of each labelled box, and of each place where the model finds something that has no box.

The kinds and the idea of scoring each by itself, from predictions for pictures that the model was not trained on, are
ObjectLab's: Tkachenko, Thyagarajan, Mueller, "ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection
Data", 2023, https://arxiv.org/abs/2309.00832 (overlooked, badly located, swapped). Here boxes are ranked instead of
pictures, `extra` is a kind of its own, and confidences and overlaps are related to how well this model does on these
pictures.

1. A confidence becomes the probability that a prediction matches a box of its class (a logistic fit, `Scale`).
2. Predictions of one place, whatever their classes, are a `Place`: a box, and a probability of each class.
3. Each labelled box gets the place that speaks most for it: probability times overlap, where the overlap that the
   model usually reaches counts as 1. Then, with p of its own class, q of the best other class, and that overlap f:

   wrong class     s / (s + p), with s = q · q · f: the odds against the label's class, less where q is low
   badly placed    the greater of p and q, times 1 - f
   extra           how far p · f, or q · f, is below what boxes usually have, on a logarithmic scale, times the share
                   of boxes that this model finds at all
   missed          of a place without a box: its greatest probability, less where it overlaps a box

4. The scores of two kinds are not comparable: how often a model confuses classes says nothing of how well it places
   boxes. So the kinds take turns in the list: the first of each, then the second of each, down to a least score.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from runner.stages.evaluate.metrics import OVERLAP, Boxes, Floats, overlaps

KINDS = ("missed", "extra", "wrong class", "badly placed")
SAME_PLACE = 0.5  # lowest overlap of predictions of one place
TOUCHING = 0.1  # lowest overlap of a box with the place that speaks for it
USUAL = 0.3  # probability of places from which the usual overlap is taken; also of places that speak for a box
LEAST = 1e-3  # probability that counts as nothing
LEAST_SUSPICION = 0.2  # score from which a kind has its turn


Matches = NDArray[np.intp]  # (labels,) position of each box's place, or -1


class Scale(NamedTuple):
    """Probability that a prediction is right, of its confidence: logistic of slope · logit(confidence) + offset."""

    slope: float
    offset: float

    def probability(self, confidences: Floats) -> Floats:
        """Return the probabilities, (N,) 0 to 1, of confidences, (N,) 0 to 1."""
        return np.asarray(_logistic(self.slope * _logit(confidences) + self.offset), np.float64)


class Place(NamedTuple):
    """What the model finds in one place of a picture."""

    xyxy_px: Floats  # (4,) of the most confident prediction
    by_class: Floats  # (classes,) probability of each class, 0 to 1

    @property
    def class_id(self) -> int:
        """The most probable class."""
        return int(self.by_class.argmax())

    @property
    def probability(self) -> float:
        """Of that class."""
        return float(self.by_class.max())


class Suspect(NamedTuple):
    """A labelled box, or a place without one, and how likely its label is wrong."""

    picture: int  # position in the list of judged pictures
    kind: str  # one of KINDS
    suspicion: float  # score of that kind, 0 to 1
    scores: dict[str, float]  # of each kind that applies
    label: int | None  # position in the labelled boxes; None: missed
    class_id: int | None  # of the label
    place: Place | None  # what the model finds there; None: nothing

    @classmethod
    def of_highest(
        cls, picture: int, scores: dict[str, float], label: int | None, class_id: int | None, place: Place | None
    ) -> Self:
        """Return a suspect of the kind with the highest score."""
        kind = max(scores, key=lambda name: scores[name])
        return cls(picture, kind, scores[kind], scores, label, class_id, place)


def rank_suspects(suspects: Sequence[Suspect]) -> list[Suspect]:
    """Return the suspects, the most suspicious first: the kinds take turns, each by its own score.

    A box counts for the kind in which it comes first. Those below LEAST_SUSPICION in every kind come last.
    """
    place_of: dict[int, tuple[int, str]] = {}
    for kind in KINDS:
        own = [number for number, suspect in enumerate(suspects) if suspect.scores.get(kind, 0.0) >= LEAST_SUSPICION]
        own.sort(key=lambda number: -suspects[number].scores[kind])
        for turn, number in enumerate(own):
            if number not in place_of or turn < place_of[number][0]:
                place_of[number] = (turn, kind)
    first = []
    for number, (turn, kind) in place_of.items():
        first.append((turn, suspects[number]._replace(kind=kind, suspicion=suspects[number].scores[kind])))
    first.sort(key=lambda each: (each[0], -each[1].suspicion))
    rest = [suspect for number, suspect in enumerate(suspects) if number not in place_of]
    return [suspect for _, suspect in first] + sorted(rest, key=lambda suspect: -suspect.suspicion)


def score_suspects(labelled: Sequence[Boxes], found: Sequence[Boxes], classes: int) -> list[Suspect]:
    """Return every labelled box and every place without one, with their scores.

    Args:
        labelled: boxes of each judged picture, in its pixels.
        found: one model's predictions for it, from a confidence of 0.001 or so on; a box may have several classes.
        classes: number of classes.
    """
    scale = fit_scale(labelled, found)
    places = [find_places(each, scale, classes) for each in found]
    close = [overlaps(truth.xyxy_px, _boxes_of(own)) for truth, own in zip(labelled, places, strict=True)]
    usual = usual_overlap(places, close)
    fits = [np.clip(each / usual, 0, 1) for each in close]
    probabilities = [np.array([place.probability for place in own], np.float64) for own in places]
    support = [fit * each for fit, each in zip(fits, probabilities, strict=True)]  # (labels, places) of each picture
    matches = [_assign(weight, each) for weight, each in zip(support, close, strict=True)]
    evidence = [_evidence(own, fit, match) for own, fit, match in zip(places, fits, matches, strict=True)]
    everything = np.concatenate([np.zeros(0), *evidence])
    usual_evidence = float(np.median(everything)) if len(everything) else 1.0
    found_share = float((everything >= usual_evidence / 10).mean()) if len(everything) else 1.0
    suspects: list[Suspect] = []
    for picture, truth in enumerate(labelled):
        own, fit, match = places[picture], fits[picture], matches[picture]
        for label, class_id in enumerate(truth.class_ids.tolist()):
            place = own[match[label]] if match[label] >= 0 else None
            scores = {"extra": _lack(evidence[picture][label], usual_evidence) * found_share}
            if place is not None:
                scores |= _scores(place, class_id, float(fit[label, match[label]]))
            suspects.append(Suspect.of_highest(picture, scores, label, class_id, place))
        for number in sorted(set(range(len(own))) - set(match.tolist())):
            taken = float(fit[:, number].max()) if len(fit) else 0.0
            scores = {"missed": own[number].probability * (1 - taken)}
            suspects.append(Suspect.of_highest(picture, scores, None, None, own[number]))
    return suspects


def fit_scale(labelled: Sequence[Boxes], found: Sequence[Boxes]) -> Scale:
    """Fit the scale on all predictions, held to the confidences as they are where there are few of them.

    A prediction is right when it overlaps a box of its class by half or more, and no more confident one does.
    """
    confidences, right = [np.zeros(0)], [np.zeros(0)]
    for truth, each in zip(labelled, found, strict=True):
        same = (overlaps(each.xyxy_px, truth.xyxy_px) >= OVERLAP) & (
            each.class_ids[:, None] == truth.class_ids[None, :]
        )
        first = same & (same.cumsum(axis=0) == 1)
        kept = first.any(axis=1) | ~same.any(axis=1)  # repeated predictions of a found box are neither right nor wrong
        confidences.append(each.confidences[kept])
        right.append(first.any(axis=1)[kept].astype(np.float64))
    x, y = _logit(np.concatenate(confidences)), np.concatenate(right)
    start = np.array([1.0, 0.0])
    values, columns = start.copy(), np.stack([x, np.ones_like(x)], axis=1)
    for _ in range(50):  # Newton's method on the logistic loss, with a ridge towards the confidences themselves
        mean = _logistic(columns @ values)
        gradient = columns.T @ (mean - y) + (values - start)
        curvature = (columns * (mean * (1 - mean))[:, None]).T @ columns + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        values = values - step / max(1.0, float(np.abs(step).max()))  # a longer one may overshoot
    return Scale(max(float(values[0]), 0.1), float(values[1]))


def find_places(found: Boxes, scale: Scale, classes: int) -> list[Place]:
    """Return the places of a picture's predictions, the most confident first."""
    probabilities = scale.probability(found.confidences)
    close = overlaps(found.xyxy_px, found.xyxy_px) >= SAME_PLACE
    free = np.ones(len(probabilities), bool)
    places: list[Place] = []
    for leader in np.argsort(-probabilities, kind="stable").tolist():
        if not free[leader]:
            continue
        members = np.flatnonzero(free & close[leader] | (np.arange(len(free)) == leader))
        free[members] = False
        by_class = np.zeros(classes)
        np.maximum.at(by_class, found.class_ids[members], probabilities[members])
        places.append(Place(found.xyxy_px[leader], by_class))
    return places


def usual_overlap(places: Sequence[Sequence[Place]], close: Sequence[Floats]) -> float:
    """Return the median overlap of probable places with the box that they overlap most, 0.5 to 1."""
    best = [
        float(each[:, number].max())
        for own, each in zip(places, close, strict=True)
        for number, place in enumerate(own)
        if len(each) and place.probability >= USUAL and each[:, number].max() >= OVERLAP
    ]
    return float(np.median(best)) if best else 0.75


def _assign(weight: Floats, close: Floats) -> Matches:
    """Return the place of each box, or -1: the pair that weighs most goes first, and each is in one pair."""
    matches = np.full(len(weight), -1, np.intp)
    rest = np.where(close >= TOUCHING, weight, 0.0)
    while rest.size and rest.max() > 0:
        label, place = np.unravel_index(int(rest.argmax()), rest.shape)
        matches[label] = place
        rest[label, :] = 0
        rest[:, place] = 0
    return matches


def _evidence(places: Sequence[Place], fit: Floats, match: Matches) -> Floats:
    """Return (labels,): how much speaks for something being there, of any class."""
    speaking = [
        places[place].probability * fit[label, place] if place >= 0 else 0.0 for label, place in enumerate(match)
    ]
    return np.array(speaking, np.float64)


def _lack(evidence: float, usual: float) -> float:
    """Return 0 for a box with at least a tenth of the usual evidence, 1 for one with none, by its logarithm."""
    low, high = np.log(LEAST), np.log(max(usual / 3, 10 * LEAST))
    return float(np.clip((high - np.log(max(evidence, LEAST))) / (high - low), 0, 1))


def _scores(place: Place, class_id: int, fit: float) -> dict[str, float]:
    own, others = float(place.by_class[class_id]), np.delete(place.by_class, class_id)
    other = float(others.max()) if len(others) else 0.0
    against = other * other * fit
    return {"wrong class": against / (against + max(own, 10 * LEAST)), "badly placed": place.probability * (1 - fit)}


def _boxes_of(places: Sequence[Place]) -> Floats:
    return np.array([place.xyxy_px for place in places], np.float64).reshape(-1, 4)


def _logit(confidences: Floats) -> Floats:
    safe = np.clip(confidences, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(safe / (1 - safe)), np.float64)


def _logistic(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -50, 50))), np.float64)
