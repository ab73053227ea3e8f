"""Files of a prepared dataset's pictures, as the stages after `prepare` see them: hashed, and brought back if lacking.

A version's pictures are in the store. The others, drawn, unpacked or encoded, can be made again, which takes time and,
with other processors or packages, may give other bytes: so a Task shares those that it made with later ones through
`pipeline/pictures/` in the store, where they expire.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from runner.config.schema import Config, PrepareConfig
from runner.dataset.entries import Entry
from runner.dataset.picture_cache import cache_folder, find_lacking, remove_unused
from runner.errors import DatasetError, StoreError
from runner.stages.fetch import Origin, bring_pictures
from runner.stages.prepare.pictures import encode_pictures
from runner.store import open_store
from runner.store.transfer import transfer

SHARED = "pipeline/pictures/"


class PictureFiles(NamedTuple):
    """Way to the pictures of a dataset."""

    origin: Origin
    settings: PrepareConfig  # by which `prepare` encoded some of them

    @classmethod
    def of(cls, config: Config, project: Path, work: Path) -> Self:
        """Return the way for a configuration."""
        dataset = config.dataset
        return cls(Origin(dataset.url, dataset.sha256, dataset.sample, project, work), config.prepare)

    def sources(self, entries: Sequence[Entry]) -> list[Path]:
        """Return the file of each entry's source, as a user would send it."""
        sizes, folder = _sizes(entries), cache_folder(self.origin.work)
        if lacking := find_lacking(sizes, self.origin.work, hashed=True):
            if not self._in_version:
                self._take_shared(lacking)
            bring_pictures(lacking, self.origin)
        return [folder / entry["sha256"] for entry in entries]

    def prepared(self, entries: Sequence[Entry]) -> list[Path]:
        """Return the file of each entry's picture as training sees it.

        An encoded one that is lacking is made of its source again. Where that gives other bytes than those of the
        index, as another version of Pillow may, this is printed, and they are used.
        """
        work = self.origin.work
        self.sources([entry for entry in entries if not entry["encoded"]])
        encoded = [entry for entry in entries if entry["encoded"]]
        if lacking := find_lacking(dict(entry["encoded"] for entry in encoded), work, hashed=True):
            lacking = self._take_shared(lacking)
        names: dict[str, str] = {entry["sha256"]: entry["encoded"][0] for entry in encoded}
        sizes = _sizes([entry for entry in encoded if entry["encoded"][0] in lacking])
        others = 0
        for sha256, made in encode_pictures(sizes, self.settings, work, partial(bring_pictures, origin=self.origin)):
            if isinstance(made, str) or not made.encoded:
                raise DatasetError(f"{sha256}: prepare used this picture, now {made}; run `dvc repro --force prepare`")
            others += made.encoded[0] != names[sha256]
            names[sha256] = str(made.encoded[0])
        if others:
            print(f"{others} pictures were encoded to other bytes than by `prepare`, with other packages", flush=True)
        remove_unused(work)
        folder = cache_folder(work)
        return [folder / (names.get(entry["sha256"]) or str(entry["sha256"])) for entry in entries]

    def share(self, entries: Sequence[Entry]) -> str:
        """Put the cached pictures that can only be made again into the store; return a line to print."""
        sizes = dict(entry["encoded"] for entry in entries if entry["encoded"])
        if not self._in_version:
            sizes |= _sizes(entries)
        store, folder = open_store(self.origin.project), cache_folder(self.origin.work)
        there = {key.removeprefix(SHARED) for key in (store.list(SHARED) if sizes else ())}
        there |= find_lacking(sizes, self.origin.work, hashed=False).keys()  # `prepare` may have run elsewhere
        sizes = {sha256: size for sha256, size in sizes.items() if sha256 not in there}
        transfer(lambda sha256: store.put_file(SHARED + sha256, folder / sha256, sha256), sizes, SHARED)
        return f"{len(sizes):,} pictures shared with later Tasks, {sum(sizes.values()):,} bytes"

    @property
    def _in_version(self) -> bool:
        return self.origin.url.endswith(".jsonl")

    def _take_shared(self, lacking: Mapping[str, int]) -> dict[str, int]:
        """Fetch those of the pictures that an earlier Task shared; return the others."""
        with suppress(StoreError):
            store, folder = open_store(self.origin.project), cache_folder(self.origin.work)
            there = {key.removeprefix(SHARED) for key in store.list(SHARED)} & lacking.keys()
            sizes = {sha256: lacking[sha256] for sha256 in there}
            transfer(lambda sha256: store.fetch(SHARED + sha256, folder / sha256, sha256), sizes, SHARED)
        return find_lacking(lacking, self.origin.work, hashed=True)


def _sizes(entries: Sequence[Entry]) -> dict[str, int]:
    return {entry["sha256"]: entry["bytes"] for entry in entries}
