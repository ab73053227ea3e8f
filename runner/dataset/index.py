"""Index of a dataset version: its classes, and one row for each picture. Its name is the digest of its canonical form.

The pictures lie beside it in the store, each once under its digest, so a version costs what it changes. The form is
JSON Lines in UTF-8, without blanks; equal datasets give equal bytes, from any source, in any order, on any machine:

{"format":1,"classes":["airplane","helicopter"],"about":{"LICENSE":["<sha256>",1024]}}
["<sha256>","sky.jpg",20480,640,480,"train","0 0.500000 0.500000 0.250000 0.250000\\n"]

Rows are sorted by digest and name, the lines of a label text by class and numbers.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename
from typing import NamedTuple

from runner.config.schema import PARTS
from runner.dataset.archive import check_names
from runner.errors import DatasetError, StoreError
from runner.store import SCHEME, Store, key_of_url
from runner.workspace import PARAMS, sha256_of

_FORMAT = 1
_SHA256 = re.compile("[0-9a-f]{64}")


class PictureRow(NamedTuple):
    """A picture of a version."""

    sha256: str  # of the picture's bytes, in hex
    name: str  # of its file: safe, with a unique stem (see `runner.dataset.names`)
    size_bytes: int
    width: int | None  # pixels, as a viewer shows it; None: the header cannot be read, or it is HEIC
    height: int | None  # pixels
    part: str | None  # train, val or test; None where the dataset has no parts
    labels: str  # lines of `class x y w h`, boxes of the picture as a viewer shows it; empty: background


@dataclass(frozen=True)
class Index:
    """A dataset version."""

    classes: list[str]  # in id order
    about: dict[str, tuple[str, int]]  # name of a licence, source or read-me file → its sha256 and size in bytes
    rows: list[PictureRow]  # in any order; `format_index` sorts them

    @property
    def boxes(self) -> list[int]:
        """Number of boxes of each class, by id."""
        counts = Counter(line.partition(" ")[0] for row in self.rows for line in row.labels.splitlines())
        return [counts[str(number)] for number in range(len(self.classes))]

    @property
    def sizes(self) -> dict[str, int]:
        """Digest → size in bytes of every object of the version."""
        return dict(self.about.values()) | {row.sha256: row.size_bytes for row in self.rows}


def format_index(index: Index) -> bytes:
    """Return the canonical form."""
    head = {"format": _FORMAT, "classes": index.classes, "about": dict(sorted(index.about.items()))}
    lines = (head, *sorted(index.rows, key=lambda row: row[:2]))
    return "".join(f"{json.dumps(line, ensure_ascii=False, separators=(',', ':'))}\n" for line in lines).encode()


def parse_index(content: bytes, where: str) -> Index:
    """Return the index; DatasetError for another format, unsafe file names, or anything that is no index."""
    first, *lines = content.removesuffix(b"\n").split(b"\n")
    try:
        head = json.loads(first)
        if head["format"] != _FORMAT:
            raise DatasetError(
                f"{where}: its format is {head['format']}, expected {_FORMAT}; a newer version of this code wrote it: "
                "update this checkout"
            )
        rows = [PictureRow(*json.loads(line)) for line in lines]
        index = Index(head["classes"], {name: (sha256, size) for name, (sha256, size) in head["about"].items()}, rows)
        well = all(map(_SHA256.fullmatch, index.sizes)) and all(row.part in (None, *PARTS) for row in rows)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"{where}: is no index of a dataset ({error}); add the dataset again") from error
    if not well:
        raise DatasetError(f"{where}: a row has no digest, or no known part; add the dataset again")
    check_names([*index.about, *(f"images/{row.name}" for row in rows)], where)
    if bad := next((name for name in [*index.about, *(row.name for row in rows)] if "/" in name), None):
        raise DatasetError(f"{where}: {bad} is no plain file name; add the dataset again")
    return index


def read_index(url: str, sha256: str | None, store: Store, *, work: Path) -> Index:
    """Return the index of a version, store:datasets/<name>/<sha12>.jsonl; from `work` where it was fetched before."""
    key = checked_key(url, sha256)
    kept = work / "datasets" / basename(key)
    if not kept.is_file() or sha256_of(kept) != sha256:
        store.fetch(key, kept, sha256)
    return parse_index(kept.read_bytes(), f"{SCHEME}{key}")


def checked_key(url: str, sha256: str | None) -> str:
    """Return the key of a version; StoreError: `url` is none, or its digest is missing."""
    key = key_of_url(url)
    if sha256 is None:
        raise StoreError(f"{PARAMS}: dataset.sha256 is empty, expected the digest of {url}; `sha256sum` prints it")
    return key
