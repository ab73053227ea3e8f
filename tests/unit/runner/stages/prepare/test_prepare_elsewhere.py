"""prepare on a Dask cluster, and where a file cannot grow: the same bytes in the end, nothing half-done is trusted."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.support.pictures import RawDataset, encoded, settings

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # [bytes] of the largest file: no prepared picture fits
from runner.__main__ import main
sys.exit(main())
"""


def fill(data: RawDataset) -> RawDataset:
    """Pictures of noise with alpha: each must be written anew and takes some 30 kB."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 100, 100, 4), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        data.put(f"größe {number:02}.png", data=encoded(Image.fromarray(pixels), "PNG"))
    return data


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


def run_stage(folder: Path, project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command, "prepare"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_later_run_is_right_when_a_file_could_not_grow(tmp_path: Path, project: Path) -> None:
    data = fill(RawDataset(tmp_path))
    data.prepare()
    undisturbed = data.contents()
    (data.folder / "artifacts/config").mkdir(parents=True)
    data.raw.rename(data.folder / "artifacts/raw")
    values = {"dataset": {"classes": []}, "prepare": settings().model_dump()}
    (data.folder / "artifacts/config/prepare.yaml").write_text(yaml.safe_dump(values))
    done = run_stage(data.folder, project, "-c", LIMITED)
    assert (done.returncode, done.stdout) == (1, "")
    assert "File too large" in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in (data.folder / "artifacts").iterdir()) == ["config", "raw"]
    assert not list((data.folder / ".work/prepare").rglob("*.png"))
    done = run_stage(data.folder, project, "-m", "runner")
    assert (done.returncode, done.stderr) == (0, "")
    data.out = data.folder / "artifacts"
    made = {name: content for name, content in data.contents().items() if name.startswith(("dataset", "report"))}
    assert made == undisturbed
