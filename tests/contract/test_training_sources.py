"""What a training is made of is one list: that of dvc.yaml, which the listener's filter repeats."""

import re
from pathlib import Path

import pytest
import yaml

from runner.pipeline.sources import ALWAYS, sources
from tests.support import gitops


def test_the_filter_names_what_the_stages_depend_on(project: Path) -> None:
    listener = (gitops.GITOPS / "pipelines/base/trigger/event-listener.yaml").read_text(encoding="utf-8")
    found = re.search(r"file in \[(.*?)\] \|\| \[(.*?)\]\.exists\(folder", " ".join(listener.split()))
    assert found
    files, folders = (re.findall(r'"([^"]+)"', names) for names in found.groups())
    wanted = sources(project)
    assert files == [name for name in wanted if (project / name).is_file()]
    assert folders == [f"{name}/" for name in wanted if (project / name).is_dir()]


def test_what_a_stage_makes_is_no_source(project: Path) -> None:
    found = sources(project)
    assert {"runner/stages/train", "runner/dataset", *ALWAYS} <= set(found)
    assert not [name for name in found if name.startswith("artifacts") or not (project / name).exists()]
    assert not any(name.startswith(("runner/label_studio", "runner/retrain", "runner/release")) for name in found)


@pytest.mark.parametrize("text", [None, "", "stages: [", "- a list", "stages: {a: 1}", "\xff"])
def test_what_always_counts_is_left_when_dvc_yaml_cannot_be_read(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "dvc.yaml").write_text(text, encoding="latin-1")
    assert sources(tmp_path) == list(ALWAYS)


def test_a_dependency_counts_when_it_has_settings(tmp_path: Path) -> None:
    stages = {
        "a": {"deps": ["code.py", {"more.py": {"hash": "md5"}}], "outs": [{"out": {"push": False}}]},
        "b": {"deps": ["out"]},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert sources(tmp_path) == sorted([*ALWAYS, "code.py", "more.py"])
