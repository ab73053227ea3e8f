import pytest

from serving.strategies import margin, parse_strategies, reasons

ALL = "nothing_found, below:0.4,near_threshold:0.05,random:1"


@pytest.mark.parametrize(("text", "below"), [("", 0), (ALL, 0.05), ("near_threshold:0.1,near_threshold:0.3", 0.3)])
def test_read_when_well_formed(text: str, below: float) -> None:
    strategies = parse_strategies(text)
    assert ",".join(map(str, strategies)) == text.replace(" ", "")
    assert margin(strategies) == below


@pytest.mark.parametrize("text", ["most", "below", "below:x", "below:2", "random:-1", "nothing_found:1", "below:nan"])
def test_refused_when_malformed(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' .*nothing_found"):
        parse_strategies(text)


@pytest.mark.parametrize(
    ("strategies", "confidences", "selected"),
    [
        ("", [], []),
        (ALL, [], ["nothing_found", "random:1"]),
        (ALL, [0.1], ["nothing_found", "random:1"]),
        (ALL, [0.9], ["random:1"]),
        (ALL, [0.35], ["below:0.4", "random:1"]),
        (ALL, [0.26], ["below:0.4", "near_threshold:0.05", "random:1"]),
        (ALL, [0.22], ["nothing_found", "near_threshold:0.05", "random:1"]),
        (ALL, [0.9, 0.22], ["near_threshold:0.05", "random:1"]),
        ("random:0", [0.9], []),
    ],
)
def test_selected_when_the_reason_holds(strategies: str, confidences: list[float], selected: list[str]) -> None:
    assert reasons(parse_strategies(strategies), confidences, [0.25] * len(confidences)) == selected
