import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import MagicMock

import psutil
import pytest

from runner.workspace import link, outputs, project_root, remove_stale, work_folder, write_text, writing
from tests.support.processes import until

STAGE = """
import sys
from runner.workspace import outputs
with outputs("x", "out") as (out,):
    print("begun", flush=True)
    sys.stdin.read()
    (out / "by").write_text(sys.argv[1])
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the current folder."""
    folder = tmp_path / "ein Projekt für ü"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def start(project: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(project)} | environment
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def has_ended(pid: int) -> bool:
    """Whether a process that is not our child is gone, or waits for its parent's look."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_old_outputs_and_remains_of_a_kill_give_way_when_a_stage_runs_again(here: Path) -> None:
    (here / ".work/x.build/out").mkdir(parents=True)
    (here / ".work/x.build/out/half").write_text("half")
    for text in ("first", "second"):
        with outputs("x", "out", "empty") as (out, _):
            assert list(out.iterdir()) == []
            (out / text).write_text(text)
    assert sorted(path.name for path in (here / "artifacts").iterdir()) == ["empty", "out"]
    assert [path.name for path in (here / "artifacts/out").iterdir()] == ["second"]


def test_old_outputs_stay_and_nothing_is_left_when_the_block_fails(here: Path) -> None:
    for content, error in (("good", None), ("bad", ZeroDivisionError("stop"))):
        with suppress(ZeroDivisionError), outputs("x", "out") as (out,):
            (out / "a").write_text(content)
            if error:
                raise error
    assert (here / "artifacts/out/a").read_text() == "good"
    assert [path.name for path in (here / ".work").iterdir()] == ["x.lock"]


def test_work_folder_is_where_it_is_told(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (project_root(), work_folder()) == (here, here / ".work")
    assert work_folder(tmp_path) == tmp_path / ".work"
    monkeypatch.setenv("RUNNER_WORK", "")
    assert work_folder() == here / ".work"
    monkeypatch.setenv("RUNNER_WORK", "scratch")
    assert work_folder() == here / "scratch"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert work_folder() == tmp_path / "scratch"
    assert work_folder(here) == here / "scratch"
    monkeypatch.setenv("RUNNER_WORK", "/elsewhere")
    assert work_folder() == Path("/elsewhere")


def test_the_second_waits_when_a_stage_runs_already(here: Path, project: Path) -> None:
    first = start(project, sys.executable, "-c", STAGE, "first")
    assert said(first) == "begun"
    second = start(project, sys.executable, "-c", STAGE, "second")
    assert said(second) == "x: waiting for another process that runs this stage here"
    first.communicate()
    assert said(second) == "begun"
    assert (here / "artifacts/out/by").read_text() == "first"
    second.communicate()
    assert first.returncode == second.returncode == 0
    assert (here / "artifacts/out/by").read_text() == "second"


@pytest.mark.parametrize("shell", [False, True], ids=["dvc starts it", "dvc's shell starts it"])
def test_the_stage_ends_with_its_children_when_dvc_is_killed(here: Path, project: Path, shell: bool) -> None:
    code = (
        "import subprocess, os; from runner.workspace import outputs\n"
        "with outputs('x', 'out'):\n"
        "    child = subprocess.Popen(['sleep', '60']); print(os.getpid(), child.pid, flush=True); child.wait()"
    )
    stage = f'"{sys.executable}" -c "{code}"'
    command = f"{stage}; true" if shell else f"exec {stage}"  # a shell stays when more is to come
    dvc = f"import subprocess; subprocess.run({command!r}, shell=True)"
    process = start(project, sys.executable, "-c", dvc, DVC_STAGE="x")
    pids = [int(word) for word in said(process).split()]
    assert len(pids) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert until(lambda: all(map(has_ended, pids)), 20)
    assert not (here / "artifacts").exists()
    with outputs("x", "out"):
        pass
    assert (here / "artifacts/out").is_dir()


@pytest.mark.parametrize("killed", [0, 1], ids=["the stage", "its launcher"])
def test_a_process_of_several_gpus_ends_when_one_above_it_is_killed(here: Path, project: Path, killed: int) -> None:
    """torch.distributed.run, which Ultralytics starts, leaves its processes behind when it or the stage is killed."""
    worker = "from runner.workspace import die_with_ancestors; import os, time; die_with_ancestors(2)\n"
    worker += "print(os.getppid(), os.getpid(), flush=True); time.sleep(60)"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    stage = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {launcher!r}])"
    process = start(project, sys.executable, "-c", stage)
    launched, worked = [int(word) for word in said(process).split()]
    os.kill([process.pid, launched][killed], signal.SIGKILL)
    assert until(lambda: has_ended(worked), 20)
    process.communicate(timeout=60)


def test_the_stage_goes_on_when_no_dvc_started_it(here: Path, project: Path) -> None:
    parent = f"import subprocess; subprocess.Popen([{sys.executable!r}, '-c', {STAGE!r}, 'orphan'])"
    process = start(project, sys.executable, "-c", parent)
    assert said(process) == "begun"
    process.wait()
    process.communicate()  # with the end of its input the stage ends
    assert (here / "artifacts/out/by").read_text() == "orphan"


@pytest.mark.parametrize("durable", [True, False])
def test_text_and_folders_are_written_when_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    path = tmp_path / "ein Ordner" / "für" / f"{'直' * 66}.txt"
    with writing(path, durable=durable) as temporary:
        temporary.write_text("größe\n", encoding="utf-8")
    assert path.read_bytes() == "größe\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert bool(waited) is durable
    write_text(path, "")
    assert path.read_bytes() == b""


def test_old_text_stays_and_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError, match="stop"), writing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError("stop")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_only_stale_folders_go_when_others_are_used(tmp_path: Path) -> None:
    for name, days in (("keep", 15), ("old", 15), ("young", 13)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - days * 86400,) * 2)
    remove_stale(tmp_path / "keep")
    remove_stale(tmp_path / "missing/new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keep", "young"]
    assert time.time() - (tmp_path / "keep").stat().st_mtime < 3600


def test_file_is_linked_or_copied_where_the_file_system_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    for file in (a, b):
        file.write_text(file.name)
    (tmp_path / "cache").symlink_to("a")
    with pytest.raises(FileExistsError, match="b"):
        link(a, b)
    link(tmp_path / "cache", c)
    assert a.samefile(c) and not c.is_symlink()
    c.unlink()
    monkeypatch.setattr(os, "link", MagicMock(side_effect=OSError(18, "Invalid cross-device link")))
    link(a, c)
    assert [file.read_text() for file in (a, b, c)] == ["a", "b", "a"]
    assert not a.samefile(c)
