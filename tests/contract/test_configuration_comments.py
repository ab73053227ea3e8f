"""Every key of params.yaml and conf/ says beside itself what it is, in the schema's own words; all presets compose."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from runner.config.compose import compose
from runner.config.schema import Config

PROJECT = Path(__file__).resolve().parents[2]
FILES = [Path("params.yaml"), *sorted(file.relative_to(PROJECT) for file in (PROJECT / "conf").rglob("*.yaml"))]
SHA256 = "0123456789abcdef" * 4
DATASET = {"name": "x", "url": "store:datasets/x/0123456789ab.zip", "sha256": SHA256}
Leaf = tuple[str, object, str]


def leaves(values: CommentedMap, lines: list[str], prefix: str = "") -> Iterator[Leaf]:
    """Yield key, value and the comment at the end of the key's line; `defaults` are Hydra's, not keys."""
    for key, value in values.items():
        if isinstance(value, CommentedMap):
            yield from leaves(value, lines, f"{prefix}{key}.")
        elif key != "defaults":
            line = lines[values.lc.key(key)[0]]
            yield f"{prefix}{key}", value, line.partition(" # ")[2].strip()


def leaves_of(file: Path) -> list[Leaf]:
    """Return the leaves of a file, each with its key in the whole configuration."""
    section = f"{file.parent.name}." if file.parent.name not in ("", "conf") else ""
    return list(leaves(YAML().load(PROJECT / file), (PROJECT / file).read_text(encoding="utf-8").splitlines(), section))


def groups() -> dict[str, list[str]]:
    folders = sorted(folder for folder in (PROJECT / "conf").iterdir() if folder.is_dir())
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}


def described(key: str) -> str:
    """Return the schema's description of a key up to the first semicolon."""
    model: Any = Config
    *sections, name = key.split(".")
    for section in sections:
        model = model.model_fields[section].annotation
    return str(model.model_fields[name].description).partition(";")[0]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_file_and_keys_have_comments_in_the_schemas_words(file: Path) -> None:
    assert re.match(r"# [^\n]+[.!:]\n|# [^\n]+\n#", (PROJECT / file).read_text(encoding="utf-8"))
    for key, _, comment in leaves_of(file):
        if not key.startswith(("presets.", "weights")):  # not of the schema; the file says itself what they are
            assert comment.partition(";")[0] == described(key), f"{file}: {key}"


def test_the_choices_are_the_files_when_params_lists_presets() -> None:
    comments = {key: comment for key, _, comment in leaves_of(Path("params.yaml")) if key.startswith("presets.")}
    assert list(comments) == [f"presets.{group}" for group in ("dataset", "model", "augment", "train", "gate")]
    for group, presets in groups().items():
        named = set(re.findall(r"[a-z0-9_]{3,}", comments[f"presets.{group}"])) - {"pretrained", "_scratch"}
        assert named == {preset for preset in presets if not preset.endswith("_scratch")}


def test_every_model_is_there_from_scratch_and_pretrained() -> None:
    models = groups()["model"]
    names = {name.removesuffix("_scratch") for name in models}
    assert names | {f"{name}_scratch" for name in names} == set(models)


def test_an_empty_value_is_not_ambiguous_when_params_would_unset_a_preset() -> None:
    """An empty value in params.yaml means `as the preset says`; so what may be empty must be empty in every preset."""
    values = [(key, value) for file in FILES[1:] for key, value, _ in leaves_of(file)]
    may_be_empty = {key for key, value in values if value is None} - {"dataset.name", "dataset.url"}
    assert not {key for key, value in values if key in may_be_empty and value is not None}


def combinations() -> list[dict[str, str]]:
    """Return as few combinations as have every preset; each fills a section of its own, so none depends on another."""
    count = max(map(len, groups().values()))
    return [{group: (presets * count)[row] for group, presets in groups().items()} for row in range(count)]


@pytest.mark.parametrize("presets", combinations(), ids=lambda presets: "-".join(presets.values()))
def test_presets_compose_when_combined(presets: dict[str, str]) -> None:
    params: dict[str, Any] = {"presets": presets, "weights": {f"{presets['model']}.pt": SHA256}}
    if presets["dataset"] == "store":
        params["dataset"] = DATASET
    config, hidden = compose(PROJECT, params)
    assert (config.model.sha256 is None) == presets["model"].endswith("_scratch")
    assert {key for key, *_ in hidden} <= {"dataset.name", "dataset.url"}


def test_params_survive_a_rewrite_when_dvc_sets_a_value() -> None:
    """`dvc exp run -S` loads and dumps params.yaml with ruamel; nothing but the value may change."""
    text = (PROJECT / "params.yaml").read_text(encoding="utf-8")
    yaml = YAML()
    yaml.preserve_quotes = True
    out = io.StringIO()
    yaml.dump(yaml.load(text), out)
    assert out.getvalue() == text
    assert "${" not in text
