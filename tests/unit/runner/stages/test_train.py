"""What a training refuses, in words."""

from __future__ import annotations

import pytest

from runner.errors import StageError


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> None:
    from runner.stages.offline import ultralytics_offline

    ultralytics_offline(tmp_path_factory.mktemp("work"))


def test_memory_is_named_when_it_does_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    import runner.stages.train as module

    def refuse(**_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 TB")

    monkeypatch.setattr(module, "Trainer", refuse)
    with pytest.raises(StageError, match=r"not enough memory for train.batch 512 at model.imgsz 640 .*smaller"):
        module._fit({"batch": 512, "imgsz": 640, "model": "yolo11n.yaml"})


def test_an_unknown_architecture_is_named_when_ultralytics_has_none() -> None:
    from runner.stages.train import check_architecture

    check_architecture("yolo11n.yaml")
    with pytest.raises(StageError, match=r"model.base: Ultralytics has no nonesuch.yaml; expected one of its"):
        check_architecture("nonesuch.yaml")
