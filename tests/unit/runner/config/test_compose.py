"""compose: params.yaml over presets, held against the schema; refusals name the file and the key."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.compose import Hidden, compose, stage_text, write_stage_files
from runner.config.schema import COMPOSED
from runner.errors import ConfigError

PRESETS = {"dataset": "sample", "model": "yolo11n_scratch", "augment": "default", "train": "cpu", "gate": "default"}
SHA = "0123456789abcdef" * 4


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    """A project in a folder with an awkward name: the real conf/, and the shortest params.yaml."""
    folder = tmp_path / "ein Ordner für #1 = 100%"
    shutil.copytree(project / "conf", folder / "conf")
    write_params(folder)
    return folder


def write_params(folder: Path, **sections: Any) -> None:
    text = yaml.safe_dump({"presets": PRESETS, **sections}, allow_unicode=True)
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)^{message}"):
        compose(folder)


def test_refused_when_params_are_empty(folder: Path) -> None:
    (folder / "params.yaml").write_text("")
    refused(folder, "params.yaml: presets.augment: is missing, expected one of default, light, none")


def test_presets_count_when_params_set_nothing(folder: Path) -> None:
    config, hidden = compose(folder)
    assert config.train.epochs == 28
    assert config.augment.mosaic == 1.0
    assert config.model.base == "yolo11n.yaml"
    assert hidden == []


def test_preset_counts_when_the_value_in_params_is_empty(folder: Path) -> None:
    write_params(folder, train={"epochs": None, "batch": None}, dataset=None, split={}, weights=None)
    config, hidden = compose(folder)
    assert (config.train.epochs, config.train.batch, hidden) == (28, 16, [])


def test_params_count_when_they_set_a_value(folder: Path) -> None:
    write_params(folder, seed=7, train={"epochs": 3, "lr0": 0.002, "cache": False}, split={"group": "^[^_]+"})
    config, hidden = compose(folder)
    assert (config.seed, config.train.epochs, config.train.cache, config.split.group) == (7, 3, False, "^[^_]+")
    assert config.train.batch == 16
    assert set(hidden) == {Hidden("seed", 0, 7), Hidden("train.epochs", 28, 3), Hidden("train.cache", True, False)}


def test_a_list_replaces_the_presets_when_set(folder: Path) -> None:
    write_params(folder, dataset={"classes": ["Flugzeug", "直升机", "a.b c"]})
    config, hidden = compose(folder)
    assert config.dataset.classes == ["Flugzeug", "直升机", "a.b c"]
    assert hidden == [Hidden("dataset.classes", [], ["Flugzeug", "直升机", "a.b c"])]


def test_given_values_count_when_they_stand_for_the_file(folder: Path) -> None:
    (folder / "params.yaml").unlink()
    config, _ = compose(folder, {"presets": PRESETS, "seed": 3})
    assert config.seed == 3


def test_values_follow_when_they_refer_to_others(folder: Path) -> None:
    write_params(folder, train={"nbs": "${train.batch}", "batch": 5})
    assert compose(folder)[0].train.nbs == 5


@pytest.mark.parametrize("name", ["my run", "my=run", "für", "5", "a,b"])
def test_presets_of_ones_own_count_when_oddly_named(folder: Path, name: str) -> None:
    (folder / f"conf/train/{name}.yaml").write_text("defaults: [cpu, _self_]\nepochs: 3\n")
    write_params(folder, presets=PRESETS | {"train": name})
    assert compose(folder)[0].train.epochs == 3


def test_weights_count_when_they_were_added(folder: Path) -> None:
    write_params(folder, presets=PRESETS | {"model": "yolo11n"}, weights={"yolo11n.pt": SHA})
    config, hidden = compose(folder)
    assert (config.model.sha256, hidden) == (SHA, [])


def test_own_digest_counts_when_a_preset_has_one(folder: Path) -> None:
    (folder / "conf/model/mine.yaml").write_text(f"base: mine.pt\nsha256: {SHA}\nimgsz: 320\n")
    write_params(folder, presets=PRESETS | {"model": "mine"})
    assert compose(folder)[0].model.sha256 == SHA


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "params.yaml: found .*'a'.*, expected keys with values"),
        ("a: [1\nb: 2\n", "params.yaml:2: not YAML: expected ',' or ']'"),
        ("seed: 1\nseed: 2\n", "params.yaml:2: not YAML: found duplicate key .seed."),
        ("seed: 1\n\tb: 2\n", "params.yaml:2: not YAML: "),
        ("seed: \udcff\n", "params.yaml: not YAML: 'utf-8' codec can't decode byte 0xff"),
        ("presets: cpu\n", "params.yaml: presets: found 'cpu', expected keys with values"),
    ],
)
def test_refused_with_the_line_when_params_are_not_yaml(folder: Path, text: str, message: str) -> None:
    (folder / "params.yaml").write_bytes(text.encode(errors="surrogateescape"))
    refused(folder, message)


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        (PRESETS | {"train": "cup"}, r"params.yaml: presets.train: found 'cup', expected one of cpu, gpu, smoke \(the"),
        (PRESETS | {"fate": "x"}, "params.yaml: presets.fate: no such group; there are augment, dataset, gate, model"),
        ({"model": "yolo11n"}, "params.yaml: presets.augment: is missing, expected one of default, light, none"),
    ],
)
def test_refused_with_the_choices_when_a_preset_is_unknown(folder: Path, presets: dict[str, str], message: str) -> None:
    write_params(folder, presets=presets)
    refused(folder, message)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"epoch": 3}}, "params.yaml: train.epoch: no such key; train has epochs, patience, batch"),
        ({"trains": {"epochs": 3}}, "params.yaml: trains: no such key; the top level has seed, dataset, prepare"),
        ({"train": {"epochs": 0}}, "params.yaml: train.epochs: found 0, expected greater than or equal to 1"),
        ({"train": {"epochs": "5"}}, "params.yaml: train.epochs: found '5', expected a valid integer"),
        ({"train": {"epochs": True}}, "params.yaml: train.epochs: found True, expected a valid integer"),
        ({"train": {"epochs": 1.5}}, "params.yaml: train.epochs: found 1.5, expected a valid integer"),
        ({"train": {"warmup_epochs": float("inf")}}, "params.yaml: train.warmup_epochs: found inf, expected a finite"),
        ({"train": {"optimizer": "Adm"}}, "params.yaml: train.optimizer: found 'Adm', expected 'auto', 'SGD', 'Adam'"),
        ({"train": {"batch": 0}}, r"params.yaml: train.batch: found 0, expected -1 \(fill one GPU\) or a number"),
        ({"train": 5}, r"params.yaml: train: found 5, expected keys \(epochs, patience"),
        ({"train": [5]}, r"params.yaml: train: found \[5\], expected keys \(epochs, patience"),
        ({"seed": {"a": 1}}, r"params.yaml: seed: found \{'a': 1\}, expected a valid integer"),
        ({"split": {"val": 0.5, "test": 0.5}}, r"params.yaml: split: split.val \+ split.test is 1; nothing is left"),
        (
            {"split": {"group": "("}},
            r"params.yaml: split.group: found '\(', which is not a regular expression \(missing",
        ),
        ({"dataset": {"classes": ["a", "a"]}}, r"params.yaml: dataset.classes: found .*, expected each name once;"),
        ({"dataset": {"classes": [""]}}, r"params.yaml: dataset.classes: found \[''\], expected names of printable"),
        ({"dataset": {"classes": [1]}}, r"params.yaml: dataset.classes: found 1, expected a valid string"),
        (
            {"dataset": {"url": "s3://x"}},
            "params.yaml: dataset.url: found 's3://x', expected sample, or store:datasets",
        ),
        ({"dataset": {"name": "A b"}}, "params.yaml: dataset.name: found 'A b', expected small letters, digits"),
        ({"model": {"base": "a/b.pt"}}, "params.yaml: model.base: found 'a/b.pt', expected a file name, NAME.yaml or"),
        ({"train": {"epochs": "${model.no}"}}, "params.yaml: train.epochs: Interpolation key 'model.no' not found"),
        ({"weights": {"x.pt": "abc"}}, "params.yaml: weights.x.pt: found 'abc', expected 64 hexadecimal digits; `py"),
        ({"weights": [1]}, r"params.yaml: weights: found \[1\], expected keys with values"),
        ({"export": {"opset": 1}, "seed": -1}, "params.yaml: seed: found -1.*\nparams.yaml: export.opset: found 1, "),
    ],
)
def test_refused_with_file_and_key_when_a_value_does_not_fit(
    folder: Path, sections: dict[str, Any], message: str
) -> None:
    write_params(folder, **sections)
    refused(folder, message)


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        (
            {"model": "yolo11n"},
            "conf/model/yolo11n.yaml: model: weights yolo11n.pt were never added, .* weights add yolo",
        ),
        (
            {"dataset": "store"},
            "conf/dataset/store.yaml: dataset.name: is empty here, so params.yaml must give it a va",
        ),
    ],
)
def test_refused_with_the_remedy_when_a_preset_asks_for_more(
    folder: Path, presets: dict[str, str], message: str
) -> None:
    write_params(folder, presets=PRESETS | presets)
    refused(folder, message)


def test_refused_with_the_remedy_when_a_store_url_has_no_digest(folder: Path) -> None:
    write_params(folder, dataset={"name": "x", "url": "store:datasets/x/0123456789ab.zip"})
    refused(folder, r"params.yaml: dataset: a store: url needs dataset.sha256; `python -m runner dataset add` writes")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train/cpu.yaml", "defaults: [gpu, _self_]\nepochs: 0\n", "conf/train/cpu.yaml: train.epochs: found 0"),
        ("train/cpu.yaml", "defaults: [gpu, _self_]\nepocs: 1\n", "conf/train/cpu.yaml: train.epocs: no such key"),
        ("train/gpu.yaml", "epocs: 1\n", "conf/train/(gpu|cpu).yaml: train.(epocs|lrf): "),
        ("train/cpu.yaml", "", "conf/train/cpu.yaml: train.epochs: is missing"),
        ("train/cpu.yaml", "epochs: [0\n", "conf/train/cpu.yaml:2: not YAML: expected ',' or ']'"),
        ("train/cpu.yaml", "epochs: 1\n  b: 2\n", "conf/train/cpu.yaml:2: not YAML: mapping values are not allowed"),
        ("train/cpu.yaml", "defaults: [gpuu]\n", "conf/: In 'train/cpu': Could not load 'train/gpuu'"),
        ("config.yaml", "a: [\n", "conf/config.yaml:2: not YAML: "),
    ],
)
def test_refused_with_the_presets_file_when_the_fault_is_there(
    folder: Path, file: str, text: str, message: str
) -> None:
    (folder / "conf" / file).write_text(text)
    refused(folder, message)


def test_config_yaml_is_named_when_the_value_stands_there(folder: Path) -> None:
    file = folder / "conf/config.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("iou: 0.7", "iou: 7"), encoding="utf-8")
    refused(folder, "conf/config.yaml: evaluate.iou: found 7, expected less than 1")


def test_config_yaml_is_named_when_a_key_of_a_group_stands_there(folder: Path) -> None:
    file = folder / "conf/config.yaml"
    text = file.read_text(encoding="utf-8").replace("name: flyingthings", "name: Flying things")
    file.write_text(text, encoding="utf-8")
    refused(folder, "conf/config.yaml: model.name: found 'Flying things', expected at most 100 small letters")


def test_the_base_is_named_when_a_preset_inherits_the_value(folder: Path) -> None:
    file = folder / "conf/train/gpu.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("lrf: 0.01", "lrf: 7"), encoding="utf-8")
    refused(folder, "conf/train/gpu.yaml: train.lrf: found 7")


@pytest.mark.parametrize("missing", ["params.yaml", "conf"])
def test_refused_when_this_is_not_the_projects_folder(folder: Path, missing: str) -> None:
    (folder / missing).rename(folder / "elsewhere")
    refused(folder, f"{missing}.*: .*o such f.*; run this in the project's folder")


def test_a_broken_preset_does_not_matter_when_it_is_not_picked(folder: Path) -> None:
    (folder / "conf/train/broken.yaml").write_text("epochs: [0\n")
    compose(folder)


def test_stage_files_hold_their_own_keys_when_written(folder: Path, tmp_path: Path) -> None:
    write_params(folder, dataset={"classes": ["größe"]})
    config, _ = compose(folder)
    out = tmp_path / "config"
    write_stage_files(config, out)
    assert sorted(file.stem for file in out.iterdir()) == sorted(COMPOSED)
    for stage in COMPOSED:
        assert (out / f"{stage}.yaml").read_text(encoding="utf-8") == stage_text(config, stage)
    assert yaml.safe_load(stage_text(config, "split")) == {"split": config.split.model_dump()}
    assert "größe" in stage_text(config, "prepare")
    assert "seed" not in yaml.safe_load(stage_text(config, "evaluate"))
