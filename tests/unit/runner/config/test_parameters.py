"""The workshop's parameters, and keys of params.yaml, sorted into what a run is given."""

import pytest

from runner.config.parameters import Overrides, parse_overrides
from runner.errors import ConfigError


def test_the_workshops_names_become_ours_when_given() -> None:
    given = ["MODEL_BASE=yolov5nu.pt", "BATCH_SIZE=-1", "NUM_EPOCHS=100", "GPU_TIMEOUT=12m", "IMG_RESIZE=Y"]
    given += ["MAX_WIDTH=200", "MODEL_NAME=model-autos", "GPU=N", "DEPLOY=y"]
    values = ["model.base=yolov5nu.pt", "train.batch=-1", "train.epochs=100", "prepare.max_width=200"]
    assert parse_overrides(given) == Overrides(
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
        ("DATASET_ZIP=store:a dataset.sha256=00", ["dataset.url=store:a", "dataset.sha256=00"], {}),
    ],
)
def test_each_reaches_its_place_when_given(given: str, values: list[str], params: dict[str, str]) -> None:
    assert parse_overrides(given.split()) == Overrides(values, params)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("epochs", "'epochs': expected NAME=VALUE"),
        ("=5", "'=5': expected NAME=VALUE"),
        ("GPU=maybe", "GPU: found 'maybe'"),
        ("MODEL_WEIGHTS=x.pt", "MODEL_WEIGHTS: no such parameter, expected one of DATASET_ZIP"),
        ("DATASET_ZIP=store:datasets/a/b.zip", r"store:datasets/a/b\.zip needs dataset\.sha256"),
    ],
)
def test_refused_when_it_cannot_be_meant(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_overrides([given])
