import threading
import time
from pathlib import Path

import pytest

from serving.decoding.budget import MemoryBudget, decode_memory, memory_limit


@pytest.mark.parametrize(("text", "limit"), [("1000000\n", 1_000_000), ("max\n", None), (str(2**63), None), ("", None)])
def test_limit_is_the_containers_where_there_is_one(text: str, limit: int | None, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(text)
    machine = memory_limit(())
    assert memory_limit((str(tmp_path / "none"), str(tmp_path / "memory.max"))) == (limit or machine)


def test_budget_leaves_room_for_the_process_and_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, others, expected in (
        (2 << 30, 0, 1318),
        (2 << 30, 320 << 20, 998),
        (64 << 20, 0, 64),
        (1 << 40, 0, 2048),
    ):
        monkeypatch.setattr("serving.decoding.budget.memory_limit", lambda limit=limit: limit)
        assert decode_memory(others) >> 20 == expected


def test_waits_until_there_is_room_when_told_until_when() -> None:
    budget = MemoryBudget(10)
    assert budget.take(4) and budget.take(6) and not budget.take(1)
    budget.give_back(4)
    start = time.monotonic()
    assert not budget.take(6, start + 0.2)
    assert time.monotonic() - start >= 0.2
    threading.Timer(0.2, budget.give_back, (6,)).start()
    assert budget.take(6, time.monotonic() + 10)
    assert budget.held == 6
