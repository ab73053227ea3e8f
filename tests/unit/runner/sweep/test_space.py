import pytest

from runner.errors import ConfigError
from runner.sweep.space import Axis, Interval, corners, grid, parse_axes


@pytest.mark.parametrize(
    ("word", "axis"),
    [
        ("train.lr0=0.001,0.01", Axis("train.lr0", ("0.001", "0.01"))),
        ("+train.lr0=0.001", Axis("train.lr0", ("0.001",))),
        ("presets.model=choice(yolo11n,yolo11s)", Axis("presets.model", ("yolo11n", "yolo11s"))),
        ("train.epochs=range(10,40,10)", Axis("train.epochs", ("10", "20", "30"))),
        ("NUM_EPOCHS=10,20", Axis("train.epochs", ("10", "20"))),
        ("dataset.classes={car: vehicle},{}", Axis("dataset.classes", ("{car:vehicle}", "{}"))),
        ("split.group='a b',c", Axis("split.group", ("'a b'", "c"))),
        ("train.lr0=interval(0.001,0.1)", Axis("train.lr0", (), Interval(0.001, 0.1, False, False))),
        ("train.lr0=tag(log,interval(0.001,0.1))", Axis("train.lr0", (), Interval(0.001, 0.1, False, True))),
        ("train.epochs=int(interval(1,10))", Axis("train.epochs", (), Interval(1, 10, True, False))),
    ],
)
def test_hydras_syntax_is_understood(word: str, axis: Axis) -> None:
    assert parse_axes([word]) == ([axis], {})


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["GPU=N"], "values to try"),
        (["train.lr0=0.1,0.2", "++train.lr0=0.3"], "train.lr0: given twice"),
        (["train.lr0=choice("], r"train\.lr0=choice\("),
        (["~train.lr0="], "~train.lr0"),
        (["train@val=1,2"], "train@val"),
        (["presets.model=glob(*)"], "glob"),
        (["a=${oc.env:HOME},1"], "oc.env"),
        ([r"a=$\{oc.env:HOME},1"], "oc.env"),
        (["a=interval(2,1)"], "below HIGH"),
        (["a=tag(log,interval(0,1))"], "above 0"),
        (["a=range(2,2)"], "no values"),
    ],
)
def test_refused_with_the_word_when_it_is_no_sweep(words: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_axes(words)


def test_a_grid_has_each_combination_and_the_gpu_is_of_the_run() -> None:
    axes, params = parse_axes(["train.lr0=0.1,0.2", "seed=7", "presets.model=a,b", "GPU=N"])
    assert params == {"gpu": "off"}
    lr, model = ("++train.lr0=0.1", "++train.lr0=0.2"), ("++presets.model=a", "++presets.model=b")
    assert grid(axes) == [[one, "++seed=7", other] for one in lr for other in model]
    assert corners(axes) == [[lr[0], "++seed=7", model[0]], [lr[1], "++seed=7", model[1]]]


def test_an_interval_is_for_a_search_alone() -> None:
    axes, _ = parse_axes(["train.epochs=int(interval(1,10))", "seed=1,2,3"])
    with pytest.raises(ConfigError, match=r"train\.epochs.*SEARCH="):
        grid(axes)
    assert [each[0] for each in corners(axes)] == ["++train.epochs=1", "++train.epochs=10", "++train.epochs=10"]
