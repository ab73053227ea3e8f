from runner.sweep.search import suggest
from runner.sweep.space import parse_axes

AXES, _ = parse_axes(["train.lr0=tag(log,interval(0.0001,1))", "train.epochs=int(interval(1,9))", "presets.model=a,b"])


def test_the_first_trials_differ_and_are_inside_the_space() -> None:
    drawn = [suggest(AXES, [], number) for number in range(8)]
    assert len({tuple(values) for values in drawn}) == len(drawn)
    assert drawn[0] == suggest(AXES, [], 0)
    for values in drawn:
        keys, texts = zip(*(each.split("=") for each in values), strict=True)
        assert keys == ("++train.lr0", "++train.epochs", "++presets.model")
        assert 0.0001 <= float(texts[0]) <= 1 and int(texts[1]) in range(1, 10) and texts[2] in ("a", "b")


def test_later_trials_have_the_better_value_when_many_were_told() -> None:
    first = [suggest(AXES, [], number) for number in range(20)]
    told = [(values, float("++presets.model=a" in values)) for values in first]
    later = [suggest(AXES, told, number) for number in range(100, 110)]
    found, before = (sum("++presets.model=a" in values for values in each) for each in (later, first[:10]))
    assert found >= 8 > before
