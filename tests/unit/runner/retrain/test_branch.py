from pathlib import Path

import pytest

from runner.retrain.branch import LONGEST, newer_on
from tests.support.projects import Repository

DVC = "stages: {train: {cmd: 'true', deps: [runner/stages/train.py, artifacts/x], outs: [artifacts/x]}}\n"
FILES = {"params.yaml": "seed: 0\n", "dvc.yaml": DVC, "runner/stages/train.py": "", "runner/label_studio/pull.py": ""}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


MORE = DVC.replace("train.py", "train.py, runner/more.py")


@pytest.mark.parametrize(
    "changed",
    [
        {"params.yaml": "seed: 1\n"},
        {"runner/stages/train.py": "# new\n"},
        {"runner/stages/train.py": None},
        {"conf/a.yaml": ""},
        {"dvc.yaml": MORE},
        {"dvc.yaml": MORE, "runner/more.py": "# an input as of this commit\n"},
        {"dvc.yaml": "stages: [", "params.yaml": "seed: 1\n"},
        {"dvc.yaml": "stages: {a: {deps: [':(exclude)params.yaml']}}", "params.yaml": "seed: 1\n"},
    ],
)
def test_the_newest_is_named_when_an_input_changed(repository: Repository, changed: dict[str, str | None]) -> None:
    first = repository.commit("first", **FILES)
    later = repository.commit("later" * 200, **changed)
    repository.commit(
        "a word", **{"runner/label_studio/pull.py": "# a word\n", "README.md": "new\n", "dvc.lock": "a: 1\n"}
    )
    said = newer_on(repository.url, "main", first)
    assert said.startswith(f"superseded by {later[:7]} later")
    assert len(said) <= LONGEST
    assert newer_on(repository.url, "main", later) == ""


def test_a_commit_has_no_place_when_it_left_the_branch(repository: Repository) -> None:
    repository.commit("first", **FILES)
    gone = repository.commit("gone", **{"params.yaml": "seed: 1\n"})
    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.commit("other", **{"README.md": "new\n"})
    assert newer_on(repository.url, "main", gone) == f"{gone[:12]} is no longer on the branch"
