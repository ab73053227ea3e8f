"""Checkpoints of a training, written atomically, so that the newest one is intact after a kill.

Ultralytics writes `last.pt` in place. So the state after each epoch is copied, with its results.csv, into a folder that
appears by a rename and lists the digests of its files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from runner.workspace import sha256_of, write_text, writing

KEPT = 2


def keep_checkpoint(run: Path, checkpoints: Path, epoch: int, *, finished: bool) -> None:
    """Copy a run's state into `checkpoints/<epoch>` atomically; remove older checkpoints.

    Args:
        run: Ultralytics' folder: weights/last.pt, weights/best.pt, results.csv.
        epoch: counted from 0.
        finished: whether this was the last epoch.
    """
    checkpoints.mkdir(exist_ok=True)
    building = checkpoints / ".building"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    digests = {}
    for name in ("weights/last.pt", "weights/best.pt", "results.csv"):
        if (run / name).exists():
            with writing(building / Path(name).name) as temporary:
                shutil.copyfile(run / name, temporary)
            digests[name] = sha256_of(building / Path(name).name)
    write_text(building / "checkpoint.json", json.dumps({"epoch": epoch, "finished": finished, "sha256": digests}))
    target = checkpoints / f"{epoch:06d}"
    shutil.rmtree(target, ignore_errors=True)
    building.rename(target)
    for old in sorted(checkpoints.glob("[0-9]*"))[:-KEPT]:
        shutil.rmtree(old)


def newest_checkpoint(checkpoints: Path) -> Path | None:
    """Return the newest checkpoint whose files match their digests; None when there is none."""
    for folder in sorted(checkpoints.glob("[0-9]*"), reverse=True):
        try:
            intact = all(
                sha256_of(folder / Path(name).name) == sha for name, sha in read_checkpoint(folder)["sha256"].items()
            )
        except (OSError, ValueError, KeyError):
            intact = False
        if intact:
            return folder
        print(f"checkpoint {folder.name} is damaged; it is not used", flush=True)
    return None


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Return epoch (counted from 0), finished (whether it was the last one) and the files' digests."""
    content: dict[str, Any] = json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))
    return content


def restore_checkpoint(checkpoint: Path, run: Path) -> None:
    """Copy the files of a checkpoint to where Ultralytics reads them; `run` must not exist."""
    (run / "weights").mkdir(parents=True)
    for name in read_checkpoint(checkpoint)["sha256"]:
        shutil.copyfile(checkpoint / Path(name).name, run / name)
