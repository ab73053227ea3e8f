"""`store gc`: remove what nothing names any more, once it is old.

dvc/files/                  unless a dvc.lock or .dvc file of a branch, a tag, a published version or a run names it
dvc/runs/                   unless all outputs of the entry are named so
runs/ and models/<m>/<n>/   of a number that was never published; the claim stays, so no number is used twice
datasets/<d>/pictures/      unless an index of the dataset names it; those of Label Studio's tasks (.jpg) stay

An upload beside it is safe. What was uploaded lately is kept; what is removed is brought back when a name appeared
meanwhile; and `dataset add` looks again for its pictures once its index is in the store, as `publish` for its files. So
an object is only hidden at first, by a mark of removal, and a later call deletes it.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import yaml
from minio.deleteobjects import DeleteObject

from runner.errors import StoreError
from runner.store import Store, is_key
from runner.store.bucket import Bucket
from runner.store.folder import FolderStore
from runner.store.restore import bucket_of, copy_back, versions_below
from runner.store.s3 import S3Store
from runner.store.verify import INDEX, pictures_named
from runner.workspace import LOCK, work_folder, write_text

DAYS = 30
_HIDDEN = ".gc"  # where a folder keeps what is being removed
_FILES, _RUN_CACHE, _UNFINISHED, _PICTURES = "DVC's objects", "run cache", "unfinished versions", "pictures"
_KINDS = {
    _FILES: re.compile(r"dvc/files/md5/[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?"),
    _RUN_CACHE: re.compile(r"dvc/runs/[0-9a-f]{2}/[0-9a-f]{64}/[0-9a-f]{64}"),
    _UNFINISHED: re.compile(r"(runs|models)/(?P<version>[^/]+/[1-9][0-9]*)/(?!claim\.json$).+"),
    _PICTURES: re.compile(r"datasets/[^/]+/pictures/[0-9a-f]{64}"),
}
_LOCKS = re.compile(r"(pipeline/[^/]+|runs/[^/]+/[1-9][0-9]*)/dvc\.lock")
_MD5 = re.compile(r"\bmd5:\s*[\"']?([0-9a-f]{32}(?:\.dir)?)")
_PART = re.compile(r'"md5":\s*"([0-9a-f]{32})"')  # of a folder


class StoredObject(NamedTuple):
    """An object of the store: its size in bytes, and when it was put there."""

    key: str
    size: int
    stored: datetime


def collect_garbage(
    project: Path, store: FolderStore | S3Store, *, days: int = DAYS, remove: bool = False, now: datetime | None = None
) -> str:
    """Return how much nothing names that is older than `days`; with `remove`, remove it. A file lists the keys.

    The project is a whole clone, with the branches and tags of its remotes. StoreError: it is not; the store keeps no
    earlier versions, so that nothing could be brought back; or the user may not remove, as the administrator may.
    """
    if days < 1:
        raise StoreError(f"--days {days}: expected 1 or more")
    if remove and isinstance(store, S3Store) and not store.capabilities.versioning:
        raise StoreError(f"{store.uri} keeps no earlier versions, so what an upload needs could not be brought back")
    before = (now or datetime.now(UTC)) - timedelta(days=days)
    names = _Names(store, _locks_in_git(project))
    objects = list(stored_objects(store))
    named = names.read(objects, before)
    unnamed = [each for each in objects if each.stored < before and _kind(each.key) and each.key not in named]
    listing = work_folder(project) / "store-gc.txt"
    write_text(listing, "".join(f"{each.key}\t{each.size}\n" for each in unnamed))
    lines = [*_sums(unnamed), f"list: {listing}"]
    if not remove:
        return "\n".join([*lines, "nothing was removed; --remove does it"])
    lines.append(_delete_hidden(store, before, named))
    hide(store, [each.key for each in unnamed])
    named = names.read(list(stored_objects(store)), before)
    back = [each.key for each in unnamed if each.key in named]
    for key in back:
        _bring_back(store, key)
    lines.append(f"{len(unnamed) - len(back)} removed, {len(back)} kept that were named meanwhile")
    return "\n".join(lines)


def _sums(unnamed: list[StoredObject]) -> Iterator[str]:
    count, size = Counter[str](), Counter[str]()
    for each in unnamed:
        count[kind := _kind(each.key)] += 1
        size[kind] += each.size
    for kind in _KINDS:
        yield f"{kind}: {count[kind]:,} objects that nothing names, {size[kind] / 1e6:,.1f} MB"


def _kind(key: str) -> str:
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(key)), "")


def _file(md5: str) -> str:
    return f"dvc/files/md5/{md5[:2]}/{md5[2:]}"


class _Names:
    """Keys that something names; what was read once is not read again."""

    def __init__(self, store: Store, locks_in_git: Iterable[str]) -> None:
        self._of_git = set(locks_in_git)
        self._md5s, self._parts = (cache(partial(_found, store, pattern)) for pattern in (_MD5, _PART))
        self._outputs, self._pictures = (cache(partial(read, store)) for read in (_outputs, pictures_named))

    def read(self, objects: list[StoredObject], before: datetime) -> set[str]:
        """Return the keys that are named, also by objects that are new since `before`."""
        keys = {each.key for each in objects}
        md5s = {md5 for key in keys if _LOCKS.fullmatch(key) for md5 in self._md5s(key)} | self._of_git
        entries = {each.key: each.stored >= before for each in objects if _kind(each.key) == _RUN_CACHE}
        md5s |= {md5 for key, is_new in entries.items() if is_new for md5 in self._outputs(key)}
        folders = [_file(md5) for md5 in md5s if md5.endswith(".dir")]
        md5s |= {md5 for folder in folders if folder in keys for md5 in self._parts(folder)}
        named = {_file(md5) for md5 in md5s}
        named |= {key for key, is_new in entries.items() if is_new or self._outputs(key) <= md5s}
        for key in filter(INDEX.fullmatch, keys):
            named |= self._pictures(key)
        published = {
            key.split("/", 1)[1].removesuffix("/manifest.json") for key in keys if key.endswith("/manifest.json")
        }
        unfinished = ((key, _KINDS[_UNFINISHED].fullmatch(key)) for key in keys)
        return named | {key for key, match in unfinished if match and match["version"] in published}


def _found(store: Store, pattern: re.Pattern[str], key: str) -> set[str]:
    return set(pattern.findall(store.read(key).decode("utf-8", "replace")))


def _outputs(store: Store, key: str) -> set[str]:
    """Return the MD5s of the outputs of an entry of the run cache, which has those of the stage's inputs too.

    Whoever may push writes entries: one that is none counts as of an output that nothing names.
    """
    try:
        return {str(out.get("md5")) for out in yaml.safe_load(store.read(key)).get("outs", ())}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, RecursionError):
        return {""}


def _locks_in_git(project: Path) -> set[str]:
    """Return the MD5s in every dvc.lock and .dvc file of every branch and tag; StoreError: not all can be read."""
    fetched = "expected a whole clone whose remotes answer: `git fetch --unshallow`"
    try:
        if _git(project, "rev-parse", "--is-shallow-repository").strip() == "true":
            raise StoreError(f"{project} is a shallow clone; {fetched}")
        for remote in _git(project, "remote").split():
            _git(project, "fetch", "--quiet", "--tags", remote, f"+refs/heads/*:refs/remotes/{remote}/*")
        commits = set(_git(project, "for-each-ref", "--format=%(objectname)").split()) | {"HEAD"}
        blobs: set[str] = set()
        for commit in sorted(commits):
            for line in _git(project, "ls-tree", "-r", commit).splitlines():
                entry, _, path = line.partition("\t")
                if path.endswith(".dvc") or path.rpartition("/")[2] == "dvc.lock":
                    blobs.add(entry.split()[2])
        texts = [_git(project, "cat-file", "blob", blob) for blob in blobs]
    except subprocess.CalledProcessError as error:
        raise StoreError(f"{project}: git: {error.stderr.strip()}; {fetched}") from error
    if (own := project / LOCK).is_file():  # not committed yet
        texts.append(own.read_text(encoding="utf-8"))
    return {md5 for text in texts for md5 in _MD5.findall(text)}


def _git(project: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=True)
    return done.stdout


def stored_objects(store: FolderStore | S3Store, prefix: str = "") -> Iterator[StoredObject]:
    """Yield the objects whose keys begin with `prefix`."""
    if isinstance(store, FolderStore):
        for key in store.list(prefix):
            found = (store.folder / key).stat()
            yield StoredObject(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
        return
    bucket = store.bucket
    listed = bucket.with_retries(
        "it cannot be listed", lambda: list(bucket.client.list_objects(bucket.name, prefix, recursive=True))
    )
    for item in listed:
        if item.object_name and item.last_modified and is_key(item.object_name):
            yield StoredObject(item.object_name, item.size or 0, item.last_modified)


def remove_objects(store: FolderStore | S3Store, keys: Iterable[str]) -> None:
    """Remove objects; a bucket that keeps versions has their bytes until those expire.

    StoreError: the user may not, as the endpoint's administrator may.
    """
    if isinstance(store, S3Store):
        _remove(store.bucket, [DeleteObject(key) for key in keys])
    else:
        for key in keys:
            (store.folder / key).unlink()


def hide(store: FolderStore | S3Store, keys: Iterable[str]) -> None:
    """Remove objects so that they can be brought back; StoreError when the user may not."""
    if isinstance(store, S3Store):
        remove_objects(store, keys)
        return
    for key in keys:
        hidden = store.folder / _HIDDEN / key
        hidden.parent.mkdir(parents=True, exist_ok=True)
        (store.folder / key).replace(hidden)


def _bring_back(store: FolderStore | S3Store, key: str) -> None:
    if isinstance(store, FolderStore):
        (store.folder / _HIDDEN / key).replace(store.folder / key)
    elif bucket := bucket_of(store):
        copy_back(bucket, key, versions_below(bucket, key)[key][-1])


def _delete_hidden(store: FolderStore | S3Store, before: datetime, named: set[str]) -> str:
    """Delete for good what an earlier call hid, all of its versions; in a bucket once that is old, too."""
    if isinstance(store, FolderStore):
        gone = [file for file in (store.folder / _HIDDEN).rglob("*") if file.is_file()]
        for file in gone:
            file.unlink()
        return f"{len(gone)} deleted that were removed earlier"
    bucket = store.bucket
    versions = bucket.with_retries(
        "its versions cannot be listed",
        lambda: list(bucket.client.list_objects(bucket.name, recursive=True, include_version=True)),
    )
    hidden = {
        item.object_name
        for item in versions
        if item.is_delete_marker and item.is_latest in (True, "true") and item.last_modified < before
    }
    old = [item for item in versions if item.object_name in hidden - named and _kind(item.object_name)]
    _remove(bucket, [DeleteObject(item.object_name, item.version_id) for item in old], bypass=True)
    return f"{len({item.object_name for item in old})} deleted that were removed earlier, with all their versions"


def _remove(bucket: Bucket, objects: list[DeleteObject], *, bypass: bool = False) -> None:
    def remove() -> None:
        refused = list(bucket.client.remove_objects(bucket.name, objects, bypass_governance_mode=bypass))
        if refused:
            raise StoreError(
                f"{bucket.uri}: {refused[0].name} cannot be removed ({refused[0].code}); run it as administrator"
            )

    if objects:
        bucket.with_retries("objects cannot be removed", remove)
