"""`store purge`: empty DVC's run cache in the store, which whoever may push code fills.

The run cache maps a stage's inputs to outputs, and nobody else can check an entry. The outputs themselves lie under
their digests, and DVC's remote is set to check them (`verify`).
"""

from datetime import datetime

from runner.errors import ConfigError
from runner.store.folder import FolderStore
from runner.store.gc import remove_objects, stored_objects
from runner.store.s3 import S3Store

_RUNS = "dvc/runs/"


def purge_run_cache(store: FolderStore | S3Store, since: str | None = None) -> str:
    """Remove the entries pushed since a time in ISO 8601, by default all; return a text to print.

    ConfigError: the time is not one; StoreError: the user may not remove objects, as the endpoint's administrator may.
    """
    start = _parse(since) if since else None
    keys = [each.key for each in stored_objects(store, _RUNS) if start is None or each.stored >= start]
    remove_objects(store, keys)
    return f"{store.uri}: {len(keys)} entries of DVC's run cache removed; what needs them is computed again"


def _parse(since: str) -> datetime:
    try:
        time = datetime.fromisoformat(since)
    except ValueError as error:
        raise ConfigError(f"--since: found {since!r}, expected a time such as 2026-11-30T12:00+00:00") from error
    return time if time.tzinfo else time.astimezone()
