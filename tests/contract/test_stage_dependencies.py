"""A stage depends on every module that decides its bytes, so that editing one runs it again, and on no other.

What a stage's function imports, and what that imports, is followed through runner/ and serving/. Left out are the
modules below, each with its reason: depending on them would start a training because of a docstring.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.__main__ import STAGES as HELP
from runner.config.schema import COMPOSED, STAGE_KEYS
from runner.stages import registry
from runner.stages.registry import STAGES

PROJECT = Path(__file__).resolve().parents[2]
PIPELINE: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
EXCEPTIONS = {
    "runner/stages/checkpoints.py": "what outlives a kill; a training that nobody disturbs reads none of it",
    "runner/config/edit.py": "writes params.yaml for commands; stages read it only through compose",
    "runner/config/explain.py": "words of errors",
    "runner/config/schema.py": "checks values and has none; they reach a stage by its composed file",
    "runner/config/references.py": "refuses values and has none",
    "runner/dataset/check.py": "what `dataset add` says of a dataset; fetch only prints with it",
    "runner/dataset/picture_cache.py": "brings pictures whose digest an index names",
    "runner/stages/fetch.py": "as above, for the stages that read its index",
    "runner/stages/picture_files.py": "as above",
    "runner/stages/device.py": "where a training computes, or that it cannot; part of the machine, not of the result",
    "runner/errors.py": "names of errors",
    "runner/stages/offline.py": "keeps Ultralytics from the network, and names a trainer that is not installed",
    "runner/stages/parallel.py": "how many work; the results come in the same order (a test of it holds that)",
    "runner/store/__init__.py": "brings objects whose digest the composed file names",
    "runner/store/bucket.py": "as above",
    "runner/store/folder.py": "as above",
    "runner/store/s3.py": "brings objects whose digest the composed file names",
    "runner/store/sink.py": "as above",
    "runner/store/transfer.py": "as above",
    "runner/dataset/weights.py": "brings weights whose digest the composed file names",
    "runner/tables.py": "lays out what a stage prints",
    "runner/workspace.py": "brings bytes to the disk as they are",
    "serving/__init__.py": "keeps ONNX Runtime from the network",
    "serving/storage/endpoint.py": "brings objects whose digest the composed file names",
}
LISTED_ALL_THE_SAME = {
    "compose": {"runner/config/schema.py"},  # which keys are written, and in which order
    "fetch": {"runner/stages/fetch.py"},  # the index
}


def module_files(name: str) -> Iterator[str]:
    """Yield the files that importing a module of ours runs: its own, and the __init__ of each package around it."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        path = Path(*parts[:count])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if (PROJECT / file).is_file() and not is_docstring(file):
                yield file.as_posix()


def is_docstring(file: Path) -> bool:
    """Whether a module holds a docstring and nothing else, as the __init__ of most packages does."""
    body = ast.parse((PROJECT / file).read_text(encoding="utf-8")).body
    return len(body) == 1 and isinstance(body[0], ast.Expr)


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the files of ours that a piece of code imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole module"
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ("runner", "serving"):
                yield from module_files(name)


def closure(start: set[str], exceptions: set[str]) -> set[str]:
    found: set[str] = set()
    waiting = set(start)
    while waiting:
        file = waiting.pop()
        if file in found or file in exceptions:
            continue
        found.add(file)
        waiting |= set(imports(ast.parse((PROJECT / file).read_text(encoding="utf-8"))))
    return found


def functions_of(stage: str) -> list[ast.FunctionDef]:
    """Return the function of registry.py that fills a stage, and those of the same file that it calls."""
    tree = ast.parse(Path(registry.__file__).read_text(encoding="utf-8"))
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    waiting, found = [STAGES[stage].fill.__name__], dict[str, ast.FunctionDef]()
    while waiting:
        name = waiting.pop()
        if name in defined and name not in found:
            found[name] = defined[name]
            waiting += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)]
    return list(found.values())


def needed(stage: str) -> set[str]:
    start = {file for function in functions_of(stage) for file in imports(function)}
    return closure(start, set(EXCEPTIONS) - LISTED_ALL_THE_SAME.get(stage, set()))


