"""`publish --baseline`: a pretrained model as Ultralytics saves it, exported here, without network."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.release.pin import pin_file, read_pin
from serving.vision.detector import Detector
from tests.support.projects import Run
from tests.support.trained import Trained

pytestmark = pytest.mark.slow

SAVE = "YOLO(sys.argv[2]).save(sys.argv[3]); print(0)"  # its weights are random


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """A project with the overlay of the baseline; the gate has judged nothing."""
    trained = Trained(tmp_path / "project")
    (trained.folder / pin_file("baseline")).parent.mkdir(parents=True)
    return trained


def test_it_is_one_version_that_never_becomes_the_latest_when_published_twice(
    project: Path, tmp_path: Path, trained: Trained, run: Run, ultralytics: Any
) -> None:
    ultralytics(SAVE, "yolo11n.yaml", file := tmp_path / "yolo11n.pt")
    command = ("python", "-m", "runner", "publish", "--baseline", str(file), "--json")
    done = [run(*command, cwd=trained.folder, PYTHONPATH=str(project)) for _ in range(2)]
    first, second = (json.loads(each.stdout) for each in done)  # and nothing of what Ultralytics says
    assert (first["model"], first["version"], first["passed"], first["latest"]) == ("yolo11n", 1, None, False)
    assert second == first | {"new": False}
    store = trained.folder / "store"
    files = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    assert files == {
        *("models/yolo11n/1/model.onnx", "models/yolo11n/1/manifest.json"),
        *(f"runs/yolo11n/1/{name}" for name in ("claim.json", "README.md", "bom.json", "yolo11n.pt")),
    }
    assert len(Detector(store / "models/yolo11n/1/model.onnx").classes) == 80
    promote = ("promote", "--to", "baseline", "--model", "yolo11n", "--allow-local")
    assert run("python", "-m", "runner", *promote, cwd=trained.folder, PYTHONPATH=str(project)).returncode == 0
    pin = read_pin(trained.folder, "baseline")
    assert pin is not None and (pin.version, pin.commit, pin.map50) == ("1", "", "")


def test_refused_when_it_segments(project: Path, tmp_path: Path, trained: Trained, run: Run, ultralytics: Any) -> None:
    ultralytics(SAVE, "yolo11n-seg.yaml", file := tmp_path / "yolo11n-seg.pt")
    command = ("python", "-m", "runner", "publish", "--baseline", str(file))
    done = run(*command, cwd=trained.folder, PYTHONPATH=str(project))
    assert done.returncode == 1
    assert "yolo11n-seg.pt: a model for the task segment, expected one that finds boxes (detect)" in done.stderr
    assert not (trained.folder / "store").exists()
