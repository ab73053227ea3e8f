"""A training as on several GPUs, on the CPU: Ultralytics starts one process with its own launcher, and gloo joins it.

`python -m tests.support.gloo_training FOLDER` trains some epochs in FOLDER, or goes on there, as the stage does.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from runner.config.compose import compose
from runner.stages.checkpoints import restore_checkpoint
from runner.stages.offline import set_up
from runner.stages.train.training_run import TrainingRun

EPOCHS = 3


def train(folder: Path) -> None:
    """Train on eight pictures of noise; print the epochs that a checkpoint has, if there is one."""
    set_up("ultralytics", folder)
    from runner.stages.train import ultralytics
    from tests.support.gloo_trainer import GlooTrainer

    ultralytics.UltralyticsTrainer = GlooTrainer  # type: ignore[misc]
    run, checkpoints = folder / "run", folder / "checkpoints"
    shutil.rmtree(run, ignore_errors=True)
    checkpoint = restore_checkpoint(checkpoints, run)
    print(f"epochs before: {checkpoint.epoch + 1 if checkpoint else 0}", flush=True)
    config, _ = compose(Path.cwd())
    settings = config.train.model_copy(update={"epochs": EPOCHS, "batch": 4, "patience": 0})
    model = config.model.model_copy(update={"base": "yolo11n.yaml", "imgsz": 32})
    inputs = (draw(folder / "data"), 0, model, None, settings, config.augment, "cpu")
    ultralytics.fit(TrainingRun(run, checkpoints, checkpoint is not None, *inputs))


def draw(folder: Path) -> Path:
    """Draw the pictures, with a box each; return their data.yaml."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(8):
        pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
        (folder / f"labels/{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    for part in ("train", "val"):
        (folder / f"{part}.txt").write_text("".join(f"{folder}/images/{number}.png\n" for number in range(8)))
    data = {"path": str(folder), "train": "train.txt", "val": "val.txt", "names": {0: "a"}}
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    return folder / "data.yaml"


if __name__ == "__main__":
    train(Path(sys.argv[1]))
