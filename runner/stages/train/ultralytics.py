"""Training of a YOLO detector with Ultralytics (AGPL-3.0), with atomic checkpoints."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils.plotting import plot_results
from ultralytics.utils.torch_utils import strip_optimizer

from runner.errors import StageError
from runner.stages.checkpoints import keep_checkpoint
from runner.stages.parallel import workers
from runner.stages.train.training_run import TrainingRun, memory_named
from runner.workspace import die_with_ancestors


class UltralyticsTrainer(DetectionTrainer):  # type: ignore[misc]
    """Ultralytics' trainer with atomic checkpoints, which fails instead of dropping a picture.

    At module level, so that Ultralytics' subprocesses for several GPUs can import it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take Ultralytics' arguments."""
        if "LOCAL_RANK" in os.environ:
            die_with_ancestors(2)  # torch.distributed.run, which started this process for one of the GPUs; the stage
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


def fit(training: TrainingRun) -> None:
    """Train, or continue; StageError for an unknown architecture, too little memory, or a failure on several GPUs."""
    gpus = len(training.device.split(","))
    if training.weights is None:
        check_architecture(training.model.base)
    arguments = {
        "seed": training.seed,
        **training.settings.model_dump(),
        **training.augment.model_dump(),
        "model": str(training.weights or training.model.base),
        "imgsz": training.model.imgsz,
        "data": str(training.data),
        "deterministic": True,
        "device": training.device,
        "workers": max(1, workers() // gpus),  # of each GPU's process
        "project": str(training.run.parent),
        "name": training.run.name,
        "exist_ok": True,
        "resume": str(training.run / "weights" / "last.pt") if training.resumed else False,
        "plots": True,
    }
    try:
        with memory_named(training):
            UltralyticsTrainer(overrides=arguments).train()
    except subprocess.CalledProcessError as error:  # torch.distributed.run, which has printed why
        raise StageError(
            f"the training on GPUs {training.device} failed (exit status {error.returncode}); the lines above say why. "
            "Where memory is short, make train.batch or model.imgsz smaller"
        ) from error


def check_architecture(base: str) -> None:
    """Raise StageError unless Ultralytics ships the architecture."""
    try:
        yaml_model_load(base)
    except FileNotFoundError as error:
        raise StageError(
            f"model.base: Ultralytics has no {base}; expected one of its architectures, such as yolo11n.yaml"
        ) from error


def collect(run: Path, out: Path) -> None:
    """Copy the best weights, the figures and the curves into `out`, without paths of this machine."""
    if not list(run.glob("*.png")):  # of a training that had ended before
        plot_results(file=run / "results.csv")
    best = run / "weights" / "best.pt"
    if not best.exists():  # no epoch improved the fitness: use the last one
        shutil.copyfile(run / "weights" / "last.pt", best)
    unknown: dict[str, Any] = {"date": None, "git": None, "train_args": {}, "train_results": None}
    if not strip_optimizer(best, str(out / "best.pt"), updates=unknown):
        raise StageError(f"{best}: Ultralytics cannot read its own weights; remove {run.parent} and run again")
    shutil.copyfile(run / "results.csv", out / "results.csv")
    for picture in sorted([*run.glob("*.png"), *run.glob("*.jpg")]):
        shutil.copyfile(picture, out / picture.name)
