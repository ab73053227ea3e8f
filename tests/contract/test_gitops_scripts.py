"""Scripts inside manifests are held to the same as those in files: shellcheck reads each."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import gitops

SHELLS = {"sh", "/bin/sh", "bash", "/bin/bash"}


def scripts(value: Any, where: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, shell and text of each script: of `sh -c`, of a Tekton step, of a ConfigMap's *.sh."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from scripts(item, f"{where}[{item.get('name', number) if isinstance(item, dict) else number}]")
    if not isinstance(value, dict):
        return
    words = [*(value.get("command") or ()), *(value.get("args") or ())] if "image" in value else []
    if len(words) > 2 and words[0] in SHELLS and str(words[1]).startswith("-") and "c" in words[1]:
        yield where, Path(words[0]).name, ("set -e\n" if "e" in words[1] else "") + words[2]
    if isinstance(value.get("script"), str):
        first, _, rest = value["script"].partition("\n")
        shell = first.rpartition("/")[2].split()[-1] if first.startswith("#!") else "sh"
        if shell in ("sh", "bash"):
            yield where, shell, value["script"] if first.startswith("#!") else f"{first}\n{rest}"
    for key, item in value.items():
        if key.endswith(".sh") and isinstance(item, str):
            yield f"{where}.{key}", "sh", item
        yield from scripts(item, f"{where}.{key}")


def all_scripts() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for leaf in gitops.leaves():
        for obj in leaf.objects:
            for name, shell, text in scripts(obj, f"{obj['kind']}/{obj['metadata']['name']}"):
                found[f"{leaf.path}: {name}"] = (shell, text)
    return found


FOUND = all_scripts()


def check(shell: str, text: str) -> str:
    program = shutil.which("shellcheck") or str(Path(gitops.PROJECT, ".venv/bin/shellcheck"))
    done = subprocess.run([program, f"--shell={shell}", "-"], input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_fault_is_seen_when_a_script_has_one() -> None:
    step = {"image": "x", "command": ["sh", "-c", "rm -r $1/data"]}
    ((name, shell, text),) = scripts({"kind": "Job", "steps": [step]}, "Job/x")
    assert (name, shell) == ("Job/x.steps[0]", "sh")
    assert "SC2086" in check(shell, text)
    assert list(scripts({}, "")) == []


@pytest.mark.parametrize("name", FOUND)
def test_shellcheck_finds_nothing_when_a_manifest_holds_a_script(name: str) -> None:
    assert check(*FOUND[name]) == ""


@pytest.mark.parametrize("name", FOUND)
def test_a_script_is_short_when_it_stands_in_a_manifest(name: str) -> None:
    assert len(FOUND[name][1].splitlines()) <= 30, "it belongs into the image, or into a file of its own"
