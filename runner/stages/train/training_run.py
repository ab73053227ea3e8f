"""A training as the program that does it is given it: `runner.stages.train.ultralytics` or `.libreyolo`.

Each of these modules has `fit(training)`, which fills the run's folder, and `collect(run, out)`, which copies what is
kept of it into the stage's output.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from runner.config.schema import AugmentConfig, ModelConfig, TrainConfig
from runner.errors import StageError


class TrainingRun(NamedTuple):
    """Inputs of a training, and the folder where it runs."""

    run: Path  # gets weights/last.pt, weights/best.pt and results.csv; each epoch's are kept as a checkpoint
    checkpoints: Path  # see `runner.stages.checkpoints`
    resumed: bool  # whether `run` holds the files of a checkpoint, to continue from
    data: Path  # data.yaml, which names the classes and the lists of pictures
    seed: int
    model: ModelConfig
    weights: Path | None  # the file of `model.base` when that is a .pt; None: from scratch
    settings: TrainConfig
    augment: AugmentConfig
    device: str  # that of `runner.stages.device.training_device`


@contextmanager
def memory_named(training: TrainingRun) -> Iterator[None]:
    """Turn a lack of memory into a StageError with the keys that decide it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise StageError(
                f"not enough memory for train.batch {training.settings.batch} at model.imgsz {training.model.imgsz} "
                f"({str(error).splitlines()[0] if str(error) else 'MemoryError'}); make one of them smaller"
            ) from error
        raise
