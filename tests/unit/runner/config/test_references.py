import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

from runner.config.compose import compose
from runner.config.references import RESOLVERS, has_resolver
from runner.errors import ConfigError
from tests.unit.runner.config.test_compose import PRESETS, write_params


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    """A project with the real conf/."""
    shutil.copytree(project / "conf", tmp_path / "conf")
    write_params(tmp_path)
    return tmp_path


# Where a commit's author may write a text, in params.yaml and in conf/.
PLACES: dict[str, Callable[[Path, str], None]] = {
    "a value": lambda folder, text: write_params(folder, labels={"title": text}, model={"name": "oc.env"}),
    "a list": lambda folder, text: write_params(folder, dataset={"classes": ["a", text]}, model={"name": "oc.env"}),
    "weights": lambda folder, text: write_params(folder, weights={"a.pt": text}),
    "a preset's name": lambda folder, text: write_params(folder, presets=PRESETS | {"train": text}),
    "a file's name": lambda folder, text: _name_preset(folder, text),
    "a default": lambda folder, text: _edit(folder, "train/cpu.yaml", "  - gpu\n", f"  - {json.dumps(text)}\n"),
    "a group's default": lambda folder, text: _edit(
        folder, "config.yaml", "- train: ???", f"- train: {json.dumps(text)}"
    ),
    "a preset": lambda folder, text: _edit(folder, "train/gpu.yaml", "lrf: 0.01", f"lrf: {json.dumps(text)}"),
    "an escaped preset": lambda folder, text: _edit(folder, "train/gpu.yaml", "lrf: 0.01", _escaped(f"lrf: {text}")),
    "a key of conf": lambda folder, text: _edit(folder, "train/gpu.yaml", "lrf: 0.01", f"{json.dumps(text)}: 1"),
    "hydra": lambda folder, text: _edit(
        folder, "config.yaml", "seed: 0", f"hydra: {{searchpath: [{json.dumps(text)}]}}"
    ),
}
FORMS = (
    "${%s:SECRET}",
    "${ %s : SECRET}",
    "a ${model.name} ${%s:'SECRET'}",
    "${%s:}",
    "\\${%s:SECRET}",
    "${train.${%s:SECRET}}",
)
GRAMMAR = [
    "${${model.name}:SECRET}",
    "${oc.select:no,${oc.env:SECRET}}",
    "${oc.env:SECRET",
    "${${oc.env:SECRET}}",
    "${\noc.env:SECRET}",
]


def _name_preset(folder: Path, text: str) -> None:
    if "/" not in text:
        (folder / f"conf/train/{text}.yaml").write_text("defaults: [cpu, _self_]\n")
    write_params(folder, presets=PRESETS | {"train": text})


def _edit(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / "conf" / file
    before = path.read_text(encoding="utf-8")
    assert old in before
    path.write_text(before.replace(old, new, 1), encoding="utf-8")


def _escaped(line: str) -> str:
    key, _, value = line.partition(": ")
    return f'{key}: "' + "".join(rf"\x{ord(letter):02x}" for letter in value) + '"'


def resolvers() -> list[str]:
    """Every resolver that OmegaConf and Hydra register; the names are kept nowhere public."""
    with initialize_config_dir("/", version_base="1.3"):
        found = sorted(BaseContainer._resolvers)
    assert {"oc.env", "oc.decode", "oc.create", "oc.select", "hydra", "now"} <= set(found)
    return found


def test_every_resolver_is_one_in_every_form() -> None:
    for text in [*(form % name for name in resolvers() for form in FORMS), *GRAMMAR]:
        assert has_resolver(text), text
    for value in ("${model.name}", "a ${.b-c.d} ${..e[0]}", "$x {y}", "", None, 5, ["${model.name}"]):
        assert not has_resolver(value), value


@pytest.mark.parametrize("text", ["${oc.env:SECRET}", "${${model.name}:SECRET}"])
@pytest.mark.parametrize("place", PLACES)
def test_a_resolver_is_refused_wherever_it_stands(
    folder: Path, place: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that composes may hold tokens that the commit's author may not have."""
    monkeypatch.setenv("SECRET", "s3cr3t")
    PLACES[place](folder, text)
    with pytest.raises(ConfigError, match=r"^(params|conf/[\w/]+)\.yaml:") as error:
        compose(folder)
    assert "s3cr3t" not in str(error.value)


def _hide(folder: Path, file: str, default: str) -> None:
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("defaults: ['${oc.env:SECRET}']\n")
    _edit(folder, "train/cpu.yaml", "  - gpu\n", f"  - {json.dumps(default)}\n")


# Files that Hydra reads and a list of conf/**/*.yaml lacks: the file, and its name in `defaults`.
UNLISTED = [
    ("conf/train/.hidden.yaml", ".hidden"),
    ("elsewhere/of.yaml", "../../elsewhere/of"),
    ("elsewhere/of.yaml", "/../elsewhere/of"),
    ("elsewhere/of.yaml", "linked/of"),
]


@pytest.mark.parametrize(("file", "default"), UNLISTED)
def test_nothing_is_resolved_in_a_file_that_was_not_looked_at(
    folder: Path, file: str, default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cr3t")
    (folder / "conf/train/linked").symlink_to("../../elsewhere")
    _hide(folder, file, default)
    with pytest.raises(ConfigError) as error:
        compose(folder)
    assert "s3cr3t" not in str(error.value)


def test_every_resolver_is_taken_away_and_comes_back() -> None:
    assert set(RESOLVERS) == set(resolvers())


def test_the_resolvers_of_others_work_after_composing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cr3t")
    compose(folder)
    assert OmegaConf.create({"a": "${oc.env:SECRET}"}).a == "s3cr3t"


BOMB = "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10))


@pytest.mark.parametrize("text", [f"a0: &a0 [x]\n{BOMB}", f"a0: &a0 {{x: 1}}\n{BOMB}", "a: &a [*a]\n"])
@pytest.mark.parametrize("file", ["params.yaml", "conf/train/gpu.yaml"])
def test_refused_when_aliases_repeat_too_much(folder: Path, file: str, text: str) -> None:
    with (folder / file).open("a", encoding="utf-8") as stream:
        stream.write(text)
    with pytest.raises(ConfigError, match=rf"^{file}: .*100,000"):
        compose(folder)


def test_hydra_is_not_set_up_by_a_preset(folder: Path) -> None:
    _edit(folder, "config.yaml", "seed: 0", "seed: 0\nhydra: {searchpath: [file:///etc]}")
    with pytest.raises(ConfigError, match=r"^conf/config.yaml:\d+: found hydra"):
        compose(folder)
