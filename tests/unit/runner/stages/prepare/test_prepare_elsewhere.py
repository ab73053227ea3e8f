"""prepare on a Dask cluster, on a full disk, killed: the same bytes in the end, nothing trusted that is half-done."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.support.pictures import RawDataset, encoded, settings

PICTURES = 12
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # [bytes] of the largest file: no prepared picture fits
from runner.__main__ import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_WORKERS", "1")
    for name in ("RUNNER_PARALLEL", "RUNNER_WORK", "DVC_STAGE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of a megabyte, where this user may mount one."""
    folder = tmp_path / "eine kleine Platte für ü"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(data: RawDataset) -> RawDataset:
    """Pictures of noise with alpha: each must be written anew and takes some 30 kB."""
    noise = np.random.default_rng(0).integers(0, 256, (PICTURES, 100, 100, 4), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        data.put(f"größe {number:02}.png", data=encoded(Image.fromarray(pixels), "PNG"))
    return data


def as_project(folder: Path) -> Path:
    """A project whose stage `fetch` has run."""
    data = fill(RawDataset(folder / "made"))
    (folder / "artifacts/config").mkdir(parents=True)
    data.raw.rename(folder / "artifacts/raw")
    values = {"dataset": {"classes": []}, "prepare": settings().model_dump()}
    (folder / "artifacts/config/prepare.yaml").write_text(yaml.safe_dump(values))
    return folder


def run_stage(folder: Path, project: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *(command or ("-m", "runner")), "prepare"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for name in ("dataset", "report") for path in (folder / "artifacts" / name).rglob("*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


@pytest.fixture
def undisturbed(tmp_path: Path, project: Path) -> dict[str, bytes]:
    """What comes out when nothing happens."""
    folder = as_project(tmp_path / "undisturbed")
    process = run_stage(folder, project)
    said, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert said.startswith(f"{PICTURES} of {PICTURES} pictures, {PICTURES} boxes; 0 things left out")
    return contents(folder)


def test_bytes_are_equal_when_a_dask_cluster_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    data = fill(RawDataset(tmp_path))
    data.prepare(max_width=64)
    alone = data.contents()
    again = fill(RawDataset(tmp_path / "cluster"))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None
    ) as cluster:
        monkeypatch.setenv("RUNNER_PARALLEL", "dask")
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        monkeypatch.chdir(again.folder)
        again.raw = Path("raw")  # relative, as in the pipeline
        again.prepare(max_width=64)
    assert again.contents() == alone


def test_the_error_is_clear_and_a_later_run_right_when_the_disk_is_full(
    small_disk: Path, project: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = as_project(small_disk)
    process = run_stage(folder, project)
    said, errors = process.communicate()
    assert (process.returncode, said) == (1, "")
    assert errors.startswith("error: ") and "No space left on device; free some space" in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in (folder / "artifacts").iterdir()) == ["config", "raw"]
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    process = run_stage(folder, project)
    assert process.communicate()[1] == ""
    assert contents(folder) == undisturbed


def test_the_error_is_clear_when_the_disk_is_read_only(small_disk: Path, project: Path) -> None:
    folder = as_project(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    process = run_stage(folder, project)
    said, errors = process.communicate()
    assert (process.returncode, said) == (1, "")
    assert errors.startswith("error: ") and "Read-only file system; free some space or change the rights" in errors


def test_a_later_run_is_right_when_a_file_could_not_grow(
    tmp_path: Path, project: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = as_project(tmp_path / "limited")
    process = run_stage(folder, project, "-c", LIMITED)
    assert "File too large" in process.communicate()[1]
    assert process.returncode == 1
    assert sorted(path.name for path in (folder / "artifacts").iterdir()) == ["config", "raw"]
    assert not list((folder / ".work/prepare").rglob("*.png"))
    assert run_stage(folder, project).communicate()[1] == ""
    assert contents(folder) == undisturbed


def test_a_later_run_is_right_and_short_when_the_stage_was_killed(
    tmp_path: Path, project: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = as_project(tmp_path / "killed")
    process = run_stage(folder, project)
    deadline = time.monotonic() + 60
    while not list((folder / ".work/prepare").rglob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in (folder / ".work/prepare").rglob("[!.]*.png")}
    assert process.returncode == -signal.SIGKILL
    assert kept
    assert not (folder / "artifacts/dataset").exists()
    assert run_stage(folder, project).communicate()[1] == ""
    assert contents(folder) == undisturbed
    unchanged = [path for path, when in kept.items() if path.stat().st_mtime_ns == when]
    assert len(unchanged) >= len(kept) - 1  # the last may not have been noted yet
