"""`store backup` and `store restore`: copy a store, or a folder of files, to a second store that only grows, and back.

    backups/objects/<sha256>                    the bytes of an object, once for all backups that have it
    backups/<name>/<time>.<sha256[:12]>.jsonl   a backup: a JSON list for each object, its key, sha256, size and etag

A backup is written last, so one without this file does not exist. Every name holds a digest, so what somebody overwrote
is found, and read from its earlier version where the second store keeps them. The key for it needs no right to remove.
"""

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from runner.errors import MissingObjectError, ObjectError, StoreError
from runner.store import Store, check_key, mismatch
from runner.store.restore import bucket_of, restored
from runner.store.second import list_states, noted_digest, open_second, transfer_named_first
from runner.store.transfer import transfer
from runner.workspace import scratch, sha256_of

if TYPE_CHECKING:
    from runner.store.folder import FolderStore
    from runner.store.s3 import S3Store

NEWEST = "newest"
OF_STORE = "store"  # name of the backups of the store itself
#: What is kept of the store: no captures, which expire, and nothing of a run at work. What names others comes first.
PREFIXES = ("models/", "runs/", "datasets/", "weights/", "dvc/", "feedback/")
FOLDER, OBJECTS = "backups", "backups/objects"
TIME = "%Y-%m-%dT%H%M%S-%fZ"
_POINTER = re.compile(r"models/[^/]+/latest\.json")
_PUT_ONCE = re.compile(r"models/[^/]+/[0-9]+/.*(?<!\.sig)|(datasets|weights)/.*")
_ROW: TypeAdapter[tuple[str, str, int, str]] = TypeAdapter(
    tuple[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")], Annotated[int, Field(ge=0)], str]
)


class CopiedObject(NamedTuple):
    """An object of a backup: digest in hex, bytes, and the etag that it had (empty: always read anew)."""

    sha256: str
    size: int
    etag: str


def open_backup(project: Path, environment: Mapping[str, str] = os.environ) -> "FolderStore | S3Store":
    """Return the second store, of BACKUP_STORE_URI and so on; StoreError: it is missing, or the store itself."""
    return open_second(project, "BACKUP_", "docs/backups.md sets it up", environment)


def back_up(source: Store, second: Store, name: str = OF_STORE) -> str:
    """Copy the objects that the second store lacks, then write the backup's list; return a line about it.

    Objects that are as in the backup before, by size and etag, are not read. StoreError: objects are damaged, or were
    overwritten although they are put once; the backup is made nevertheless, with what the one before has of them.
    """
    began = datetime.now(UTC)
    new, gone, damaged = list[str](), list[str](), dict[str, str]()
    before: dict[str, CopiedObject] = {}
    for last in _backups(second, name)[-1:]:
        try:
            before = _read(second, last)
        except ObjectError as error:
            damaged[last] = str(error)
    there = {key.rpartition("/")[2] for key in second.list(f"{OBJECTS}/")}
    objects: dict[str, CopiedObject] = {}

    def copy(listed: Mapping[str, tuple[int, str]]) -> None:
        def copy_one(key: str) -> None:
            known = before.get(key)
            if known and known.sha256 not in there:
                known = None
            if known and known.etag and known[1:] == listed[key]:
                objects[key] = known
                return
            try:
                objects[key] = _copied(source, key, listed[key][1], second, there, new)
                if known and known.sha256 != objects[key].sha256 and _PUT_ONCE.fullmatch(key):
                    raise ObjectError(f"{source.uri}: {key} was overwritten since the backup before")
            except MissingObjectError:
                gone.append(key)
            except ObjectError as error:
                damaged[key] = str(error)
                if known:
                    objects[key] = known._replace(etag="")

        transfer(copy_one, {key: size for key, (size, _) in listed.items()}, f"backup of {name}")

    prefixes = PREFIXES if name == OF_STORE else ("",)
    # Pointers before all else is listed: by then the store has what they name.
    copy({key: info for prefix in prefixes for key, info in list_states(source, prefix) if _POINTER.fullmatch(key)})
    copy({key: info for prefix in prefixes for key, info in list_states(source, prefix) if not _POINTER.fullmatch(key)})
    key = _write(second, name, began, objects)
    left = f", {len(gone)} removed meanwhile" if gone else ""
    text = f"{second.uri}: {key}: {len(objects)} objects, {len(new)} of them copied{left}"
    if damaged:
        raise StoreError(
            f"{text}; {len(damaged)} objects are as in the backup before, or missing: {next(iter(damaged.values()))}; "
            "`python -m runner store verify` names all, `--restore` brings them back"
        )
    return text


def restore(second: Store, target: Store, name: str = OF_STORE, begins: str = NEWEST) -> str:
    """Bring back what the target lacks of a backup; return a line about it, and one for each object that differs.

    `begins`: the newest backup whose time begins so, as 2026-11-30T02. An object that is there with other content
    stays. What names others comes last. StoreError: there is no such backup, it is damaged, or, as the store's, it
    names what `back_up` never copies: whoever may add a backup chooses no setting of the store and no run at work.
    """
    chosen = _chosen(second, name, begins)
    objects = _read(second, chosen)
    if name == OF_STORE and (odd := next((key for key in objects if not key.startswith(PREFIXES)), None)):
        raise ObjectError(f"{second.uri}: {chosen}: names {odd}, expected keys that begin with {', '.join(PREFIXES)}")
    differing, new = list[str](), list[str]()

    def bring(key: str) -> None:
        expected = objects[key].sha256
        if target.exists(key):
            if noted_digest(target, key) != expected:
                differing.append(key)
            return
        with scratch("restore-") as folder:
            _fetch(second, f"{OBJECTS}/{expected}", file := folder / "object", expected)
            target.put_file(key, file, expected)
        new.append(key)

    transfer_named_first(bring, {key: each.size for key, each in objects.items()}, f"restore of {name}")
    lines = [f"{target.uri}: {key} stays, with other content than in the backup" for key in sorted(differing)]
    return "\n".join([*lines, f"{target.uri}: {len(new)} of {len(objects)} objects brought back from {chosen}"])


def check_backup(second: Store, name: str = OF_STORE, begins: str = NEWEST) -> str:
    """Hash every object of a backup; return a line about it. StoreError names those that are missing or damaged."""
    chosen = _chosen(second, name, begins)
    sizes = {each.sha256: each.size for each in _read(second, chosen).values()}
    faults = list[str]()

    def check(sha256: str) -> None:
        try:
            if (found := second.digest(f"{OBJECTS}/{sha256}")) != sha256:
                faults.append(f"{OBJECTS}/{sha256}: its sha256 is {found}: it was replaced")
        except ObjectError as error:
            faults.append(str(error))

    transfer(check, sizes, f"check of {name}")
    if faults:
        raise StoreError("\n".join([f"{second.uri}: {chosen}: {len(faults)} of {len(sizes)} objects:", *faults]))
    return f"{second.uri}: {chosen}: {len(sizes)} objects hashed, no errors"


def named_in(second: Store, key: str) -> set[str]:
    """Return the sha256 of every object that a backup names; ObjectError: its list is missing or damaged."""
    return {each.sha256 for each in _read(second, key).values()}


def _backups(second: Store, name: str) -> list[str]:
    """Return the keys of the backups of this name, oldest first."""
    folder = check_key(f"{FOLDER}/{name}")
    pattern = re.compile(rf"{re.escape(folder)}/[0-9-]+T[0-9-]+Z\.[0-9a-f]{{12}}\.jsonl")
    return [key for key in second.list(f"{folder}/") if pattern.fullmatch(key)]


def _chosen(second: Store, name: str, begins: str) -> str:
    """Return the key of the newest backup whose time begins so; StoreError: there is none."""
    backups = _backups(second, name)
    chosen = [key for key in backups if begins == NEWEST or key.rpartition("/")[2].startswith(begins)]
    if not chosen:
        there = ", ".join(key.rpartition("/")[2].partition(".")[0] for key in backups[-5:]) or "none"
        raise StoreError(f"{second.uri}: there is no backup of {name} from {begins} (the last ones: {there})")
    return chosen[-1]


def _copied(source: Store, key: str, etag: str, second: Store, there: set[str], new: list[str]) -> CopiedObject:
    with scratch("backup-") as folder:
        source.fetch(key, file := folder / "object")
        sha256, size = sha256_of(file), file.stat().st_size
        if sha256 not in there:
            second.put_file(f"{OBJECTS}/{sha256}", file, sha256)
            there.add(sha256)
            new.append(key)
    return CopiedObject(sha256, size, etag)


def _write(second: Store, name: str, began: datetime, objects: Mapping[str, CopiedObject]) -> str:
    with scratch("backup-") as folder:
        with (file := folder / "list").open("w", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps([key, *objects[key]])}\n" for key in sorted(objects))
        sha256 = sha256_of(file)
        key = f"{FOLDER}/{name}/{began.strftime(TIME)}.{sha256[:12]}.jsonl"
        second.put_file(key, file, sha256)
    return key


def _read(second: Store, key: str) -> dict[str, CopiedObject]:
    with scratch("backup-") as folder:
        _fetch(second, key, file := folder / "list", key.split(".")[-2])
        with file.open(encoding="utf-8") as stream:
            try:
                rows = (_ROW.validate_json(line) for line in stream)
                return {check_key(row[0]): CopiedObject(*row[1:]) for row in rows}
            except (ValidationError, UnicodeDecodeError, StoreError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ObjectError(f"{second.uri}: {key}: is no list of a backup ({reason})") from error


def _fetch(second: Store, key: str, path: Path, sha256: str) -> None:
    """Download an object whose digest begins so; one that was overwritten is brought back from an earlier version."""
    try:
        second.fetch(key, path)
        if not (found := sha256_of(path)).startswith(sha256):
            raise mismatch(f"{second.uri}: {key}", found, sha256)
    except ObjectError as error:
        bucket = bucket_of(second)
        try:
            mended = bucket and restored(bucket, key, sha256)
        except StoreError:  # this key may not
            mended = None
        if not mended:
            raise ObjectError(f"{error}; no earlier version of it is there, or this key may not read it") from error
        second.fetch(key, path)
