"""Checkpoints of a training, written atomically, so that the newest one is intact after a kill.

Ultralytics writes `last.pt` in place. So the state after each epoch is copied, with its results.csv, into a folder that
appears by a rename and lists the digests of its files.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from runner.workspace import sha256_of, write_text, writing

KEPT = 2


class Checkpoint(NamedTuple):
    """Content of checkpoint.json."""

    epoch: int  # counted from 0
    finished: bool  # whether this was the last epoch
    sha256: dict[str, str]  # of each file, by its path in Ultralytics' folder


def keep_checkpoint(run: Path, checkpoints: Path, epoch: int, *, finished: bool) -> None:
    """Copy the state in Ultralytics' folder `run` into `checkpoints/<epoch>` atomically; remove older checkpoints."""
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
    write_text(building / "checkpoint.json", json.dumps(Checkpoint(epoch, finished, digests)._asdict()))
    target = checkpoints / f"{epoch:06d}"
    shutil.rmtree(target, ignore_errors=True)
    building.rename(target)
    for old in sorted(checkpoints.glob("[0-9]*"))[:-KEPT]:
        shutil.rmtree(old)


def restore_checkpoint(checkpoints: Path, run: Path) -> Checkpoint | None:
    """Copy the newest checkpoint whose files match their digests into a new folder `run`; None when there is none."""
    for folder in sorted(checkpoints.glob("[0-9]*"), reverse=True):
        try:
            found = Checkpoint(**json.loads((folder / "checkpoint.json").read_text(encoding="utf-8")))
            intact = all(sha256_of(folder / Path(name).name) == sha256 for name, sha256 in found.sha256.items())
        except (OSError, ValueError, TypeError):
            intact = False
        if intact:
            (run / "weights").mkdir(parents=True)
            for name in found.sha256:
                shutil.copyfile(folder / Path(name).name, run / name)
            return found
        print(f"checkpoint {folder.name} is damaged; it is not used", flush=True)
    return None
