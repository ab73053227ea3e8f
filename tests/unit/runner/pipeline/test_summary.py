import json
import re
from pathlib import Path

import pytest

from runner.errors import StageError
from runner.pipeline.summary import summarize


def test_the_missing_file_is_named_when_nothing_ran(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"report.json is missing; `dvc repro` makes it"):
        summarize(tmp_path, markdown=False)


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The outputs of a run, one class without test boxes."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "artifacts"
    for name in ("report", "evaluation", "export", "config", "split"):
        (folder / name).mkdir(parents=True)
    report = {
        "pictures": {"found": 12, "kept": 10, "background": 2, "unusable": 2},
        "boxes": {"a|b": 7, "kite": 3},
        "left_out": [{}, {}],
    }
    figures = {"map50": 0.91, "map50_95": 0.5, "precision": 0.9, "recall": 0.8, "threshold": 0.3, "boxes": 7}
    none = dict.fromkeys(figures, None) | {"boxes": 0}
    (folder / "report/report.json").write_text(json.dumps(report))
    (folder / "evaluation/metrics.json").write_text(
        json.dumps({**figures, "pictures": 3, "classes": {"a|b": figures, "kite": none}})
    )
    (folder / "export/difference.json").write_text(json.dumps({"confidence": 1e-6}))
    (folder / "export/model.onnx").write_bytes(bytes(1_500_000))
    (folder / "config/fetch.yaml").write_text("dataset: {url: sample}")
    (folder / "config/train.yaml").write_text(
        "{seed: 0, model: {base: yolo11n.yaml, imgsz: 160}, train: {epochs: 4, batch: 8}}"
    )
    for part in ("train", "val", "test"):
        (folder / f"split/{part}.txt").write_text("images/a.jpg\n")
    return tmp_path


def test_figures_stand_in_it_when_a_run_ended(finished: Path) -> None:
    text = summarize(finished, markdown=False)
    assert "mAP50 0.910 on 3 test pictures; model.onnx 1.5 MB" in text
    (finished / "artifacts/export/model.int8.onnx").write_bytes(bytes(500_000))
    assert "model.int8.onnx 0.5 MB" in summarize(finished, markdown=False)
    assert "10 of 12, 2 of them background" in text
    assert re.search(r"kite +0 +- +-", text)
    assert "train     not run here" in text
    text = summarize(finished, markdown=True)
    assert "### What came out" in text
    assert "| a\\|b | 7 | 0.910 |" in text
