"""`store prune`: remove old backups from the second store, and the objects that no other backup names.

Kept of each name: what is younger than the days, and the last backup of each month. A list goes before what it names:
a killed call leaves no backup whose objects are missing.
"""

import re
from datetime import UTC, datetime, timedelta

from runner.errors import StoreError
from runner.store.backup import FOLDER, OBJECTS, TIME, named_in
from runner.store.folder import FolderStore
from runner.store.gc import remove_objects, stored_objects
from runner.store.s3 import S3Store

_LIST = re.compile(rf"{FOLDER}/(?P<name>.+)/(?P<time>[0-9T-]+Z)\.[0-9a-f]{{12}}\.jsonl")


def prune_backups(
    second: FolderStore | S3Store, *, days: int = 30, remove: bool = False, now: datetime | None = None
) -> str:
    """Return what is older than `days` and not kept; with `remove`, remove it, as the second store's administrator.

    A bucket that keeps versions has the bytes until those expire. StoreError: a list that is kept is damaged, so that
    nobody knows what it names; the user may not remove; or `days` is below 1.
    """
    if days < 1:
        raise StoreError(f"--days {days}: expected 1 or more")
    before = (now or datetime.now(UTC)) - timedelta(days=days)
    found = {each.key: each for each in stored_objects(second, f"{FOLDER}/")}
    times = {key: _time(match["time"]) for key in found if (match := _LIST.fullmatch(key))}
    last = {(key.rpartition("/")[0], times[key].strftime("%Y-%m")): key for key in sorted(times, key=times.__getitem__)}
    kept = [key for key in times if times[key] >= before or key in last.values()]
    old = sorted(times.keys() - set(kept))
    named = {f"{OBJECTS}/{sha256}" for key in kept for sha256 in named_in(second, key)}
    unnamed = [
        key
        for key, each in found.items()
        if key.startswith(f"{OBJECTS}/") and each.stored < before and key not in named
    ]
    size = sum(found[key].size for key in (*old, *unnamed)) / 1e6
    text = f"{second.uri}: {len(old)} of {len(times)} backups, {len(unnamed):,} objects of them alone, {size:,.1f} MB"
    if not remove:
        return f"{text}; nothing was removed; --remove does it"
    for keys in (old, unnamed):
        remove_objects(second, keys)
    return f"{text}; removed"


def _time(text: str) -> datetime:
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)
