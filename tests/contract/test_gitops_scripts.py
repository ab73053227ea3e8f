"""Scripts inside manifests are held to the same as those in files: shellcheck reads each."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import gitops
from tests.support.processes import program

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
        first = value["script"].partition("\n")[0]
        shell = first.rpartition("/")[2].split()[-1] if first.startswith("#!") else "sh"
        if shell in ("sh", "bash"):
            yield where, shell, value["script"]
    for key, item in value.items():
        if key.endswith(".sh") and isinstance(item, str):
            yield f"{where}.{key}", "sh", item
        yield from scripts(item, f"{where}.{key}")


def check(folder: Path, *found: tuple[str, str, str]) -> str:
    """Return the faults of scripts, each with the script's name."""
    names = {str(number): name for number, (name, _, _) in enumerate(found)}
    for number, (_, shell, text) in enumerate(found):
        (folder / str(number)).write_text(f"# shellcheck shell={shell}\n{text}" if text[:2] != "#!" else text)
    shellcheck = program("shellcheck", "`make setup` installs it")
    command = [shellcheck, "--format=gcc", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return re.sub(r"^\d+", lambda number: names[number[0]], done.stdout + done.stderr, flags=re.MULTILINE)


def test_a_fault_is_seen_when_a_script_has_one(tmp_path: Path) -> None:
    step = {"image": "x", "command": ["sh", "-c", "rm -r $1/data"]}
    ((name, shell, text),) = scripts({"kind": "Job", "steps": [step]}, "Job/x")
    assert re.match(r"Job/x\.steps\[0\]:2:.*SC2086", check(tmp_path, (name, shell, text)))


def test_a_script_is_sound_and_short_when_it_stands_in_a_manifest(tmp_path: Path) -> None:
    leaves = (*gitops.leaves(), *gitops.variants())
    objects = [(f"{obj['kind']}/{obj['metadata']['name']}", obj) for leaf in leaves for obj in leaf.objects]
    found = sorted({script for name, obj in objects for script in scripts(obj, name)})
    assert found
    assert check(tmp_path, *found) == ""
    # A longer one belongs into the image, or into a file of its own.
    assert [name for name, _, text in found if len(text.splitlines()) > 30] == []
