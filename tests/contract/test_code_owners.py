"""CODEOWNERS: what becomes a privileged image, or is applied, is owned; the two files of the bot are not."""

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

from runner.retrain.bot_commit import BOT_FILES
from tests.conftest import PROJECT


def owners(path: str) -> list[str]:
    """Return the owners of a path as GitHub finds them: the last line that matches counts."""
    found = list[str]()
    for line in (PROJECT / "CODEOWNERS").read_text(encoding="utf-8").splitlines():
        pattern, *names = line.partition("#")[0].split() or [""]
        rooted = pattern.lstrip("/")
        whole = pattern.startswith("/") and (
            fnmatch(path, rooted) or (pattern.endswith("/") and path.startswith(rooted))
        )
        if pattern and (whole or (not pattern.startswith("/") and fnmatch(Path(path).name, pattern))):
            found = names
    return found


def test_what_becomes_an_image_or_builds_one_is_owned() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
    files = listed.stdout.splitlines()
    images = [each for each in files if each.endswith("Containerfile") and not each.startswith("tests/")]
    assert len(images) > 1
    for image in images:
        copied = re.findall(r"^COPY (?!--)(.+) \S+$", (PROJECT / image).read_text(encoding="utf-8"), re.MULTILINE)
        for path in (image, *(name for line in copied for name in line.split() if (PROJECT / name).is_file())):
            assert owners(path), path
    for path in files:
        if path.startswith((".github/", ".ci/", "gitops/")) or path == "CODEOWNERS":
            assert owners(path) or path in BOT_FILES, path
    assert not any(owners(path) for path in BOT_FILES)
