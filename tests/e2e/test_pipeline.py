import shutil
from pathlib import Path

import pytest

from runner.pipeline.plan import make_plan
from runner.stages.registry import STAGES
from tests.e2e.conftest import digests
from tests.support.projects import Run

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
STAGES_RUN = "import sys; from runner.__main__ import main; sys.exit(any([main([stage]) for stage in sys.argv[1:]]))"


def test_nothing_runs_when_repro_is_repeated(copy_of_trained: Path, run: Run) -> None:
    again = run("dvc", "repro", cwd=copy_of_trained)
    assert "Running stage" not in again.stdout
    assert "Data and pipelines are up to date." in again.stdout
    plan = make_plan(copy_of_trained)
    assert (plan.answer, plan.reasons) == ("nothing", {})


def test_stages_repeat_and_open_no_connection(copy_of_trained: Path, trained: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "network.log"
    hook = {"PYTHONPATH": str(tmp_path / "hook"), "NETWORK_LOG": str(log)}
    probe = run("python", "-c", "import socket; socket.getaddrinfo('example.invalid', 80)", cwd=tmp_path, **hook)
    assert probe.returncode == 1
    assert "example.invalid" in log.read_text()  # the hook sees what it should
    log.unlink()
    shutil.rmtree(copy_of_trained / ".work")
    done = run("python", "-c", STAGES_RUN, *STAGES, cwd=copy_of_trained, **hook)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not log.exists(), log.read_text()
    for stage in STAGES:
        if stage == "train":  # its figures have seconds beside them
            assert digests(copy_of_trained, stage).keys() == digests(trained, stage).keys()
        else:
            assert digests(copy_of_trained, stage) == digests(trained, stage)


def test_summary_and_doctor_are_content_when_all_is_well(trained: Path, run: Run) -> None:
    said = run("python", "-m", "runner", "summary", cwd=trained).stdout
    assert [part for part in ("mAP50", "airplane", "artifacts/report/index.html") if part not in said] == []
    done = run("python", "-m", "runner", "doctor", cwd=trained)
    assert done.returncode == 0, done.stdout


def test_dvc_shows_plots(trained: Path, run: Run, tmp_path: Path) -> None:
    shown = run("dvc", "plots", "show", "-o", str(tmp_path / "plots"), cwd=trained)
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "plots" / "index.html").is_file()
