"""Training device: which it is, that it exists, and that it fits the batch."""

import os

from runner.errors import StageError

ALL = "all"


def training_device() -> str:
    """Return RUNNER_DEVICE in Ultralytics' words; `all` is every GPU that is here, such as `0,1,2`.

    Empty: the first GPU, else the CPU, as for `all` where there are fewer than two.
    """
    device = os.environ.get("RUNNER_DEVICE", "")
    if device != ALL:
        return device
    import torch

    gpus = torch.cuda.device_count()
    return ",".join(map(str, range(gpus))) if gpus > 1 else ""


def check_device(device: str, batch: int, trainer: str = "ultralytics") -> None:
    """Reject devices and batches (in pictures; -1 fills one GPU) that Ultralytics would only warn about.

    A device is that of `training_device`: empty, `cpu`, `mps`, `0`, or `0,1` for several.
    """
    import torch

    available = torch.cuda.device_count()
    wanted = [] if device in ("", "cpu", "mps") else device.split(",")
    if not all(number.isdecimal() for number in wanted):
        raise StageError(
            f"RUNNER_DEVICE: found {device!r}, expected cpu, a GPU's number such as 0, several: 0,1, or all"
        )
    if wanted and max(map(int, wanted)) >= available:
        raise StageError(f"RUNNER_DEVICE: GPU {device} asked for, but {available} are here; use RUNNER_DEVICE=cpu")
    if batch == -1 and (not available or device in ("cpu", "mps")):
        raise StageError(
            "train.batch: -1 fills exactly one GPU, but no GPU is used here; set train.batch to a number of pictures, "
            "such as 8 on a CPU"
        )
    check_gpus(len(wanted), batch, trainer)


def check_gpus(gpus: int, batch: int, trainer: str) -> None:
    """Reject a batch (in pictures) that several GPUs cannot share, and a trainer that uses one alone."""
    if gpus < 2:
        return
    if trainer == "libreyolo":
        raise StageError(f"model.trainer: LibreYOLO is used on one GPU, but a training here takes {gpus}")
    if batch == -1:
        raise StageError(
            f"train.batch: -1 fills exactly one GPU, but {gpus} GPUs are used here; set train.batch to a multiple of "
            f"{gpus}, such as {8 * gpus}"
        )
    if batch % gpus:
        raise StageError(f"train.batch: {batch} pictures cannot be shared by {gpus} GPUs; use a multiple of {gpus}")
