from pathlib import Path

import pytest
import torch

from runner.errors import StageError
from runner.stages.device import check_device, check_gpus, training_device
from runner.stages.offline import ultralytics_offline


@pytest.mark.parametrize(
    ("gpus", "device", "batch", "message"),
    [
        *((0, device, 8, None) for device in ("", "cpu")),
        *((2, device, batch, None) for device, batch in (("", -1), ("1", -1), ("0,1", 16), ("cpu", 8))),
        *((0, device, -1, "exactly one GPU, but no GPU") for device in ("", "cpu")),
        (0, "0", 8, "GPU 0 asked for, but 0 are here"),
        *((0, device, 8, f"RUNNER_DEVICE: found '{device}'") for device in ("gpu", "0,")),
        *((8, "0,1,2,3,4,5,6,7", batch, None) for batch in (8, 64)),
        (8, "0,1,2,3,4,5,6,7", 12, "12 pictures cannot be shared by 8 GPUs"),
        (2, "0,1", -1, "exactly one GPU, but 2 GPUs"),
        (2, "0,1", 7, "7 pictures cannot be shared by 2 GPUs"),
        (2, "0,2", 8, "GPU 0,2 asked for, but 2 are here"),
    ],
)
def test_device_is_refused_when_it_is_missing_or_the_batch_does_not_suit_it(
    monkeypatch: pytest.MonkeyPatch, gpus: int, device: str, batch: int, message: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if message is None:
        check_device(device, batch)
    else:
        with pytest.raises(StageError, match=message):
            check_device(device, batch)


@pytest.mark.parametrize(
    ("gpus", "wanted", "device"),
    [
        *((gpus, "all", device) for gpus, device in ((0, ""), (1, ""), (2, "0,1"), (8, "0,1,2,3,4,5,6,7"))),
        *((8, each, each) for each in ("", "0", "0,1", "cpu")),
    ],
)
def test_the_device_is_every_gpu_that_is_here_when_all_are_wanted(
    monkeypatch: pytest.MonkeyPatch, gpus: int, wanted: str, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("RUNNER_DEVICE", wanted)
    assert training_device() == device


def test_several_gpus_are_refused_when_the_trainer_uses_one() -> None:
    check_gpus(1, -1, "libreyolo")
    with pytest.raises(StageError, match="takes 2"):
        check_gpus(2, 16, "libreyolo")


def test_an_unknown_architecture_is_named_when_ultralytics_has_none(tmp_path: Path) -> None:
    ultralytics_offline(tmp_path)
    from runner.stages.train.ultralytics import check_architecture

    check_architecture("yolo11n.yaml")
    with pytest.raises(StageError, match=r"model.base: Ultralytics has no nonesuch.yaml; expected one of its"):
        check_architecture("nonesuch.yaml")
