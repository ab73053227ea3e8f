"""A clone has the same bytes whatever Git is told about line ends, since DVC compares the files' bytes."""

import subprocess
from pathlib import Path


def test_files_are_the_same_when_git_is_told_to_write_windows_line_ends(project: Path, tmp_path: Path) -> None:
    for name, setting in (("windows", "true"), ("linux", "false")):
        command = ["git", "-c", f"core.autocrlf={setting}", "checkout-index", "--all", f"--prefix={tmp_path / name}/"]
        subprocess.run(command, cwd=project, check=True)
    files = [file.relative_to(tmp_path / "linux") for file in (tmp_path / "linux").rglob("*") if file.is_file()]
    assert files
    changed = [
        name for name in files if (tmp_path / "linux" / name).read_bytes() != (tmp_path / "windows" / name).read_bytes()
    ]
    assert not changed
