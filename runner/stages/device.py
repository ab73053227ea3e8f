"""Training device: check that it exists and fits the batch."""

from runner.errors import StageError


def check_device(device: str, batch: int) -> None:
    """Reject devices and batches (in pictures; -1 fills one GPU) that Ultralytics would only warn about.

    A device is RUNNER_DEVICE: empty (the first GPU, else the CPU), `cpu`, `mps`, `0`, or `0,1` for several.
    """
    import torch

    available = torch.cuda.device_count()
    wanted = [] if device in ("", "cpu", "mps") else device.split(",")
    if not all(number.isdecimal() for number in wanted):
        raise StageError(f"RUNNER_DEVICE: found {device!r}, expected cpu, a GPU's number such as 0, or several: 0,1")
    if wanted and max(map(int, wanted)) >= available:
        raise StageError(f"RUNNER_DEVICE: GPU {device} asked for, but {available} are here; use RUNNER_DEVICE=cpu")
    if batch == -1 and (len(wanted) > 1 or not available or device in ("cpu", "mps")):
        where = f"{len(wanted)} GPUs are" if len(wanted) > 1 else "no GPU is"
        raise StageError(
            f"train.batch: -1 fills exactly one GPU, but {where} used here; set train.batch to a number of pictures, "
            "such as 8 on a CPU or a multiple of the number of GPUs"
        )
    if len(wanted) > 1 and batch % len(wanted):
        raise StageError(f"train.batch: {batch} pictures cannot be shared by {len(wanted)} GPUs; use a multiple")
