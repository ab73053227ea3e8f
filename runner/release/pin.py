"""Pin: `gitops/serving/environments/<environment>/model.env`, the only place that says which model an environment runs.

kustomize makes a ConfigMap of it: lines of KEY=value, where everything behind the `=` is the value. Lines that begin
with `#` are skipped, so they can hold a note (kustomize: api/kv/kv.go, keyValuesFromLine).
"""

import re
from pathlib import Path
from typing import NamedTuple

from runner.errors import ConfigError
from runner.workspace import parse_assignments, write_text

FOLDER = Path("gitops/serving/environments")
DEV, STAGING, PROD = "dev", "staging", "prod"  # environments: the pipeline pins dev, proposes staging, never prod
KEYS = ("MODEL_URI", "MODEL_SHA256", "MODEL_VERSION", "MODEL_COMMIT", "MODEL_MAP50")


class Pin(NamedTuple):
    """Content of model.env."""

    uri: str  # of the manifest: s3://bucket/key, or a path
    sha256: str  # of the manifest, in hex
    version: str
    commit: str  # that it was trained from; empty when unknown
    map50: str  # on test; empty when not measured
    note: str = ""  # why a version is pinned that the gate rejected


def pin_file(environment: str) -> Path:
    """Return the path of an environment's pin, relative to the project."""
    return FOLDER / environment / "model.env"


def environments(project: Path) -> list[str]:
    """Return the environments that have a pin, sorted."""
    return sorted(file.parent.name for file in project.glob(str(pin_file("*"))))


def read_pin(project: Path, environment: str) -> Pin | None:
    """Return an environment's pin; None when it is missing or empty, ConfigError when `promote` did not write it."""
    file = project / pin_file(environment)
    try:
        return parse_pin(file.read_text(encoding="utf-8"), file)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: cannot be read ({error}); expected what `python -m runner promote` writes"
        ) from error


def parse_pin(text: str, file: Path) -> Pin | None:
    """Parse a model.env; None when it names no model, ConfigError, with its path, when `promote` did not write it."""
    lines = [line.strip() for line in text.splitlines()]
    values = parse_assignments(lines, file, KEYS)
    if not values.get("MODEL_URI"):
        return None
    if not re.fullmatch("[0-9a-f]{64}", values.get("MODEL_SHA256", "")):
        raise ConfigError(
            f"{file}: MODEL_SHA256 is {values.get('MODEL_SHA256', '')!r}, expected the manifest's 64 hexadecimal "
            f"digits; `python -m runner promote --to {file.parent.name}` writes them"
        )
    note = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    uri, sha256, version, commit, map50 = (values.get(key, "") for key in KEYS)
    return Pin(uri, sha256, version, commit, map50, note)


def write_pin(project: Path, environment: str, pin: Pin) -> bool:
    """Write an environment's pin atomically; return whether it changed. ConfigError: there is no such environment."""
    check_environment(project, environment)
    file = project / pin_file(environment)
    note = f"# {' '.join(pin.note.split())}\n" if pin.note else ""
    text = note + "".join(f"{key}={' '.join(value.split())}\n" for key, value in zip(KEYS, pin, strict=False))
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return False
    write_text(file, text)
    return True


def check_environment(project: Path, environment: str) -> None:
    """Raise ConfigError, with the environments that there are, if this is none."""
    if not (project / pin_file(environment)).parent.is_dir():
        there = ", ".join(sorted(folder.name for folder in (project / FOLDER).glob("*/"))) or "none"
        raise ConfigError(
            f"{FOLDER / environment}/: no such environment (there are: {there}); run this in the project's folder, or "
            "add the environment first; gitops/README.md, An earlier version, where its folder is another"
        )
