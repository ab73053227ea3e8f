"""How a stage runs: alone, whole or not at all, and no longer than what started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.run import outputs, project_root, work_folder

STAGE = """
import sys, time
from runner.run import outputs
with outputs("x", "out") as (out,):
    print("begun", flush=True)
    time.sleep(float(sys.argv[1]))
    (out / "by").write_text(sys.argv[2])
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the current folder."""
    for name in ("DVC_STAGE", "DVC_ROOT", "RUNNER_WORK"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "ein Projekt für ü"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def start(project: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(project)} | environment, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(pid: int) -> bool:
    """Whether a process that is not our child is gone within some seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_outputs_are_there_when_the_block_writes_nothing(here: Path) -> None:
    with outputs("x", "one", "two") as folders:
        assert [list(folder.iterdir()) for folder in folders] == [[], []]
        assert not (here / "artifacts").exists()
    assert sorted(path.name for path in (here / "artifacts").iterdir()) == ["one", "two"]
    assert list((here / "artifacts/one").iterdir()) == []


def test_old_outputs_give_way_when_a_stage_ran_before(here: Path) -> None:
    for text in ("first", "second"):
        with outputs("x", "out") as (out,):
            (out / text).write_text(text)
    assert [path.name for path in (here / "artifacts/out").iterdir()] == ["second"]


def test_old_outputs_stay_and_nothing_is_left_when_the_block_fails(here: Path) -> None:
    with outputs("x", "out") as (out,):
        (out / "a").write_text("good")
    with pytest.raises(ZeroDivisionError, match="stop"), outputs("x", "out") as (out,):
        (out / "a").write_text("bad")
        raise ZeroDivisionError("stop")
    assert (here / "artifacts/out/a").read_text() == "good"
    assert [path.name for path in (here / ".work").iterdir()] == ["x.lock"]


def test_remains_of_a_kill_are_gone_when_the_stage_runs_again(here: Path) -> None:
    (here / ".work/x.build/out").mkdir(parents=True)
    (here / ".work/x.build/out/half").write_text("half")
    with outputs("x", "out") as (out,):
        assert list(out.iterdir()) == []


def test_work_folder_is_where_it_is_told(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (project_root(), work_folder()) == (here, here / ".work")
    monkeypatch.setenv("RUNNER_WORK", "")
    assert work_folder() == here / ".work"
    monkeypatch.setenv("RUNNER_WORK", "scratch")
    assert work_folder() == here / "scratch"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert work_folder() == tmp_path / "scratch"
    monkeypatch.setenv("RUNNER_WORK", "/elsewhere")
    assert work_folder() == Path("/elsewhere")


def test_the_second_waits_when_a_stage_runs_already(here: Path, project: Path) -> None:
    first = start(project, sys.executable, "-c", STAGE, "2", "first")
    assert said(first) == "begun"
    second = start(project, sys.executable, "-c", STAGE, "3", "second")
    assert said(second) == "x: waiting for another process that runs this stage here"
    assert first.poll() is None
    assert said(second) == "begun"
    assert (here / "artifacts/out/by").read_text() == "first"
    for process in (first, second):
        process.communicate()
        assert process.returncode == 0
    assert (here / "artifacts/out/by").read_text() == "second"


@pytest.mark.parametrize("shell", [False, True], ids=["dvc starts it", "dvc's shell starts it"])
def test_the_stage_ends_with_its_children_when_dvc_is_killed(here: Path, project: Path, shell: bool) -> None:
    stage = (
        f"\"{sys.executable}\" -c \"import subprocess, os; from runner.run import outputs\nwith outputs('x', 'out'):"
        + ("\n    child = subprocess.Popen(['sleep', '60']); print(os.getpid(), child.pid, flush=True); child.wait()\"")
    )
    command = f"{stage}; true" if shell else f"exec {stage}"  # a shell stays when more is to come
    dvc = f"import subprocess; subprocess.run({command!r}, shell=True)"
    process = start(project, sys.executable, "-c", dvc, DVC_STAGE="x")
    pids = [int(word) for word in said(process).split()]
    assert len(pids) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [ended(pid) for pid in pids] == [True, True]
    assert not (here / "artifacts").exists()
    with outputs("x", "out"):
        pass
    assert (here / "artifacts/out").is_dir()


def test_the_stage_goes_on_when_no_dvc_started_it(here: Path, project: Path) -> None:
    parent = f"import subprocess; subprocess.Popen([{sys.executable!r}, '-c', {STAGE!r}, '1', 'orphan'])"
    process = start(project, sys.executable, "-c", parent)
    assert said(process) == "begun"
    process.communicate()
    deadline = time.monotonic() + 20
    while not (here / "artifacts/out/by").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (here / "artifacts/out/by").read_text() == "orphan"
