"""Download of s3:// URIs: one object, or all objects under a prefix in parallel."""

from pathlib import Path

from runner.dataset.archive import MAX_BYTES, MAX_FILES, check_names
from runner.errors import DatasetError
from runner.store import is_bucket
from runner.store.bucket import Bucket
from runner.store.sink import Sink
from runner.store.transfer import transfer
from serving.storage.endpoint import endpoint_of_environment


def fetch_uri(uri: str, folder: Path) -> Path:
    """Download s3://bucket/key, or all of s3://bucket/prefix/, into an empty folder; return the local file or folder.

    DatasetError for no objects, unsafe names, or too many files or bytes.
    """
    name, _, key = uri.removeprefix("s3://").partition("/")
    if not is_bucket(name):
        raise DatasetError(f"{uri}: names no bucket, expected s3://bucket/prefix/ or s3://bucket/dataset.zip")
    bucket = Bucket(name, endpoint_of_environment())
    single = bucket.find(key) if key and not key.endswith("/") else None
    if single:
        objects, prefix = {key: single}, key[: key.rfind("/") + 1]
    else:
        prefix = f"{key.rstrip('/')}/" if key else ""
        objects = {key: found for key, found in bucket.list(prefix) if not key.endswith("/")}
    if not objects:
        raise DatasetError(
            f"{uri}: there is nothing under it, expected a zip, or the files of a dataset; check its name"
        )
    total = sum(found.size for found in objects.values())
    if len(objects) > MAX_FILES or total > MAX_BYTES:
        raise DatasetError(f"{uri}: expected at most {MAX_FILES:,} files of {MAX_BYTES >> 30} GiB together")
    names = {key: key.removeprefix(prefix) for key in objects}
    check_names(list(names.values()), uri)
    for parent in {(folder / inner).parent for inner in names.values()}:
        parent.mkdir(parents=True, exist_ok=True)

    def fetch(key: str) -> None:
        with (folder / names[key]).open("w+b") as file:
            bucket.download(key, objects[key], Sink(file))

    transfer(fetch, {key: found.size for key, found in objects.items()}, uri)
    return folder / names[key] if single else folder
