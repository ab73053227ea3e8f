from __future__ import annotations

import subprocess
from pathlib import Path

from runner.cluster.bootstrap import changed_since
from tests.support.projects import IDENTITY


def test_files_are_whole_names_when_names_have_blanks_and_accents(tmp_path: Path) -> None:
    (tmp_path / "gitops").mkdir()
    for name in ("as it is.yaml", "à changer.yaml"):
        (tmp_path / "gitops" / name).write_text("a: 1\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "made"]):
        subprocess.run(["git", *IDENTITY, *command], cwd=tmp_path, check=True)
    (tmp_path / "gitops/à changer.yaml").write_text("a: 2\n")
    (tmp_path / "gitops/a new one.yaml").write_text("a: 3\n")
    assert changed_since(tmp_path, "HEAD", ["gitops"]) == ["gitops/à changer.yaml", "gitops/a new one.yaml"]
