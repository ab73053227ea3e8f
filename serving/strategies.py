"""Capture strategies: which answered pictures are worth labelling, as text in a setting."""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, cast, get_args

Name = Literal["nothing_found", "below", "near_threshold", "random"]
_EXPECTED = "expected nothing_found | below:CONFIDENCE | near_threshold:EPSILON | random:FRACTION, the numbers 0 to 1"


@dataclass(frozen=True)
class Strategy:
    """Reason to capture a picture.

    nothing_found: no detections.
    below: a detection with a confidence below `value`.
    near_threshold: a detection within `value` of its class's threshold, above or below.
    random: this fraction of all pictures.
    """

    name: Name
    value: float = 0.0

    def __str__(self) -> str:
        return self.name if self.name == "nothing_found" else f"{self.name}:{self.value:g}"


def parse_strategies(text: str) -> tuple[Strategy, ...]:
    """Parse `nothing_found,below:0.4`; ValueError: an unknown name, or a number that is missing or not 0 to 1."""
    return tuple(_parse(part.strip()) for part in text.split(",") if part.strip())


def _parse(part: str) -> Strategy:
    name, colon, number = part.partition(":")
    with suppress(ValueError):
        value = float(number) if colon else 0.0
        if name in get_args(Name) and bool(colon) != (name == "nothing_found") and 0 <= value <= 1:
            return Strategy(cast(Name, name), value)
    raise ValueError(f"{part!r} is not a strategy; {_EXPECTED}")


def margin(strategies: Sequence[Strategy]) -> float:
    """Return the largest confidence below a threshold at which a strategy still needs a detection."""
    return max((strategy.value for strategy in strategies if strategy.name == "near_threshold"), default=0.0)


def reasons(strategies: Sequence[Strategy], confidences: Sequence[float], thresholds: Sequence[float]) -> list[str]:
    """Return the strategies that select a picture, as text.

    The confidences are those of the detections, down to `margin` below the thresholds of their classes.
    """
    pairs = list(zip(confidences, thresholds, strict=True))
    return [str(strategy) for strategy in strategies if _selects(strategy, pairs)]


def _selects(strategy: Strategy, pairs: list[tuple[float, float]]) -> bool:
    above = [confidence for confidence, threshold in pairs if confidence > threshold]
    match strategy.name:
        case "nothing_found":
            return not above
        case "below":
            return any(confidence < strategy.value for confidence in above)
        case "near_threshold":
            return any(abs(confidence - threshold) <= strategy.value for confidence, threshold in pairs)
        case "random":
            return random.random() < strategy.value
