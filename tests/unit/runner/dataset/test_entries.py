from pathlib import Path

import pytest

from runner.dataset.entries import INDEX, read_entries, write_entries
from runner.errors import DatasetError


@pytest.mark.parametrize("count", [0, 1, 1000, 2001])
def test_entries_come_back_as_they_were_and_share_their_keys(tmp_path: Path, count: int) -> None:
    entries = [{"image": f"images/ü{number}\u2028.png", "labels": "0 1 1 1 1\n"} for number in range(count)]
    write_entries(tmp_path, entries)
    found = read_entries(tmp_path)
    assert found == entries
    assert len({id(key) for entry in found for key in entry}) <= 2 * (1 + count // 1000)


@pytest.mark.parametrize("text", ["{", '{"image": 1}\n{"image"', "{},{}\n", "\xff"])
def test_the_file_is_named_when_it_is_no_index(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=INDEX):
        read_entries(tmp_path)
