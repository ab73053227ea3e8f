"""Our trainer with the CPU for a GPU; a module, as Ultralytics' processes import the trainer by its name."""

import os
from typing import Any

import torch.distributed

from runner.stages.train.ultralytics import UltralyticsTrainer


class GlooTrainer(UltralyticsTrainer):
    """Started by Ultralytics as one process of several GPUs; gloo joins it with itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take Ultralytics' arguments."""
        super().__init__(*args, **kwargs)
        self.world_size, self.ddp = 1, "LOCAL_RANK" not in os.environ
        if not self.ddp:
            torch.distributed.init_process_group("gloo")
