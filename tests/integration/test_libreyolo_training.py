"""All stages with LibreYOLO as the trainer, where Ultralytics is not installed and no socket leads anywhere."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import load_model
from serving.vision.detector import Detector
from tests.support.processes import CACHE, stop, unavailable, until
from tests.support.projects import copy_project, set_params

pytestmark = pytest.mark.slow

PYTHON = CACHE / "libreyolo/venv/bin/python"
EPOCHS = 8
PARAMS = {
    "presets": {"model": "yolox_n_scratch", "train": "smoke"},
    "dataset": {"sample": {"pictures": 60, "seed": 0}},
    "split": {"val": 0.2, "test": 0.2},
    "model": {"imgsz": 64},
    "train": {"epochs": EPOCHS},
    "export": {"quantize": "int8"},
    "gate": {"min_map50": 0, "min_boxes": 1},
}
NO_NETWORK = """
import socket
connect = socket.socket.connect
def of_this_machine(self, address):  # PyTorch's workers hand over pictures by Unix sockets
    if self.family != socket.AF_UNIX:
        raise OSError("no network in this test")
    return connect(self, address)
def closed(*_, **__):
    raise OSError("no network in this test")
socket.socket.connect = of_this_machine
socket.create_connection = socket.getaddrinfo = closed
"""


class Project(NamedTuple):
    folder: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of the runner, with that Python."""
        command = [str(PYTHON), "-m", "runner", *arguments]
        with (self.folder / "log").open("w") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT, text=True
            )

    def run(self, *arguments: str) -> str:
        """Return what a command printed, once it ended well."""
        process = self.start(*arguments)
        status, text = process.wait(), (self.folder / "log").read_text()
        assert status == 0, text[-3000:]
        return text

    def results(self) -> list[str]:
        return (self.folder / "artifacts/model/results.csv").read_text().splitlines()


@pytest.fixture(scope="module")
def trained(
    project: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, str, str]:
    """A project after all stages; what the training said that continued a killed one; and what `publish` said."""
    found = subprocess.run([PYTHON, "-c", "import libreyolo, hydra"], check=False, capture_output=True, text=True)
    if found.returncode:
        unavailable(f"an environment with LibreYOLO and the pipeline is missing: run `make libreyolo`\n{found.stderr}")
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(NO_NETWORK)
    (folder := tmp_path_factory.mktemp("project")).rmdir()
    copy_project(project, folder, environment)
    set_params(folder, PARAMS)
    path = os.pathsep.join([str(PYTHON.parent), environment["PATH"]])
    made = Project(folder, environment | {"PATH": path, "PYTHONPATH": str(site), "STORE_URI": "store"})
    for stage in ("compose", "fetch", "prepare", "split"):
        made.run(stage)
    process, checkpoints = made.start("train"), folder / ".work/train"
    try:
        until(lambda: process.poll() is not None or [*checkpoints.glob("*/checkpoints/0*")], 600, pause_s=0.01)
        assert process.poll() is None, (folder / "log").read_text()[-3000:]
    finally:
        stop(process, kill=True)
    continued = made.run("train")
    for command in (("export",), ("evaluate",), ("gate", "--alone")):
        made.run(*command)
    (folder / "dvc.lock").write_text("schema: '2.0'\n")  # DVC's, which is not asked here
    return made, continued, made.run("publish", "--uri")


def test_ultralytics_is_not_there_when_all_stages_run(trained: tuple[Project, str, str]) -> None:
    assert subprocess.run([PYTHON, "-c", "import ultralytics"], capture_output=True, check=False).returncode


def test_a_killed_training_continues_and_leaves_one_row_for_each_epoch(trained: tuple[Project, str, str]) -> None:
    made, continued, _ = trained
    assert "continuing after epoch" in continued
    head, *rows = made.results()
    assert head.startswith("epoch,") and "metrics/mAP50(B)" in head
    assert [row.split(",")[0] for row in rows] == [str(epoch + 1) for epoch in range(EPOCHS)]
    assert str(made.folder).encode() not in (made.folder / "artifacts/model/best.pt").read_bytes()


def test_the_export_has_the_usual_form_so_all_that_follows_takes_it(trained: tuple[Project, str, str]) -> None:
    artifacts = trained[0].folder / "artifacts"
    for name in ("model.onnx", "model.int8.onnx"):
        detector = Detector(artifacts / "export" / name)
        assert (detector.classes, detector.output.form) == (["airplane", "helicopter"], "grid")
        assert detector.free and detector.form.shape == "margin"
    difference = json.loads((artifacts / "export/difference.json").read_text())
    assert max(difference["box"], difference["confidence"]) <= 1e-3
    assert "map50" in json.loads((artifacts / "evaluation/metrics.json").read_text())


def test_what_is_published_names_the_program_that_trained_it_and_is_served(trained: tuple[Project, str, str]) -> None:
    made, _, uri = trained
    model = load_model(str(made.folder / uri.splitlines()[-1]), endpoint_of_environment())
    assert model.manifest and model.manifest.libraries["libreyolo"] and "ultralytics" not in model.manifest.libraries
    assert model.manifest.license is None


def test_a_training_starts_from_weights_that_were_added(trained: tuple[Project, str, str]) -> None:
    made, *_ = trained
    shutil.copyfile(best := made.folder / "artifacts/model/best.pt", added := made.folder / "yolox_n.pt")
    made.run("weights", "add", added.name)
    set_params(made.folder, {"presets": {"model": "yolox_n"}, "train": {"epochs": 1, "lr0": 1e-6}})
    made.run("compose")
    made.run("train")
    before, after = (torch.load(file, weights_only=True)["model"] for file in (added, best))
    convolutions = [name for name, weight in before.items() if weight.dim() == 4]
    assert convolutions and all(torch.allclose(before[name], after[name], atol=1e-4) for name in convolutions)
    assert len(made.results()) == 2
