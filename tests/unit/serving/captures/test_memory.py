from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serving.captures.memory import CaptureMemory
from serving.storage.endpoint import endpoint_of_environment

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
FAR = [int(f"{number:x}" * 16, 16) for number in range(1, 16)]  # hashes of which any two differ in 16 bits and more


def memory(folder: Path, per_hour: int = 3, per_day: int = 5) -> CaptureMemory:
    """That of a server that has just started."""
    limits = {"per_hour": per_hour, "per_day": per_day, "similar_bits": 4}
    return CaptureMemory(str(folder), "dev", endpoint_of_environment(), **limits)


def test_caps_hold_across_servers_and_restarts(tmp_path: Path) -> None:
    one, other = memory(tmp_path), memory(tmp_path)
    assert [one.take(FAR[0], "a", NOON), other.take(FAR[1], "b", NOON), one.take(FAR[2], "c", NOON)] == [None] * 3
    assert [each.take(FAR[3], "d", NOON) for each in (one, other, memory(tmp_path))] == ["per_hour"] * 3
    later = NOON + timedelta(hours=1)
    assert [other.take(FAR[4], "e", later), memory(tmp_path).take(FAR[5], "f", later)] == [None] * 2
    for each in (one, other, memory(tmp_path)):
        assert each.take(FAR[6], "g", later) == "per_day"
    assert memory(tmp_path).take(FAR[6], "g", NOON + timedelta(days=1)) is None


def test_a_near_duplicate_is_known_to_servers_that_did_not_see_it(tmp_path: Path) -> None:
    one, other = memory(tmp_path), memory(tmp_path)
    assert one.take(FAR[0], "a", NOON) is None
    assert not other.knows(FAR[0] ^ 0b1111)
    assert other.take(FAR[0] ^ 0b1111, "b", NOON) == "similar"
    assert other.knows(FAR[0])
    assert other.take(FAR[0] ^ 0b11111, "c", NOON) is None
    assert one.take(FAR[0] ^ 0b11111, "d", NOON) == "similar"


def test_a_capture_is_noted_once_when_the_answer_was_lost(tmp_path: Path) -> None:
    assert [memory(tmp_path).take(FAR[0], "a", NOON) for _ in range(2)] == [None] * 2
    assert len(list(tmp_path.rglob("00*"))) == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"12 no-hash x", b"12"])
def test_what_is_not_ours_counts_when_it_has_a_number(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "captures/dev/memory/2026-11-30"
    folder.mkdir(parents=True)
    (folder / "00000").write_bytes(content)
    one = memory(tmp_path, per_day=2)
    assert [one.take(FAR[0], "a", NOON), one.take(FAR[1], "b", NOON)] == [None, "per_day"]
