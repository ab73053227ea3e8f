"""Which answered pictures are worth a person's look: the strategies of capture, as text in a setting."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

Name = Literal["nothing_found", "below", "near_threshold", "random"]
_EXPECTED = "expected nothing_found | below:CONFIDENCE | near_threshold:EPSILON | random:FRACTION, the numbers 0 to 1"


@dataclass(frozen=True)
class Strategy:
    """One reason to keep a picture.

    nothing_found: nothing was.
    below: something was found with a confidence below `value`.
    near_threshold: something was found within `value` of its class's threshold, above or below it.
    random: this fraction of all.
    """

    name: Name
    value: float = 0.0

    def __str__(self) -> str:
        """As in the setting."""
        return self.name if self.name == "nothing_found" else f"{self.name}:{self.value:g}"


def parse_strategies(text: str) -> tuple[Strategy, ...]:
    """Read `nothing_found,below:0.4`.

    Raises:
        ValueError: an unknown name, or a number that is missing or not 0 to 1.
    """
    return tuple(_parse(part.strip()) for part in text.split(",") if part.strip())


def _parse(part: str) -> Strategy:
    name, colon, number = part.partition(":")
    if name not in get_args(Name) or bool(colon) == (name == "nothing_found"):
        raise ValueError(f"{part!r} is no strategy; {_EXPECTED}")
    try:
        value = float(number) if colon else 0.0
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"{part!r} has no number from 0 to 1; {_EXPECTED}")
    return Strategy(cast(Name, name), value)


def margin(strategies: Sequence[Strategy]) -> float:
    """How far below the thresholds a detection still matters to these strategies."""
    return max((strategy.value for strategy in strategies if strategy.name == "near_threshold"), default=0.0)


def reasons(strategies: Sequence[Strategy], confidences: Sequence[float], thresholds: Sequence[float]) -> list[str]:
    """The strategies that ask for a picture, as text; none where it need not be kept.

    Args:
        strategies: those to ask.
        confidences: of what was found, `margin` below the thresholds included.
        thresholds: of each detection's class.
    """
    pairs = list(zip(confidences, thresholds, strict=True))
    return [str(strategy) for strategy in strategies if _asks(strategy, pairs)]


def _asks(strategy: Strategy, pairs: list[tuple[float, float]]) -> bool:
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
