"""Package versions: those of constraints.txt and constraints-train.txt, and those that are installed."""

import importlib.metadata
import re
from pathlib import Path

from packaging.utils import canonicalize_name

from runner.errors import StageError


def pinned(project: Path) -> dict[str, list[str]]:
    """Return the pinned versions of each package; several when they differ between Pythons."""
    versions: dict[str, list[str]] = {}
    for file in (project / "constraints.txt", project / "constraints-train.txt"):
        if file.is_file():
            for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", file.read_text("utf-8"), re.MULTILINE):
                versions.setdefault(canonicalize_name(name), []).append(version)
    return versions


def check_image(project: Path) -> None:
    """Raise StageError when an installed package differs from the commit's pin: the image is older than the commit."""
    distributions = importlib.metadata.distributions()
    installed: dict[str, str] = {canonicalize_name(each.name): each.version for each in distributions}
    others = [
        f"{name} {installed[name]}, pinned {' or '.join(wanted)}"
        for name, wanted in sorted(pinned(project).items())
        if name in installed and installed[name].split("+")[0] not in wanted
    ]
    if others:
        raise StageError(
            f"the image has other packages than constraints.txt and constraints-train.txt say ({'; '.join(others)}): "
            "rebuild the image, and commit its digest to gitops/images"
        )
