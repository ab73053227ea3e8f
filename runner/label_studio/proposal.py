"""Pull request for new labels, as a file between two containers: one decodes pictures, the other holds Git's token.

Who takes over the first, by a picture, can propose another dataset and nothing else: a person reviews it.
"""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.errors import LabelStudioError
from runner.forge.pull_request import propose
from runner.workspace import PARAMS

BRANCH = "labels"
_JPEG = b"\xff\xd8\xff"
_MAY_CHANGE = {("dataset", "name"), ("dataset", "url"), ("dataset", "sha256"), ("presets", "dataset")}


class Proposal(BaseModel):
    """A pull request: params.yaml as it would be, a title of one line, a text in Markdown, and a JPEG to show in it."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )

    params: str = Field(max_length=1 << 20)
    title: str = Field(max_length=500, pattern=r"^[^\r\n]+$")
    body: str = Field(max_length=1 << 20)
    picture: bytes | None = Field(default=None, max_length=1 << 23)


def propose_labels(project: Path, file: Path) -> str:
    """Open the pull request of a file that `labels pull --proposal` wrote; return a text to print.

    LabelStudioError: the file is not one, or would change more of params.yaml than its dataset.
    """
    if not file.is_file():
        return f"{file}: not there, so there is nothing to propose"
    try:
        proposal = Proposal.model_validate_json(file.read_bytes())
    except (ValidationError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise LabelStudioError(f"{file}: expected what `labels pull --proposal` writes, found {reason}") from error
    if proposal.picture is not None and not proposal.picture.startswith(_JPEG):
        raise LabelStudioError(f"{file}: its picture is no JPEG; nothing is proposed")
    before, after = _values((project / PARAMS).read_text(encoding="utf-8")), _values(proposal.params)
    if before is None or before != after:
        raise LabelStudioError(f"{file}: would change more of {PARAMS} than its dataset; nothing is proposed")
    return open_pull_request(project, proposal, as_bot=True)


def open_pull_request(project: Path, proposal: Proposal, *, as_bot: bool = False) -> str:
    """Push the branch `labels` and open its pull request; BRANCH, set in the cluster's pods, is the base."""
    base, files = os.environ.get("BRANCH"), {str(PARAMS): proposal.params}
    title, body, picture = proposal.title, proposal.body, proposal.picture
    return propose(project, files, branch=BRANCH, title=title, body=body, base=base, picture=picture, as_bot=as_bot)


def _values(text: str) -> dict[tuple[Any, ...], object] | None:
    """Return the values of params.yaml by section and key, without those that may change; None: it is not YAML."""
    try:
        content = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    found: dict[tuple[Any, ...], object] = {}
    for section, inner in content.items():
        if isinstance(inner, dict) and inner:
            found |= {(section, key): value for key, value in inner.items()}
        else:
            found[(section,)] = inner or None
    kept = {key: value for key, value in found.items() if key not in _MAY_CHANGE}
    return {key: value for key, value in kept.items() if key not in (("dataset",), ("presets",)) or value}
