"""The workshop's parameters, and keys of params.yaml, sorted into what a run is given."""

import pytest

from runner.config.parameters import NAMES, Wanted, parse_overrides
from runner.errors import ConfigError


def test_nothing_is_wanted_when_nothing_is_given() -> None:
    assert parse_overrides([]) == Wanted([], {})


def test_the_workshops_names_become_ours_when_given() -> None:
    given = ["MODEL_BASE=yolov5nu.pt", "BATCH_SIZE=-1", "NUM_EPOCHS=100", "GPU_TIMEOUT=12m", "IMG_RESIZE=Y"]
    given += ["MAX_WIDTH=200", "MODEL_NAME=model-autos", "GPU=N", "DEPLOY=y"]
    values = ["model.base=yolov5nu.pt", "train.batch=-1", "train.epochs=100", "prepare.max_width=200"]
    assert parse_overrides(given) == Wanted(
        [*values, "model.name=model-autos", "gate.deploy=true"], {"gpu-timeout": "12m", "gpu": "off"}
    )


@pytest.mark.parametrize(
    ("given", "values", "params"),
    [
        ("train.epochs=50", ["train.epochs=50"], {}),
        ("+train.lr0=0.01", ["+train.lr0=0.01"], {}),
        ("GPU=Y", [], {"gpu": "auto"}),
        ("IMG_RESIZE=N", ["prepare.max_width=null"], {}),
        ("IMG_RESIZE=Y", [], {}),
        ("split.group=a=b", ["split.group=a=b"], {}),
    ],
)
def test_each_reaches_its_place_when_given(given: str, values: list[str], params: dict[str, str]) -> None:
    assert parse_overrides([given]) == Wanted(values, params)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("epochs", "'epochs': expected NAME=VALUE, such as"),
        ("=5", "'=5': expected NAME=VALUE"),
        ("GPU=maybe", "GPU: found 'maybe', expected Y or N"),
        ("MODEL_WEIGHTS=x.pt", "MODEL_WEIGHTS: no such parameter, expected one of DATASET_ZIP, MODEL_BASE"),
        ("DATASET_ZIP=store:datasets/a/b.zip", r"needs dataset\.sha256=… too; `python -m runner dataset add"),
    ],
)
def test_refused_when_it_cannot_be_meant(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_overrides([given])


def test_a_dataset_is_taken_when_its_digest_comes_with_it() -> None:
    assert "DATASET_ZIP" in NAMES
    given = ["DATASET_ZIP=store:datasets/a/b.zip", "dataset.sha256=00"]
    assert parse_overrides(given).values == ["dataset.url=store:datasets/a/b.zip", "dataset.sha256=00"]
