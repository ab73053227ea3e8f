import importlib.metadata
from pathlib import Path

import pytest

from runner.errors import StageError
from runner.pipeline import doctor
from runner.pipeline.packages import check_image
from tests.support.projects import set_params


@pytest.fixture(autouse=True)
def without_slow_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages are examined in a test of their own; torch takes seconds."""
    monkeypatch.setattr(doctor, "CHECKS", tuple(check for check in doctor.CHECKS if check.__name__ != "_packages"))


def test_each_missing_thing_has_a_remedy_when_the_folder_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("RUNNER_WORK", "scratch/not/there/yet")
    (other := tmp_path / "python").write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    text, well = doctor.examine(tmp_path)
    assert not well
    for wrong in (".git is missing", ".dvc is missing", f"`python` on PATH is {other}"):
        assert f"FAIL  {wrong}\n      " in text
    assert "params.yaml: " in text
    assert f"ok    {tmp_path} can be written\nok    {tmp_path / 'scratch'} can be written\n" in text


def test_the_version_is_named_when_the_dataset_is_not_in_the_store(configured: Path) -> None:
    dataset = {"name": "birds", "url": "store:datasets/birds/0123456789ab.zip", "sha256": "0" * 64}
    set_params(configured, {"presets": {"dataset": "store"}, "dataset": dataset})
    text, well = doctor.examine(configured)
    assert not well
    assert f"FAIL  dataset {dataset['url']}" in text


@pytest.mark.parametrize("file", ["dvc.yaml", "dvc.lock", "params.yaml"])
def test_the_way_out_is_named_when_a_merge_left_a_conflict(configured: Path, file: str) -> None:
    sides = ("split:\n  val: 0.1\n", "split:\n  val: 0.2\n")
    (configured / file).write_text("seed: 1\n<<<<<<< HEAD\n{}=======\n{}>>>>>>> a\n".format(*sides))
    text, well = doctor.examine(configured)
    assert not well
    assert f"{file}:2: " in text
    assert ("git checkout --ours dvc.lock" if file == "dvc.lock" else "`git add`") in text


def test_a_package_is_named_when_its_version_is_not_the_tested_one(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("numpy==0.1\n")
    (tmp_path / "constraints-train.txt").write_text("pillow==0.2 ; python_version < '3'\npillow==0.3\n")
    findings = {finding.what.split(" ")[0]: finding for finding in doctor._packages(tmp_path)}
    assert "tested with 0.1" in findings["numpy"].what and findings["numpy"].remedy == "run `make setup`"
    assert "tested with 0.2 or 0.3" in findings["pillow"].what


def test_the_image_is_refused_when_a_package_is_not_the_pinned_one(tmp_path: Path) -> None:
    version = importlib.metadata.version("typing_extensions")
    (tmp_path / "constraints.txt").write_text(f"Typing.Extensions=={version}\nnobody-has-this==1\n")
    check_image(tmp_path)
    (tmp_path / "constraints-train.txt").write_text("numpy==0.1\nnumpy==0.2\n")
    with pytest.raises(StageError, match=r"numpy [\d.]+, pinned 0\.1 or 0\.2"):
        check_image(tmp_path)
