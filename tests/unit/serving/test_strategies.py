"""Strategies: their text, and what they ask for."""

import pytest

from serving.strategies import Strategy, margin, parse_strategies, reasons


def test_nothing_asked_for_when_there_are_none() -> None:
    assert parse_strategies("") == ()
    assert margin(()) == 0
    assert reasons((), [], []) == []


def test_read_when_well_formed() -> None:
    text = "nothing_found, below:0.4,near_threshold:0.05,random:1"
    assert ",".join(map(str, parse_strategies(text))) == text.replace(" ", "")
    assert margin(parse_strategies(text)) == 0.05


@pytest.mark.parametrize("text", ["most", "below", "below:x", "below:2", "random:-1", "nothing_found:1", "below:nan"])
def test_refused_when_malformed(text: str) -> None:
    with pytest.raises(ValueError, match="expected nothing_found"):
        parse_strategies(text)


@pytest.mark.parametrize(
    ("confidences", "asked"),
    [
        ([], ["nothing_found"]),
        ([0.1], ["nothing_found"]),
        ([0.9], []),
        ([0.35], ["below:0.4"]),
        ([0.26], ["below:0.4", "near_threshold:0.05"]),
        ([0.22], ["nothing_found", "near_threshold:0.05"]),
        ([0.9, 0.22], ["near_threshold:0.05"]),
    ],
)
def test_asked_for_when_the_reason_holds(confidences: list[float], asked: list[str]) -> None:
    strategies = parse_strategies("nothing_found,below:0.4,near_threshold:0.05")
    assert reasons(strategies, confidences, [0.25] * len(confidences)) == asked


def test_all_or_none_when_random_says_so() -> None:
    assert reasons((Strategy("random", 1.0),), [0.9], [0.2]) == ["random:1"]
    assert reasons((Strategy("random", 0.0),), [0.9], [0.2]) == []