def listed(stage: str) -> list[str]:
    return [dep for dep in PIPELINE[stage]["deps"] if dep.startswith(("runner/", "serving/"))]


def covered(files: Iterable[str], deps: Iterable[str]) -> set[str]:
    return {file for file in files if any(Path(file).is_relative_to(dep) for dep in deps)}


@pytest.mark.parametrize("stage", PIPELINE)
def test_the_modules_that_decide_bytes_are_listed_and_no_others(stage: str) -> None:
    missing = sorted(needed(stage) - covered(needed(stage), listed(stage)))
    assert not missing, f"dvc.yaml: {stage}: add to deps, or to EXCEPTIONS with a reason: {missing}"
    code = [dep for dep in listed(stage) if (PROJECT / dep).is_dir() or dep.endswith(".py")]
    assert [dep for dep in code if not covered(needed(stage), [dep])] == []


def test_every_exception_is_needed_when_it_is_listed() -> None:
    imported = {
        file
        for stage in PIPELINE
        for function in functions_of(stage)
        for file in closure(set(imports(function)), set())
    }
    assert set(EXCEPTIONS) <= imported


def test_templates_are_dependencies_when_code_reads_them() -> None:
    others = {
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / "runner").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "Containerfile"
        if "release" not in path.relative_to(PROJECT).parts  # which no stage may import
    }
    deps = {dep for stage in PIPELINE for dep in listed(stage)}
    assert others and covered(others, deps) == others
    assert {dep for dep in deps if Path(dep).suffix not in (".py", "")} <= others


def test_pins_are_dependencies_when_packages_of_training_decide() -> None:
    depending = {stage for stage, entry in PIPELINE.items() if "constraints-train.txt" in entry["deps"]}
    assert depending == {"train", "export", "evaluate"}
    assert {stage for stage, entry in PIPELINE.items() if "constraints-libreyolo.txt" in entry["deps"]} == {
        "train",
        "export",
    }


def test_ultralytics_is_one_version_on_all_platforms_as_it_decides_the_head() -> None:
    pins = (PROJECT / "constraints-train.txt").read_text(encoding="utf-8").splitlines()
    (pin,) = [line for line in pins if line.startswith("ultralytics==")]
    assert ";" not in pin


def outs(entry: dict[str, Any]) -> list[str]:
    return [out if isinstance(out, str) else next(iter(out)) for out in entry["outs"]]


@pytest.mark.parametrize("stage", PIPELINE)
def test_command_inputs_and_outputs_are_there_when_dvc_runs_a_stage(stage: str) -> None:
    assert PIPELINE[stage]["cmd"] == f"python -m runner {stage}"
    folders = [out if stage != "compose" else Path(out).parent.as_posix() for out in outs(PIPELINE[stage])]
    assert list(dict.fromkeys(folders)) == [f"artifacts/{name}" for name in STAGES[stage].outputs]
    made = {out for entry in PIPELINE.values() for out in outs(entry)}
    for dep in PIPELINE[stage]["deps"]:
        assert dep in made if dep.startswith("artifacts/") else (PROJECT / dep).exists(), dep


def test_there_is_one_composed_file_for_each_stage_when_dvc_lists_them() -> None:
    whole = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
    composed = [f"artifacts/config/{stage}.yaml" for stage in COMPOSED]
    assert outs(PIPELINE["compose"]) == composed == whole["params"]
    for stage, file in zip(STAGE_KEYS, composed, strict=False):
        assert [dep for dep in PIPELINE[stage]["deps"] if dep.startswith("artifacts/config/")] == [file]
        assert "params" not in PIPELINE[stage]
    assert PIPELINE["compose"]["params"] == [{"params.yaml": None}]


def test_the_stages_are_the_same_when_listed_in_several_places() -> None:
    assert list(PIPELINE) == list(STAGES) == list(HELP) == ["compose", *STAGE_KEYS]
    assert [entry["desc"] for entry in PIPELINE.values()] == [text[0].upper() + text[1:] for text in HELP.values()]
    assert all(entry.keys() <= {"desc", "cmd", "deps", "params", "outs"} for entry in PIPELINE.values())
