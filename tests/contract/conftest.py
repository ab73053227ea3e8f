"""A copy of the project whose stages behind `compose` are stubs, so that real `dvc` answers in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.projects import IDENTITY, Run, copy_project

# Reads every dependency, writes every output from what it read; run without site-packages, so it starts at once.
STUB = """
import hashlib, os, sys
deps, outs = (part.split("|") for part in sys.argv[1:])
digest = hashlib.sha256()
for dep in deps:
    names = [dep] if os.path.isfile(dep) else sorted(f"{at}/{name}" for at, _, all in os.walk(dep) for name in all)
    for name in names:
        if not name.endswith(".pyc"):
            digest.update(open(name, "rb").read())
text = digest.hexdigest()
for out in outs:
    os.makedirs(out)
    open(f"{out}/made", "w").write(text)
    open(f"{out}/metrics.json", "w").write('{"map50": 0.%d}' % int(text[:4], 16))
    columns = "epoch,metrics/mAP50(B),metrics/precision(B),metrics/recall(B)"
    open(f"{out}/results.csv", "w").write(columns + "\\n1,0.1,0.2,0.3\\n")
"""


@pytest.fixture(scope="session")
def stubbed(project: Path, environment: dict[str, str], run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy after one `dvc repro`, committed; tests must not change it."""
    copy = copy_project(project, tmp_path_factory.mktemp("stubbed") / "flywheel", environment)
    pipeline: dict[str, Any] = yaml.safe_load((copy / "dvc.yaml").read_text(encoding="utf-8"))
    for name, stage in pipeline["stages"].items():
        if name != "compose":
            outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
            stage["cmd"] = f'python -S stub.py "{"|".join(stage["deps"])}" "{"|".join(outs)}"'
    (copy / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    (copy / "stub.py").write_text(STUB, encoding="utf-8")
    done = run("dvc", "repro", cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    run("git", "add", "-A", cwd=copy)
    run("git", *IDENTITY, "commit", "-qm", "first run", cwd=copy)
    return copy


@pytest.fixture
def stubbed_copy(stubbed: Path, tmp_path: Path) -> Path:
    """A copy of the stubbed project that a test may change."""
    return Path(shutil.copytree(stubbed, tmp_path / "flywheel", symlinks=True))
