"""Many transfers at a time, with a bar of bytes on a terminal."""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from serving.storage.endpoint import CONNECTIONS

_AT_ONCE = min(16, CONNECTIONS)
_BATCH = 1000  # [transfers] waiting: a million at once would fill the memory


def transfer(move: Callable[[str], object], sizes: Mapping[str, int], title: str) -> None:
    """Call `move` with each key of `sizes`, its bytes; the first error stops the rest."""
    waiting = list(sizes)
    with (
        tqdm(total=sum(sizes.values()), unit="B", unit_scale=True, desc=title, disable=not sys.stderr.isatty()) as bar,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        try:
            for start in range(0, len(waiting), _BATCH):
                batch = waiting[start : start + _BATCH]
                for key, _ in zip(batch, pool.map(move, batch), strict=True):
                    bar.update(sizes[key])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
