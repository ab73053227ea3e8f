"""Training of a YOLO detector with Ultralytics; a kill loses at most the current epoch.

Checkpoints are in `.work/train/<digest of all inputs>/`: a run with the same inputs resumes, others start anew.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils.plotting import plot_results
from ultralytics.utils.torch_utils import strip_optimizer

from runner.config.schema import AugmentConfig, ModelConfig, TrainConfig
from runner.dataset.entries import Entry, read_entries
from runner.errors import StageError
from runner.stages.checkpoints import keep_checkpoint, restore_checkpoint
from runner.stages.device import check_device
from runner.stages.parallel import workers
from runner.stages.picture_files import PictureFiles
from runner.workspace import link, remove_stale, sha256_of, write_text


class Trainer(DetectionTrainer):  # type: ignore[misc]
    """Ultralytics' trainer with atomic checkpoints, which fails instead of dropping a picture.

    At module level, so that Ultralytics' subprocesses for several GPUs can import it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take Ultralytics' arguments."""
        super().__init__(*args, **kwargs)
        if self.device.type == "cpu":
            torch.set_num_threads(workers())  # Ultralytics' own default leaves one core idle

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Load the pictures of one list, or raise StageError if Ultralytics left some out."""
        dataset = super().build_dataset(img_path, mode, batch)
        listed = len(Path(img_path).read_text(encoding="utf-8").splitlines())
        if len(dataset) != listed:
            raise StageError(
                f"Ultralytics uses {len(dataset)} of the {listed} pictures for {mode}; its warnings say why"
            )
        return dataset

    def save_model(self) -> bool:
        """Save as Ultralytics does, then copy the state into an atomic checkpoint."""
        saved = bool(super().save_model())
        keep_checkpoint(self.save_dir, self.save_dir.parent / "checkpoints", self.epoch, finished=bool(self.stop))
        return saved


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
    pins: Path,
    weights: Path | None,
    files: PictureFiles,
) -> None:
    """Train and fill `out` with best.pt, results.csv and the curves.

    `work` keeps the checkpoints, which survive a kill. `pins`, a file of package versions, is part of the inputs'
    digest. `weights` is the file of `model.base` when that is a .pt; None: from scratch.
    """
    device = os.environ.get("RUNNER_DEVICE", "")
    check_device(device, settings.batch)
    if weights is None:
        check_architecture(model.base)
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
            plot_results(file=run / "results.csv")
        else:
            if checkpoint:
                print(f"continuing after epoch {checkpoint.epoch + 1} of {settings.epochs}", flush=True)
            _fit(
                {
                    **options,
                    "model": str(weights or model.base),
                    "imgsz": model.imgsz,
                    "data": str(data),
                    "deterministic": True,
                    "device": device,
                    "workers": workers(),
                    "project": str(folder),
                    "name": run.name,
                    "exist_ok": True,
                    "resume": str(run / "weights" / "last.pt") if checkpoint else False,
                    "plots": True,
                }
            )
        _collect(run, out)
        shutil.rmtree(folder / "data")
        shutil.rmtree(run)


def check_architecture(base: str) -> None:
    """Raise StageError unless Ultralytics ships the architecture."""
    try:
        yaml_model_load(base)
    except FileNotFoundError as error:
        raise StageError(
            f"model.base: Ultralytics has no {base}; expected one of its architectures, such as yolo11n.yaml"
        ) from error


def _read_parts(dataset: Path, split: Path) -> dict[str, list[Entry]]:
    index = {entry["image"]: entry for entry in read_entries(dataset)}
    return {
        part: [index[image] for image in (split / f"{part}.txt").read_text(encoding="utf-8").splitlines()]
        for part in ("train", "val")
    }


def _digest(values: dict[str, Any], dataset: Path, parts: dict[str, list[Entry]], pins: Path) -> str:
    """Return a digest of the inputs: settings, package versions, and every training picture and label."""
    seen = [
        [part, entry["image"], (entry["encoded"] or [entry["sha256"]])[0], entry["labels"]]
        for part, entries in parts.items()
        for entry in entries
    ]
    digests = [sha256_of(pins), sha256_of(dataset / "classes.txt")]
    return hashlib.sha256(json.dumps([values, seen, digests], sort_keys=True).encode()).hexdigest()[:16]


def _view(parts: dict[str, list[Entry]], files: PictureFiles, split: Path, view: Path) -> Path:
    """Make the folders that Ultralytics reads, and may write its caches into: links to the pictures, label files.

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


def _fit(arguments: dict[str, Any]) -> None:
    try:
        Trainer(overrides=arguments).train()
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise StageError(
                f"not enough memory for train.batch {arguments['batch']} at model.imgsz {arguments['imgsz']} "
                f"({str(error).splitlines()[0] if str(error) else 'MemoryError'}); make one of them smaller"
            ) from error
        raise


def _collect(run: Path, out: Path) -> None:
    """Copy the best weights, the figures and the curves into `out`, without paths of this machine."""
    best = run / "weights" / "best.pt"
    if not best.exists():  # no epoch improved the fitness: use the last one
        shutil.copyfile(run / "weights" / "last.pt", best)
    unknown: dict[str, Any] = {"date": None, "git": None, "train_args": {}, "train_results": None}
    if not strip_optimizer(best, str(out / "best.pt"), updates=unknown):
        raise StageError(f"{best}: Ultralytics cannot read its own weights; remove {run.parent} and run again")
    shutil.copyfile(run / "results.csv", out / "results.csv")
    for picture in sorted([*run.glob("*.png"), *run.glob("*.jpg")]):
        shutil.copyfile(picture, out / picture.name)
