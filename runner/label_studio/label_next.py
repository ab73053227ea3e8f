"""What to label next: a score of each picture, 0 to 1, from what models say of it. It is the mean of five parts:

    uncertainty    how near a confidence is to the threshold of its class; of the nearest
    nothing_found  1: no confidence reaches its threshold
    shadow         of the boxes that the served model and its challenger found, those that only one of them found
    rare_class     how rare the rarest class of its boxes is among the labelled boxes
    diversity      how unlike it is to all pictures that have a task, and to those chosen before it

Diversity is the greedy k-centre of O. Sener and S. Savarese ("Active Learning for Convolutional Neural Networks: A
Core-Set Approach", 2018), by the Hamming distance of difference hashes.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item")
POOL = 10  # pictures that are compared, for each that is chosen: to read all of them would take too long
FAR_CONFIDENCE = 0.5  # distance from a threshold at which a confidence is certain
FAR_BITS = 32  # [of 64] as far apart as the hashes of two pictures are by chance


class Evidence(NamedTuple):
    """What models say of a picture."""

    labels: Sequence[str]  # of the boxes, those just below their threshold too
    found: int  # number of boxes above their threshold
    margin: float | None  # [confidence] distance to the threshold of its class, of the nearest box; None: no box
    shadow: float = 0.0  # the part above


class Parts(NamedTuple):
    """Parts of a score, each 0 to 1; or their weights."""

    uncertainty: float
    nothing_found: float
    shadow: float
    rare_class: float
    diversity: float

    @property
    def score(self) -> float:
        """Mean of the parts."""
        return sum(self) / len(self)

    def task_data(self) -> dict[str, str]:
        """Return the parts for a task's data, and the score as its priority, below 1 which is a report's."""
        return {"priority": f"{min(self.score, 0.99):.2f}"} | {
            name: f"{value:.2f}" for name, value in self._asdict().items()
        }


EQUAL = Parts(1, 1, 1, 1, 1)


def parts_of(evidence: Evidence, counts: Mapping[str, int]) -> Parts:
    """Return the parts without the diversity, which is 0; `counts` has the labelled boxes of each class."""
    margin, most = evidence.margin, max(counts.values(), default=0)
    return Parts(
        uncertainty=0.0 if margin is None else max(0.0, 1 - margin / FAR_CONFIDENCE),
        nothing_found=float(evidence.found == 0),
        shadow=evidence.shadow,
        rare_class=max((1 - counts.get(label, 0) / most for label in evidence.labels), default=0.0) if most else 0.0,
        diversity=0.0,
    )


def shortlist(pictures: Iterable[tuple[Item, Parts]], most: int) -> list[tuple[Item, Parts]]:
    """Return the pictures of the greatest scores, to choose `most` of them; of equal ones the first come first."""
    return heapq.nlargest(POOL * most, pictures, key=lambda each: each[1].score)


def most_useful(
    parts: Sequence[Parts],
    hashes: Sequence[int | None],
    known: Iterable[int],
    most: int,
    weights: Parts = EQUAL,
) -> list[tuple[int, Parts]]:
    """Return the places of the candidates to label, the most useful first, each with its parts when it was chosen.

    `hashes` are difference hashes of 64 bits, of the candidates (None: unknown, its diversity is 0) and of the `known`
    pictures. Of equal candidates the first is chosen. `weights` are those of the parts in the order, not in the parts.
    """
    own = np.array([each or 0 for each in hashes], np.uint64)
    nearest = np.where([each is None for each in hashes], 0, FAR_BITS)
    for other in known:
        nearest = np.minimum(nearest, np.bitwise_count(own ^ np.uint64(other)))
    fixed = np.array(parts, np.float64).reshape(-1, len(weights)) @ np.array(weights)
    chosen: list[tuple[int, Parts]] = []
    rest = np.ones(len(parts), np.bool_)
    for _ in range(min(most, len(parts))):
        useful = fixed + weights.diversity * nearest / FAR_BITS
        place = int(np.argmax(np.where(rest, useful, -np.inf)))
        chosen.append((place, parts[place]._replace(diversity=float(nearest[place] / FAR_BITS))))
        rest[place] = False
        if hashes[place] is not None:
            nearest = np.minimum(nearest, np.bitwise_count(own ^ own[place]))
    return chosen
