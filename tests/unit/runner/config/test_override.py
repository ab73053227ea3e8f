from pathlib import Path

import pytest

from runner.config.compose import compose
from runner.config.override import NOTE, limit, override, set_values, trial_note
from runner.errors import ConfigError

RESOLVERS = (
    "${oc.env:SECRET}",
    "'a ${oc.env:SECRET}'",
    "[${oc.env:SECRET}]",
    r"$\{oc.env\:SECRET\}",
    r"\${oc.env:SECRET}",
)


def text_of(configured: Path) -> str:
    return (configured / "params.yaml").read_text(encoding="utf-8")


def test_values_are_set_and_said_when_given(configured: Path) -> None:
    values, before = ["train.epochs=3", "+train.lr0=0.01", "presets.model=yolov8n_scratch"], text_of(configured)
    set_values(configured, [])
    assert (trial_note(configured), text_of(configured)) == ("", before)
    override(configured, values, "tried:")
    config = compose(configured)[0]
    assert (config.train.epochs, config.train.lr0, config.model.base) == (3, 0.01, "yolov8n.yaml")
    first, *rest = text_of(configured).splitlines()
    assert first == f"{NOTE}tried: {' '.join(values)}"
    assert trial_note(configured) == f"tried: {' '.join(values)}"
    assert any(line.startswith("  epochs: 3  ") and "# [epochs]" in line for line in rest)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("train.epoch=3", r"^train\.epoch=3: "),
        ("train.epochs", "^train.epochs: "),
        ("train.epochs=0", r"params\.yaml: train\.epochs: found 0"),
        ("presets.train=cup", "found 'cup', expected one of"),
        *(
            (f"{key}={text}", "expected ")
            for key in ("labels.title", "+dataset.classes", "presets.train")
            for text in RESOLVERS
        ),
    ],
)
def test_the_file_stays_when_a_value_is_refused(
    configured: Path, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = text_of(configured)
    monkeypatch.setenv("SECRET", "s3cr3t")
    with pytest.raises(ConfigError, match=message) as error:
        override(configured, [value], "tried:")
    assert text_of(configured) == before
    assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize(("given", "kept"), [((300, -1), (30, 16)), ((300, 64), (30, 16)), ((2, 4), (2, 4))])
def test_a_training_is_shrunk_and_marked_when_no_gpu_came(
    configured: Path, given: tuple[int, int], kept: tuple[int, int]
) -> None:
    set_values(configured, [f"train.epochs={given[0]}", f"train.batch={given[1]}"])
    assert limit(configured) == [f"++train.epochs={kept[0]}", f"++train.batch={kept[1]}"]
    config = compose(configured)[0]
    assert (config.train.epochs, config.train.batch) == kept
    assert text_of(configured).startswith(f"{NOTE}no GPU came")


def test_the_file_stays_when_it_holds_a_resolver_itself(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC would resolve the whole file while it overrides one value."""
    monkeypatch.setenv("SECRET", "s3cr3t")
    (configured / "params.yaml").write_text(f'{text_of(configured)}\nextra: {{a: "\\x24{{oc.env:SECRET}}"}}\n')
    before = text_of(configured)
    with pytest.raises(ConfigError, match=r"^params.yaml:\d+: found '\$\{oc.env:SECRET\}'"):
        override(configured, ["train.epochs=3"], "tried:")
    assert text_of(configured) == before
