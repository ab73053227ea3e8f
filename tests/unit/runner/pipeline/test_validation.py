import json
from contextlib import chdir
from pathlib import Path

import pytest

from runner.__main__ import main
from runner.errors import StageError
from runner.pipeline.validation import FIGURES, measure_val
from tests.support.trained import RIGHT, Trained


def test_val_is_measured_as_test_would_be_and_test_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = Trained(tmp_path)
    trained.folders.add("val", "wrong", f"0 {RIGHT}\n", brightness=200)  # so that val is harder than test
    trained.repro()
    on_test = {name: trained.folders.metrics()[name] for name in FIGURES}
    test = tmp_path / "artifacts/split/test.txt"
    test.write_text("images/unknown.jpg\n")
    before = sorted(tmp_path.glob("artifacts/**/*"))
    with chdir(tmp_path):
        assert main(["evaluate", "--val"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sorted(tmp_path.glob("artifacts/**/*")) == before
    assert figures["map50"] < on_test["map50"] <= 1
    assert figures["map50_low"] <= figures["map50"] <= figures["map50_high"]

    trained.folders.parts["test"] = trained.folders.parts["val"]
    trained.repro()
    assert figures == {name: trained.folders.metrics()[name] for name in FIGURES}


def test_refused_with_the_missing_file_when_nothing_was_exported(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"evaluate\.yaml.*dvc repro export"):
        measure_val(tmp_path)
