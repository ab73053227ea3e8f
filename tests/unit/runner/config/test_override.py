"""Other values for one run: written into params.yaml, said in its first line, or nothing is written."""

import shutil
from pathlib import Path

import pytest

from runner.config.compose import compose
from runner.config.override import NOTE, limit, override, set_values, trial_note
from runner.errors import ConfigError


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    shutil.copy2(project / "params.yaml", tmp_path)
    shutil.copytree(project / "conf", tmp_path / "conf")
    return tmp_path


def text_of(folder: Path) -> str:
    return (folder / "params.yaml").read_text(encoding="utf-8")


def test_nothing_changes_when_no_value_is_given(folder: Path) -> None:
    before = text_of(folder)
    set_values(folder, [])
    assert text_of(folder) == before


def test_values_are_set_and_said_when_given(folder: Path) -> None:
    values = ["train.epochs=3", "+train.lr0=0.01", "presets.model=yolov8n_scratch"]
    assert trial_note(folder) == ""
    override(folder, values, "tried:")
    config = compose(folder)[0]
    assert (config.train.epochs, config.train.lr0, config.model.base) == (3, 0.01, "yolov8n.yaml")
    first, *rest = text_of(folder).splitlines()
    assert first == f"{NOTE}tried: {' '.join(values)}"
    assert trial_note(folder) == f"tried: {' '.join(values)}"
    assert any(line.startswith("  epochs: 3  ") and "# [epochs]" in line for line in rest)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("train.epoch=3", r"^train\.epoch=3: "),
        ("train.epochs", "^train.epochs: "),
        ("train.epochs=0", r"params\.yaml: train\.epochs: found 0"),
        ("presets.train=cup", "found 'cup', expected one of"),
    ],
)
def test_the_file_stays_when_a_value_is_refused(folder: Path, value: str, message: str) -> None:
    before = text_of(folder)
    with pytest.raises(ConfigError, match=message):
        override(folder, [value], "tried:")
    assert text_of(folder) == before


def test_a_training_is_shrunk_when_no_gpu_came(folder: Path) -> None:
    override(folder, ["train.epochs=300", "train.batch=-1"], "tried:")
    assert limit(folder) == ["++train.epochs=30", "++train.batch=16"]
    config = compose(folder)[0]
    assert (config.train.epochs, config.train.batch) == (30, 16)


def test_the_file_is_another_when_the_limits_change_nothing(folder: Path) -> None:
    before = text_of(folder)
    override(folder, ["train.epochs=2", "train.batch=4"], "tried:")
    assert limit(folder) == ["++train.epochs=2", "++train.batch=4"]
    assert text_of(folder) != before
    assert text_of(folder).startswith(f"{NOTE}no GPU came")
