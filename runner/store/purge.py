"""`store purge`: empty DVC's run cache in the store, which whoever may push code fills.

The run cache maps a stage's inputs to outputs, and nobody else can check an entry. The outputs themselves lie under
their digests, and DVC's remote is set to check them (`verify`).
"""

from datetime import UTC, datetime

from minio.deleteobjects import DeleteObject

from runner.errors import ConfigError, StoreError
from runner.store.folder import FolderStore
from runner.store.s3 import S3Store

_RUNS = "dvc/runs/"


def purge_run_cache(store: FolderStore | S3Store, since: str | None = None) -> str:
    """Remove the entries pushed since a time in ISO 8601, by default all; return a text to print.

    ConfigError: the time is not one; StoreError: the user may not remove objects, as the endpoint's administrator may.
    """
    start = _parse(since) if since else None
    removed = _of_folder(store, start) if isinstance(store, FolderStore) else _of_bucket(store, start)
    return f"{store.uri}: {removed} entries of DVC's run cache removed; what needs them is computed again"


def _parse(since: str) -> datetime:
    try:
        time = datetime.fromisoformat(since)
    except ValueError as error:
        raise ConfigError(f"--since: found {since!r}, expected a time such as 2026-11-30T12:00+00:00") from error
    return time if time.tzinfo else time.astimezone()


def _of_folder(store: FolderStore, start: datetime | None) -> int:
    files = [file for file in (store.folder / _RUNS).rglob("*") if file.is_file()]
    chosen = [file for file in files if start is None or datetime.fromtimestamp(file.stat().st_mtime, UTC) >= start]
    for file in chosen:
        file.unlink()
    return len(chosen)


def _of_bucket(store: S3Store, start: datetime | None) -> int:
    bucket = store.bucket

    def remove() -> int:
        items = list(bucket.client.list_objects(bucket.name, _RUNS, recursive=True))
        chosen = [item for item in items if start is None or (item.last_modified and item.last_modified >= start)]
        refused = list(
            bucket.client.remove_objects(bucket.name, [DeleteObject(str(each.object_name)) for each in chosen])
        )
        if refused:
            raise StoreError(
                f"{store.uri}: {refused[0].name} cannot be removed ({refused[0].code}); run it as administrator"
            )
        return len(chosen)

    return bucket.with_retries("the run cache cannot be emptied", remove)
