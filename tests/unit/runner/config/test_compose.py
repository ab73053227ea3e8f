import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.compose import compose, compose_before_dataset, stage_text, write_stage_files
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


def test_presets_count_when_params_set_nothing(folder: Path) -> None:
    for empty in ({}, {"train": {"epochs": None, "batch": None}, "dataset": None, "split": {}, "weights": None}):
        write_params(folder, **empty)
        config, hidden = compose(folder)
        assert (config.train.epochs, config.train.batch, config.augment.mosaic, hidden) == (28, 16, 1.0, [])
        assert config.model.base == "yolo11n.yaml"


def test_params_count_when_they_set_a_value(folder: Path) -> None:
    names = ["gro\u0308ße", "直升机", "a.b c"]
    write_params(folder, seed=7, train={"epochs": 3, "lr0": 0.002, "cache": False}, dataset={"classes": names})
    config, hidden = compose(folder)
    assert (config.seed, config.train.epochs, config.train.batch, config.train.cache) == (7, 3, 16, False)
    assert config.dataset.classes == ["größe", *names[1:]]  # in Unicode NFC
    expected = [("dataset.classes", [], names), ("seed", 0, 7), ("train.cache", True, False)]
    assert sorted(hidden) == [*expected, ("train.epochs", 28, 3)]


def test_given_values_count_when_they_stand_for_the_file_and_refer_to_others(folder: Path) -> None:
    (folder / "params.yaml").unlink()
    config, _ = compose(folder, {"presets": PRESETS, "train": {"nbs": "${train.batch}", "batch": 5}})
    assert (config.train.nbs, config.train.batch) == (5, 5)


@pytest.mark.parametrize("name", ["my run", "my=run", "für", "5", "a,b"])
def test_presets_of_ones_own_count_when_oddly_named(folder: Path, name: str) -> None:
    (folder / f"conf/train/{name}.yaml").write_text("defaults: [cpu, _self_]\nepochs: 3\n")
    (folder / "conf/train/broken.yaml").write_text("epochs: [0\n")  # not picked, so it does not matter
    write_params(folder, presets=PRESETS | {"train": name})
    assert compose(folder)[0].train.epochs == 3


def test_the_rest_is_composed_before_a_dataset_is_named(folder: Path) -> None:
    write_params(folder, presets=PRESETS | {"dataset": "store"}, prepare={"max_rejected": 0.5})
    refused(folder, "conf/dataset/store.yaml: dataset.name")
    assert compose_before_dataset(folder)[0].prepare.max_rejected == 0.5


def test_presets_count_when_tools_leave_folders_and_files_beside_them(folder: Path) -> None:
    for stray in (".work", ".ipynb_checkpoints", "__pycache__", "old", "train/.ipynb_checkpoints"):
        (folder / "conf" / stray).mkdir()
        (folder / "conf" / stray / "cpu-checkpoint.yaml").write_text("epochs: [0\n")
    (folder / "conf/train/._cpu.yaml").write_bytes(b"\x00\x05\x16\x07\xff")  # macOS
    (folder / "conf/train/.#cpu.yaml").symlink_to("nowhere")  # Emacs
    assert compose(folder)[0].train.epochs == 28
    write_params(folder, presets=PRESETS | {"train": "cup"})
    refused(folder, r"params.yaml: presets.train: found 'cup', expected one of cpu, gpu, smoke \(")
    write_params(folder)
    (folder / "conf/train/cpu.yaml").write_text("epochs: [0\n")
    refused(folder, "conf/train/cpu.yaml:2: not YAML")


def test_classes_may_be_mapped(folder: Path) -> None:
    write_params(folder, dataset={"classes": {"light aircraft": "plane", "gro\u0308ße": None}})
    config, _ = compose(folder)
    assert (config.dataset.classes, config.dataset.listed) == ({"light aircraft": "plane", "größe": None}, [])
    assert yaml.safe_load(stage_text(config, "prepare"))["dataset"]["classes"] == config.dataset.classes


