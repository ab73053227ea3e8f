"""Cache of pictures, each once under its digest, for all versions and stages: `.work/pictures/<sha256>`.

The outputs of the stages name pictures and hold none. A file here is trusted once its bytes were hashed; a missing or
damaged one is brought back (`runner.stages.fetch`). One that nothing has used for STALE_DAYS is removed.
"""

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from posixpath import basename, dirname
from typing import TypeVar

from runner.errors import ObjectError
from runner.store import SCHEME, Store
from runner.workspace import STALE_DAYS, sha256_of, writing

Item = TypeVar("Item")
Result = TypeVar("Result")
_BATCH = 1000  # [pictures] waiting for a thread
_DAY = 86400  # [s]


def cache_folder(work: Path) -> Path:
    """Return the folder, which may not exist yet."""
    return work / "pictures"


def find_lacking(sizes: Mapping[str, int], work: Path, *, hashed: bool) -> dict[str, int]:
    """Return those of `sizes`, digest → bytes, that are missing or damaged; the others count as used now.

    `hashed`: read each file; otherwise compare sizes alone.
    """
    folder = cache_folder(work)

    def is_there(item: tuple[str, int]) -> bool:
        file = folder / item[0]
        try:
            found = file.stat()
            if found.st_size != item[1] or (hashed and sha256_of(file) != item[0]):
                return False
            if time.time() - found.st_mtime > _DAY:
                os.utime(file)
        except FileNotFoundError:
            return False
        return True

    found = read_many(is_there, sizes.items(), "reading") if hashed else map(is_there, sizes.items())
    return {digest: size for (digest, size), there in zip(sizes.items(), found, strict=True) if not there}


def read_many(read: Callable[[Item], Result], pictures: Collection[Item], title: str) -> Iterator[Result]:
    """Yield the results in the order of the pictures, from threads, with a progress bar; few wait for a thread."""
    from tqdm import tqdm  # its import takes longer than a look at some thousand sizes

    def results() -> Iterator[Result]:
        waiting = iter(pictures)
        with ThreadPoolExecutor() as pool:
            while batch := list(islice(waiting, _BATCH)):
                yield from pool.map(read, batch)

    yield from tqdm(results(), total=len(pictures), desc=title, unit="pictures", disable=None, leave=False)


def keep_picture(sha256: str, file: Path, work: Path) -> None:
    """Move a file with these bytes into the cache."""
    cache_folder(work).mkdir(parents=True, exist_ok=True)
    file.replace(cache_folder(work) / sha256)


def keep_bytes(content: bytes, work: Path) -> str:
    """Write a picture into the cache; return its digest."""
    sha256 = hashlib.sha256(content).hexdigest()
    with writing(cache_folder(work) / sha256, durable=False) as temporary:  # hashed before it is used
        temporary.write_bytes(content)
    return sha256


def fetch_pictures(sizes: Mapping[str, int], store: Store, key: str, *, work: Path, hashed: bool = False) -> Path:
    """Return the cache with every object of `sizes`, digest → bytes; those that it lacks are fetched.

    `key` is that of a version with an index. ObjectError: the store lacks one, or has other bytes.
    """
    folder, name = cache_folder(work), basename(dirname(key))
    if lacking := find_lacking(sizes, work, hashed=hashed):
        from runner.store.transfer import transfer  # imports ssl

        stored = stored_pictures(store, name)
        if gone := [digest for digest in lacking if digest not in stored]:
            raise lacks(store, name, gone)
        transfer(lambda digest: store.fetch(stored[digest], folder / digest, digest), lacking, f"{SCHEME}{key}")
    return folder


def stored_pictures(store: Store, name: str) -> dict[str, str]:
    """Return digest → key of the pictures in a dataset's folder."""
    prefix = f"datasets/{name}/pictures/"
    return {key.removeprefix(prefix).partition(".")[0]: key for key in store.list(prefix)}


def lacks(store: Store, name: str, digests: list[str]) -> ObjectError:
    """Return the error for pictures of a version that the store has no more."""
    return ObjectError(
        f"{store.uri}: {len(digests)} pictures of the version are missing, the first is datasets/{name}/pictures/"
        f"{digests[0]}; restore them, or add the dataset again"
    )


def remove_unused(work: Path) -> None:
    """Remove the pictures that were not used for STALE_DAYS, and what a killed process left."""
    cache_folder(work).mkdir(parents=True, exist_ok=True)
    with os.scandir(cache_folder(work)) as files:
        for file in files:
            with suppress(FileNotFoundError):  # other processes rename theirs and remove too
                if time.time() - file.stat().st_mtime > STALE_DAYS * _DAY:
                    Path(file).unlink()
