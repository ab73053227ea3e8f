"""One name, one meaning: no module or class of runner and serving has the name of another, no command that of a group.

Modules may share a name when they offer the same public function, as the `cli` of each room does, or are at the same
place of both packages, as `errors` is.
"""

import argparse
import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from runner.__main__ import _parser

PROJECT = Path(__file__).resolve().parents[2]
FILES = [file for package in ("runner", "serving") for file in sorted((PROJECT / package).rglob("*.py"))]


def repeated(named: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names that stand for several things; `named` are (name, thing)."""
    things: dict[str, list[str]] = defaultdict(list)
    for name, thing in named:
        things[name].append(thing)
    return {name: found for name, found in things.items() if len(found) > 1}


def functions(file: Path) -> frozenset[str]:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"))


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield (word, "group") for each command that takes further commands, and (word, "command") for the others."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                nested = list(commands(inner))
                yield word, "group" if nested else "command"
                yield from nested


def test_no_class_has_the_name_of_another() -> None:
    classes = (
        (node.name, file.relative_to(PROJECT).as_posix())
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert repeated(classes) == {}


def test_no_module_has_the_name_of_another() -> None:
    modules = repeated((file.stem, file.relative_to(PROJECT).as_posix()) for file in FILES if file.stem[:2] != "__")
    for name, files in list(modules.items()):
        places = {file.partition("/")[2] for file in files}
        if len(places) == 1 or frozenset.intersection(*(functions(PROJECT / file) for file in files)):
            del modules[name]
    assert modules == {}


def test_no_command_has_the_name_of_a_group() -> None:
    assert repeated({*commands(_parser())}) == {}
    assert repeated([("a", "1"), ("b", "2"), ("a", "3")]) == {"a": ["1", "3"]}  # and none would be overlooked
