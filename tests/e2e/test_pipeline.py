"""The whole pipeline on the smoke preset, through real `dvc`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runner.stages.registry import STAGES
from tests.support.projects import Run, set_params

pytestmark = pytest.mark.slow

# Loaded by every Python of a run: notes each attempt to reach a host that is not this machine.
WATCH = """
import os, sys
def watch(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1", "localhost")):
            note(event, address)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        if str(arguments[0]) not in ("localhost", "127.0.0.1", "::1", ""):
            note(event, arguments[0])
def note(event, what):
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(f"{sys.argv}: {event}: {what}\\n")
sys.addaudithook(watch)
"""


def test_every_output_is_there_when_repro_ran(trained: Path) -> None:
    for stage in STAGES.values():
        for output in stage.outputs:
            assert any((trained / "artifacts" / output).iterdir())
    metrics = json.loads((trained / "artifacts/evaluation/metrics.json").read_text())
    assert 0 <= metrics["map50"] <= 1 and set(metrics["classes"]) == {"airplane", "helicopter"}


def test_nothing_runs_when_repro_is_repeated(copy_of_trained: Path, run: Run) -> None:
    again = run("dvc", "repro", cwd=copy_of_trained)
    assert "Running stage" not in again.stdout
    assert "Data and pipelines are up to date." in again.stdout
    planned = json.loads(run("python", "-m", "runner", "plan", "--json", cwd=copy_of_trained).stdout)
    assert (planned["answer"], planned["reasons"]) == ("nothing", {})


def test_no_stage_opens_a_connection(copy_of_trained: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "network.log"
    probe = run(
        *("python", "-c", "import socket; socket.getaddrinfo('example.invalid', 80)"),
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path / "hook"),
        NETWORK_LOG=str(log),
    )
    assert probe.returncode == 1 and "example.invalid" in log.read_text()  # the hook sees what it should
    log.unlink()
    shutil.rmtree(copy_of_trained / ".work")
    for stage in STAGES:
        done = run(
            *("python", "-m", "runner", stage),
            cwd=copy_of_trained,
            PYTHONPATH=str(tmp_path / "hook"),
            NETWORK_LOG=str(log),
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert not log.exists(), log.read_text()


def test_the_metrics_are_equal_when_trained_twice(copy_of_trained: Path, trained: Path, run: Run) -> None:
    shutil.rmtree(copy_of_trained / ".work")
    for stage in ("train", "export", "evaluate"):
        assert run("python", "-m", "runner", stage, cwd=copy_of_trained).returncode == 0
    for file in ("export/model.onnx", "evaluation/metrics.json"):
        assert (copy_of_trained / "artifacts" / file).read_bytes() == (trained / "artifacts" / file).read_bytes()


def test_only_what_depends_on_it_runs_when_a_value_changes(copy_of_trained: Path, run: Run) -> None:
    set_params(copy_of_trained, {"evaluate": {"worst": 3}})
    planned = json.loads(run("python", "-m", "runner", "plan", "--json", cwd=copy_of_trained).stdout)["reasons"]
    assert list(planned) == ["compose", "evaluate"]
    assert "evaluate.worst: 20 → 3" in planned["evaluate"]
    done = run("dvc", "repro", cwd=copy_of_trained)
    ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["compose", "evaluate"]
    assert "evaluate.worst" in run("dvc", "params", "diff", cwd=copy_of_trained).stdout


def test_the_summary_names_figures_and_pictures(trained: Path, run: Run) -> None:
    text = run("python", "-m", "runner", "summary", cwd=trained).stdout
    assert "mAP50" in text and "airplane" in text and "artifacts/report/index.html" in text
    assert "| class |" in run("python", "-m", "runner", "summary", "--markdown", cwd=trained).stdout


def test_dvc_shows_metrics_and_plots(trained: Path, run: Run, tmp_path: Path) -> None:
    assert "map50" in run("dvc", "metrics", "show", cwd=trained).stdout
    shown = run("dvc", "plots", "show", "-o", str(tmp_path / "plots"), cwd=trained)
    assert shown.returncode == 0 and (tmp_path / "plots" / "index.html").is_file()


def test_the_doctor_is_content_when_all_is_well(trained: Path, run: Run) -> None:
    done = run("python", "-m", "runner", "doctor", cwd=trained)
    assert done.returncode == 0, done.stdout
