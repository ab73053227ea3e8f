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


def test_values_are_set_and_said_when_given(folder: Path) -> None:
    values, before = ["train.epochs=3", "+train.lr0=0.01", "presets.model=yolov8n_scratch"], text_of(folder)
    set_values(folder, [])
    assert (trial_note(folder), text_of(folder)) == ("", before)
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


@pytest.mark.parametrize(("given", "kept"), [((300, -1), (30, 16)), ((300, 64), (30, 16)), ((2, 4), (2, 4))])
def test_a_training_is_shrunk_and_marked_when_no_gpu_came(
    folder: Path, given: tuple[int, int], kept: tuple[int, int]
) -> None:
    set_values(folder, [f"train.epochs={given[0]}", f"train.batch={given[1]}"])
    assert limit(folder) == [f"++train.epochs={kept[0]}", f"++train.batch={kept[1]}"]
    config = compose(folder)[0]
    assert (config.train.epochs, config.train.batch) == kept
    assert text_of(folder).startswith(f"{NOTE}no GPU came")
