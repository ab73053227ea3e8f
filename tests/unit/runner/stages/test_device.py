"""What a device can do is known before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from runner.errors import StageError
from runner.stages.device import check_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["", "cpu"])
def test_a_cpu_is_fine_when_the_batch_is_a_number(device: str) -> None:
    check_device(device, 8)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("device", "batch", "message"),
    [
        ("", -1, "fills exactly one GPU, but no GPU is used here; set train.batch"),
        ("cpu", -1, "fills exactly one GPU"),
        ("0", 8, "GPU 0 asked for, but 0 are here; use RUNNER_DEVICE=cpu"),
        ("gpu", 8, "found 'gpu', expected cpu"),
        ("0,", 8, "found '0,', expected cpu"),
    ],
)
def test_it_is_refused_when_there_is_no_gpu(device: str, batch: int, message: str) -> None:
    with pytest.raises(StageError, match=message):
        check_device(device, batch)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("device", "batch"), [("", -1), ("1", -1), ("0,1", 16), ("cpu", 8)])
def test_gpus_are_fine_when_the_batch_suits_them(device: str, batch: int) -> None:
    check_device(device, batch)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("device", "batch", "message"),
    [
        ("0,1", -1, "fills exactly one GPU, but 2 GPUs are used here"),
        ("0,1", 7, "7 pictures cannot be shared by 2 GPUs"),
        ("0,2", 8, "GPU 0,2 asked for, but 2 are here"),
    ],
)
def test_it_is_refused_when_the_batch_does_not_suit_several(device: str, batch: int, message: str) -> None:
    with pytest.raises(StageError, match=message):
        check_device(device, batch)
