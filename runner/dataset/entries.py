"""Index of a prepared dataset, `index.jsonl`: a JSON object a line for each picture.

image    images/<name>, as `split` lists it and training sees it; unique
source   images/<name> in the dataset
sha256, bytes    of the source, which lies in the cache of pictures (`runner.dataset.picture_cache`)
encoded  [sha256, bytes] of what `prepare` makes of it for training; null: the source is used as it is
width, height    pixels of the upright source
part     train, val or test, of the dataset's own; null where it has none
look     of `serving.vision.similarity.look_of`
labels   lines of `class x y w h`; empty: background
"""

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from runner.errors import DatasetError

Entry = dict[str, Any]
INDEX = "index.jsonl"
_BATCH = 1000  # [lines]


def write_entries(folder: Path, entries: Iterable[Entry]) -> None:
    """Write the index into a folder."""
    with (folder / INDEX).open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(entry, ensure_ascii=False, separators=(',', ':'))}\n" for entry in entries)


def read_entries(folder: Path) -> list[Entry]:
    """Return the entries of a folder's index; DatasetError for anything that `prepare` has not written."""
    file = folder / INDEX
    try:
        with file.open(encoding="utf-8") as lines:
            return [entry for batch in iter(lambda: list(islice(lines, _BATCH)), []) for entry in _parse(batch)]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: cannot be read ({error}); run `dvc repro prepare`, which writes it") from error


def _parse(lines: Sequence[str]) -> list[Entry]:
    """Parse many lines at once, so that their entries share the strings of their keys, 0.6 kB of each."""
    entries: list[Entry] = json.loads(f"[{','.join(lines)}]")
    if len(entries) != len(lines):
        raise ValueError("a line that is not one object")
    return entries
