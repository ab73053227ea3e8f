"""Training of a YOLOX detector with LibreYOLO (MIT); nothing here imports Ultralytics.

Of `train` and `augment` LibreYOLO has what `_options` translates. Its change of colours is one of its own, on or off.
"""

import csv
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from libreyolo.models.yolox.model import LibreYOLOX
from libreyolo.models.yolox.trainer import YOLOXTrainer
from libreyolo.training.scheduler import LinearLRScheduler, WarmupCosineScheduler

from runner.errors import StageError
from runner.stages.checkpoints import keep_checkpoint
from runner.stages.parallel import workers
from runner.stages.train.training_run import TrainingRun, memory_named

OPTIMIZERS = {"auto": "sgd", "SGD": "sgd", "Adam": "adam", "AdamW": "adamw"}
MOST_BOXES = 3000  # of a picture, or of a mosaic; LibreYOLO's own limit is 50, and it drops the others
#: Columns of results.csv, named as Ultralytics names them, and what LibreYOLO calls them.
FIGURES = ("metrics/precision", "metrics/recall", "metrics/mAP50", "metrics/mAP50-95")
KEPT = ("model", "schema_version", "libreyolo_version", "model_family", "size", "task", "nc", "names", "imgsz")


class LibreYoloTrainer(YOLOXTrainer):  # type: ignore[misc]
    """LibreYOLO's trainer, which fails instead of dropping a picture or a box, and follows `cos_lr` and `lrf`."""

    cosine = True

    def create_scheduler(self, iters_per_epoch: int) -> Any:
        """Return the learning rate: from the warm-up down to `lrf` at the last epoch; LibreYOLO's own rests there."""
        config = self.config
        options = {"warmup_epochs": config.warmup_epochs, "warmup_lr_start": 0.0, "min_lr_ratio": config.min_lr_ratio}
        if self.cosine:
            return WarmupCosineScheduler(config.lr0, iters_per_epoch, config.epochs, plateau_epochs=0, **options)
        return LinearLRScheduler(config.lr0, iters_per_epoch, config.epochs, **options)

    def create_transforms(self) -> Any:
        """Return LibreYOLO's, for as many boxes as a picture has."""
        transform, mosaic = super().create_transforms()
        transform.max_labels = MOST_BOXES
        return transform, mosaic

    def _setup_data(self) -> Any:
        """Load the pictures of train, or raise StageError if LibreYOLO left out some of them, or of their boxes."""
        data = Path(self.config.data).parent
        pictures = (data / "train.txt").read_text(encoding="utf-8").splitlines()
        labels = [data / "labels" / f"{Path(picture).stem}.txt" for picture in pictures]
        boxes = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in labels)
        found = super()._setup_data()
        used = [len(found.dataset.load_anno(place)) for place in range(len(found.dataset))]
        if (len(used), sum(used)) != (len(pictures), boxes):
            raise StageError(
                f"LibreYOLO uses {len(used)} of {len(pictures)} pictures and {sum(used)} of {boxes} boxes of {data}; "
                "its warnings say why. No folder above may be called images"
            )
        return found


def fit(training: TrainingRun) -> None:
    """Train, or continue; StageError for an unknown optimizer, or too little memory."""
    device, settings = training.device, training.settings
    if settings.optimizer not in OPTIMIZERS:
        raise StageError(f"train.optimizer: LibreYOLO has no {settings.optimizer}; expected {', '.join(OPTIMIZERS)}")
    random.seed(training.seed)
    np.random.seed(training.seed)
    torch.manual_seed(training.seed)
    names = dict(enumerate(yaml.safe_load(training.data.read_text(encoding="utf-8"))["names"].values()))
    (size,) = re.findall(r"_([a-z])\.", training.model.base)
    with memory_named(training):
        model = _open(training, size, len(names))
        model.names = names
        trainer = LibreYoloTrainer(
            model=model.model,
            wrapper_model=model,
            callbacks=[_Epochs(training)],
            size=size,
            num_classes=len(names),
            data=str(training.data),
            imgsz=training.model.imgsz,
            device=device or "auto",
            workers=workers(),
            seed=training.seed,
            project=str(training.run.parent),
            name=training.run.name,
            exist_ok=True,
            save_period=0,
            **_options(training),
        )
        trainer.cosine = settings.cos_lr
        if trainer.device.type == "cpu":
            torch.set_num_threads(workers())
        if training.resumed:
            trainer.setup()
            trainer.resume(str(training.run / "weights" / "last.pt"))
        trainer.train()


