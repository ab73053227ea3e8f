import json
from pathlib import Path

import pytest

from runner.errors import LabelStudioError
from runner.label_studio import proposal
from runner.label_studio.proposal import propose_labels

PARAMS = "presets:\n  dataset: sample\n  train: cpu\ndataset:\n  name:\n  classes: [a]\nseed: 0\n"
NEXT = PARAMS.replace("sample", "store").replace("name:", f"name: birds\n  url: store:x\n  sha256: {'a' * 64}")
TEXTS = {"title": "Labels: 2 added", "body": "two\nlines"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.setenv("BRANCH", "trunk")
    monkeypatch.setattr(proposal, "propose", lambda *given, **named: json.dumps([given[1], named]))
    return tmp_path


def test_the_files_pull_request_is_opened_when_it_names_another_dataset(project: Path) -> None:
    file = project / "proposal.json"
    assert "nothing to propose" in propose_labels(project, file)
    file.write_text(json.dumps({"params": NEXT, **TEXTS}))
    files, named = json.loads(propose_labels(project, file))
    assert (files, named) == (
        {"params.yaml": NEXT},
        {"branch": "labels", "base": "trunk", "picture": None, "as_bot": True, **TEXTS},
    )


@pytest.mark.parametrize(
    "content",
    [
        *({"params": NEXT.replace(*change)} for change in (("seed: 0", "seed: 1"), ("[a]", "[b]"), ("train: cpu", ""))),
        *({"params": text} for text in (f"{NEXT}gate: {{deploy: true}}\n", "a: [", "", "- 1", "x", None)),
        *({"title": text} for text in ("", "two\nlines", "x" * 501)),
        {"files": {"CODEOWNERS": ""}},
        *({"picture": text} for text in ("", "PGh0bWw-", "no base64!", 1)),
    ],
)
def test_refused_when_it_would_change_anything_else(project: Path, content: dict[str, object]) -> None:
    (project / "proposal.json").write_text(json.dumps({"params": NEXT, **TEXTS, **content}))
    with pytest.raises(LabelStudioError, match=r"proposal.json: "):
        propose_labels(project, project / "proposal.json")
