import pytest

from runner.config.override import parse_overrides
from runner.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "values", "params"),
    [
        ("train.epochs=50 +train.lr0=0.01", ["train.epochs=50", "+train.lr0=0.01"], {}),
        ("MODEL_BASE=yolov5nu.pt BATCH_SIZE=-1", ["model.base=yolov5nu.pt", "train.batch=-1"], {}),
        ("MODEL_NAME=model-autos NUM_EPOCHS=100", ["model.name=model-autos", "train.epochs=100"], {}),
        ("DEPLOY=y GPU=N GPU_TIMEOUT=12m", ["gate.deploy=true"], {"gpu": "off", "gpu-timeout": "12m"}),
        ("GPU=Y", [], {"gpu": "auto"}),
        ("IMG_RESIZE=N", ["prepare.max_width=null"], {}),
        ("IMG_RESIZE=Y MAX_WIDTH=200", ["prepare.max_width=200"], {}),
        ("split.group=a=b", ["split.group=a=b"], {}),
        ("DATASET_ZIP=store:a dataset.sha256=00", ["dataset.url=store:a", "dataset.sha256=00"], {}),
    ],
)
def test_each_reaches_its_place_when_given(given: str, values: list[str], params: dict[str, str]) -> None:
    assert parse_overrides(given.split()) == (values, params)


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
