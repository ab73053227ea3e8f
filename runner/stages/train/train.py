"""Training of a detector by the program that `model.trainer` names; a kill loses at most the current epoch.

Checkpoints are in `.work/train/<digest of all inputs>/`: a run with the same inputs resumes, others start anew.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from runner.config.schema import AugmentConfig, ModelConfig, TrainConfig
from runner.dataset.entries import Entry, read_entries
from runner.stages.checkpoints import restore_checkpoint
from runner.stages.device import check_device, training_device
from runner.stages.offline import set_up
from runner.stages.picture_files import PictureFiles
from runner.stages.train.training_run import TrainingRun
from runner.workspace import link, remove_stale, sha256_of, write_text


def train(
    dataset: Path,
    split: Path,
    seed: int,
    model: ModelConfig,
    settings: TrainConfig,
    augment: AugmentConfig,
    out: Path,
    *,
    work: Path,
    pins: Sequence[Path],
    weights: Path | None,
    files: PictureFiles,
) -> None:
    """Train and fill `out` with best.pt, results.csv and, by Ultralytics, the curves.

    `work` keeps the checkpoints, which survive a kill. `pins`, files of package versions, are part of the inputs'
    digest. `weights` is the file of `model.base` when that is a .pt; None: from scratch.
    """
    program: Any
    set_up(model.trainer, work)
    if model.trainer == "libreyolo":
        from runner.stages.train import libreyolo as program
    else:
        from runner.stages.train import ultralytics as program
    device = training_device()
    check_device(device, settings.batch, model.trainer)
    options = {"seed": seed, **settings.model_dump(), **augment.model_dump()}
    parts = _read_parts(dataset, split)
    folder = work / "train" / _digest({**options, "model": model.model_dump()}, dataset, parts, pins)
    remove_stale(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        data = _view(parts, files, split, folder / "data")
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        checkpoint = restore_checkpoint(folder / "checkpoints", run)
        if checkpoint and checkpoint.finished:
            print("training had ended before; its results are collected", flush=True)
        else:
            if checkpoint:
                print(f"continuing after epoch {checkpoint.epoch + 1} of {settings.epochs}", flush=True)
            resumed = checkpoint is not None
            inputs = (data, seed, model, weights, settings, augment, device)
            program.fit(TrainingRun(run, folder / "checkpoints", resumed, *inputs))
        program.collect(run, out)
        shutil.rmtree(folder / "data")
        shutil.rmtree(run)


def _read_parts(dataset: Path, split: Path) -> dict[str, list[Entry]]:
    index = {entry["image"]: entry for entry in read_entries(dataset)}
    return {
        part: [index[image] for image in (split / f"{part}.txt").read_text(encoding="utf-8").splitlines()]
        for part in ("train", "val")
    }


def _digest(values: dict[str, Any], dataset: Path, parts: dict[str, list[Entry]], pins: Sequence[Path]) -> str:
    """Return a digest of the inputs: settings, package versions, and every training picture and label."""
    seen = [
        [part, entry["image"], (entry["encoded"] or [entry["sha256"]])[0], entry["labels"]]
        for part, entries in parts.items()
        for entry in entries
    ]
    digests = [*map(sha256_of, pins), sha256_of(dataset / "classes.txt")]
    return hashlib.sha256(json.dumps([values, seen, digests], sort_keys=True).encode()).hexdigest()[:16]


def _view(parts: dict[str, list[Entry]], files: PictureFiles, split: Path, view: Path) -> Path:
    """Make the folders that the program reads, and may write its caches into: links to the pictures, label files.

    Return their data.yaml.
    """
    shutil.rmtree(view, ignore_errors=True)
    for folder in ("images", "labels"):
        (view / folder).mkdir(parents=True)
    for part, entries in parts.items():
        for entry, file in zip(entries, files.prepared(entries), strict=True):
            image = view / entry["image"]
            link(file, image)
            (view / "labels" / f"{image.stem}.txt").write_text(entry["labels"], encoding="utf-8")
        write_text(view / f"{part}.txt", "".join(f"{view / entry['image']}\n" for entry in entries))
    data = yaml.safe_load((split / "data.yaml").read_text(encoding="utf-8"))
    write_text(view / "data.yaml", yaml.safe_dump({**data, "path": str(view)}, allow_unicode=True, sort_keys=False))
    return view / "data.yaml"