@pytest.mark.parametrize(("section", "key"), [("dataset", "classes"), ("gate", "renamed")])
def test_empty_values_alone_are_an_order_in_a_mapping_of_classes(folder: Path, section: str, key: str) -> None:
    write_params(folder, **{section: {key: {"airplane": None}}})
    config, _ = compose(folder)
    assert config.model_dump()[section][key] == {"airplane": None}


def test_digest_comes_from_weights_or_the_preset(folder: Path) -> None:
    write_params(folder, presets=PRESETS | {"model": "yolo11n"}, weights={"yolo11n.pt": SHA})
    config, hidden = compose(folder)
    assert (config.model.sha256, hidden) == (SHA, [])
    (folder / "conf/model/mine.yaml").write_text(f"trainer: ultralytics\nbase: mine.pt\nsha256: {SHA}\nimgsz: 320\n")
    write_params(folder, presets=PRESETS | {"model": "mine"})
    assert compose(folder)[0].model.sha256 == SHA


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "params.yaml: presets: is missing, expected .*augment, dataset"),
        ("preset:\n  model: yolo11n\n", "params.yaml: presets: is missing"),
        ("- a\n", "params.yaml: found .*'a'"),
        ("a: [1\nb: 2\n", "params.yaml:2: not YAML"),
        ("seed: 1\nseed: 2\n", "params.yaml:2: not YAML: .*seed"),
        ("seed: 1\n\tb: 2\n", "params.yaml:2: not YAML"),
        ("seed: \udcff\n", "params.yaml: not YAML: .* 0xff"),
        ("presets: cpu\n", "params.yaml: presets: found 'cpu'"),
    ],
)
def test_refused_with_the_line_when_params_are_not_yaml(folder: Path, text: str, message: str) -> None:
    (folder / "params.yaml").write_bytes(text.encode(errors="surrogateescape"))
    refused(folder, message)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"presets": PRESETS | {"train": "cup"}}, "presets.train: found 'cup', expected one of cpu, gpu, smoke"),
        ({"presets": PRESETS | {"fate": "x"}}, "presets.fate: .* augment, dataset, gate, model"),
        ({"presets": {"model": "yolo11n"}}, "presets.augment: is missing, expected one of default, light, none"),
        ({"presets": PRESETS | {"model": "yolo11n"}}, r"conf/model/yolo11n.yaml: model: .* weights add yolo11n\.pt"),
        ({"presets": PRESETS | {"dataset": "store"}}, "conf/dataset/store.yaml: dataset.name: is empty .* params.yaml"),
        ({"train": {"epoch": 3}}, "train.epoch: no such key; train has epochs, patience, batch"),
        ({"trains": {"epochs": 3}}, "trains: no such key; the top level has seed, dataset, prepare"),
        ({"train": {"epochs": 0}}, "train.epochs: found 0, .* 1"),
        *(({"train": {"epochs": wrong}}, f"train.epochs: found {wrong!r}, ") for wrong in ("5", True, 1.5)),
        ({"train": {"warmup_epochs": float("inf")}}, "train.warmup_epochs: found inf, "),
        ({"train": {"optimizer": "Adm"}}, "train.optimizer: found 'Adm', expected 'auto', 'SGD', 'Adam'"),
        ({"train": {"batch": 0}}, "train.batch: found 0, expected -1"),
        ({"train": 5}, r"train: found 5, expected keys \(epochs, patience"),
        ({"train": [5]}, r"train: found \[5\], expected keys \(epochs, patience"),
        ({"seed": {"a": 1}}, r"seed: found \{'a': 1\}, "),
        ({"split": {"val": 0.5, "test": 0.5}}, r"split: split.val \+ split.test is 1;"),
        ({"split": {"group": "("}}, r"split.group: found '\(', .*regular expression"),
        ({"dataset": {"classes": ["a", "a"]}}, r"dataset.classes: found .*repeated: a$"),
        *(({"dataset": {"classes": ["a", bad]}}, "dataset.classes: found ") for bad in ("", " b", "b\n", "\u2028")),
        ({"dataset": {"classes": [1]}}, r"dataset.classes: found \[1\], "),
        ({"dataset": {"classes": "car"}}, "dataset.classes: found 'car', expected a list"),
        ({"dataset": {"classes": {"car": ["vehicle"]}}}, "dataset.classes: "),
        ({"dataset": {"url": "s3://x"}}, "dataset.url: found 's3://x', expected sample, or store:datasets"),
        ({"dataset": {"name": "x", "url": "store:datasets/x/0123456789ab.zip"}}, "dataset: .* dataset.sha256"),
        ({"dataset": {"name": "A b"}}, "dataset.name: found 'A b', "),
        ({"model": {"base": "a/b.pt"}}, "model.base: found 'a/b.pt', expected a file name"),
        ({"model": {"trainer": "libreyolo"}}, r"model: base is yolo11n\.yaml, expected YOLOX .* yolox_n\.yaml"),
        ({"train": {"epochs": "${model.no}"}}, "train.epochs: .*'model.no'"),
        ({"weights": {"x.pt": "abc"}}, r"weights.x.pt: found 'abc', .* weights add x\.pt"),
        ({"weights": [1]}, r"weights: found \[1\], "),
        ({"seed": 2**32}, "seed: found 4294967296, .* 4294967295"),  # of NumPy
        ({"export": {"opset": 1}, "seed": -1}, "seed: found -1.*\nparams.yaml: export.opset: found 1, "),
    ],
)
def test_refused_with_file_and_key_when_a_value_does_not_fit(
    folder: Path, sections: dict[str, Any], message: str
) -> None:
    write_params(folder, **sections)
    refused(folder, message if message.startswith("conf/") else f"params.yaml: {message}")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train/cpu.yaml", "defaults: [gpu, _self_]\nepochs: 0\n", "conf/train/cpu.yaml: train.epochs: found 0"),
        ("train/cpu.yaml", "defaults: [gpu, _self_]\nepocs: 1\n", "conf/train/cpu.yaml: train.epocs: no such key"),
        ("train/gpu.yaml", "epocs: 1\n", "conf/train/(gpu|cpu).yaml: train.(epocs|lrf): "),
        ("train/cpu.yaml", "", "conf/train/cpu.yaml: train.epochs: is missing"),
        ("train/cpu.yaml", "a text", "conf/train/cpu.yaml: train.epochs: is missing"),
        ("train/cpu.yaml", "epochs: [0\n", "conf/train/cpu.yaml:2: not YAML"),
        ("train/cpu.yaml", "epochs: 1\n  b: 2\n", "conf/train/cpu.yaml:2: not YAML"),
        ("train/cpu.yaml", "defaults: [gpuu]\n", "conf/: .*'train/gpuu'"),
        ("config.yaml", "a: [\n", "conf/config.yaml:2: not YAML: "),
        ("config.yaml", ("iou: 0.7", "iou: 7"), "conf/config.yaml: evaluate.iou: found 7"),
        ("config.yaml", ("name: flyingthings", "name: A b"), "conf/config.yaml: model.name: found 'A b'"),
        ("train/gpu.yaml", ("lrf: 0.01", "lrf: 7"), "conf/train/gpu.yaml: train.lrf: found 7"),
    ],
)
def test_refused_with_the_presets_file_when_the_fault_is_there(
    folder: Path, file: str, text: str | tuple[str, str], message: str
) -> None:
    """The text takes the place of the file's, or a part of it that of another."""
    path = folder / "conf" / file
    path.write_text(text if isinstance(text, str) else path.read_text(encoding="utf-8").replace(*text))
    refused(folder, message)


@pytest.mark.parametrize("missing", ["params.yaml", "conf"])
def test_refused_when_this_is_not_the_projects_folder(folder: Path, missing: str) -> None:
    (folder / missing).rename(folder / "elsewhere")
    refused(folder, f"{missing}.*; run this in the project's folder")


def test_stage_files_hold_their_own_keys_when_written(folder: Path, tmp_path: Path) -> None:
    write_params(folder, dataset={"classes": ["größe"]})
    config, _ = compose(folder)
    out = tmp_path / "config"
    write_stage_files(config, out)
    assert {file.stem: file.read_text(encoding="utf-8") for file in out.iterdir()} == {
        stage: stage_text(config, stage) for stage in COMPOSED
    }
    assert "größe" in stage_text(config, "prepare")