def collect(run: Path, out: Path) -> None:
    """Copy the best weights and the figures into `out`, without paths of this machine."""
    best = run / "weights" / "best.pt"
    saved = torch.load(best if best.exists() else run / "weights" / "last.pt", map_location="cpu", weights_only=True)
    torch.save({key: saved[key] for key in KEPT}, out / "best.pt")
    shutil.copyfile(run / "results.csv", out / "results.csv")


def _open(training: TrainingRun, size: str, classes: int) -> Any:
    """Return the network, with new weights or those of the file, and a head for that many classes."""
    device = training.device or "auto"
    if training.weights is None:
        return LibreYOLOX(None, size=size, nb_classes=classes, device=device)
    try:
        model = LibreYOLOX(str(training.weights), size=size, nb_classes=classes, device=device)
    except RuntimeError as error:
        raise StageError(f"model.base: {error}; expected weights of a YOLOX of size {size}") from error
    if model.nb_classes != classes:
        model._rebuild_for_new_classes(classes)
    return model


def _options(training: TrainingRun) -> dict[str, Any]:
    settings, augment = training.settings, training.augment
    return {
        "epochs": settings.epochs,
        "patience": settings.patience,
        "batch": settings.batch,
        "optimizer": OPTIMIZERS[settings.optimizer],
        "lr0": settings.lr0,
        "min_lr_ratio": settings.lrf,
        "momentum": settings.momentum,
        "weight_decay": settings.weight_decay,
        "warmup_epochs": settings.warmup_epochs,
        "nbs": settings.nbs,
        "freeze": settings.freeze or None,
        "amp": settings.amp,
        "cache": settings.cache,
        "eval_interval": int(settings.val),
        "hsv_prob": float(max(augment.hsv_h, augment.hsv_s, augment.hsv_v) > 0),
        "degrees": augment.degrees,
        "translate": augment.translate,
        "mosaic_scale": (1 - augment.scale, 1 + augment.scale),
        "shear": augment.shear,
        "perspective": augment.perspective,
        "flipud": augment.flipud,
        "flip_prob": augment.fliplr,
        "mosaic_prob": augment.mosaic,
        "no_aug_epochs": augment.close_mosaic,
        "mixup_prob": augment.mixup,
    }


class _Epochs:
    """Callback after each epoch: a row of results.csv, then a checkpoint."""

    def __init__(self, training: TrainingRun) -> None:
        self._training = training

    def on_train_epoch_end(self, event: Any) -> None:
        """Write both; StageError when the validation failed, of which LibreYOLO only prints."""
        run, settings = self._training.run, self._training.settings
        if settings.val and not event.validated:
            raise StageError("LibreYOLO could not validate the epoch; the line above says why")
        row = {"epoch": event.epoch, "train/loss": event.train_loss}
        row |= {f"{key}(B)": event.val_metrics.get(key, "") for key in FIGURES}
        is_new = not (run / "results.csv").exists()
        with (run / "results.csv").open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()})
        waited = settings.patience and event.best_epoch and event.epoch - event.best_epoch >= settings.patience
        finished = event.epoch == event.total_epochs or bool(waited)
        keep_checkpoint(run, self._training.checkpoints, event.epoch - 1, finished=finished)
