"""`store move`: copy a store into another one, of whatever kind; again, what changed since.

Keys and bytes stay, and with them numbers, digests, and the pins in Git wherever the bucket keeps its name. What names
other objects comes last, so a move that was killed leaves no version that lacks a file. Earlier versions of objects and
their tags do not come along. docs/store.md leads an installation over.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from runner.errors import MissingObjectError, ObjectError
from runner.store import Store
from runner.store.s3 import CAPABILITIES, PUBLISHED
from runner.store.second import ObjectState, list_states, noted_digest, open_second, transfer_named_first
from runner.workspace import scratch, sha256_of

#: Under a published prefix, and replaced all the same: pointers, signatures by another key, summaries.
_REPLACED = re.compile(r"models/[^/]+/latest\.json|models/[^/]+/[0-9]+/model\.sig|runs/[^/]+/[0-9]+/summary[^/]*")


def open_old(project: Path, environment: Mapping[str, str] = os.environ) -> Store:
    """Return the store to move, of OLD_STORE_URI and so on; StoreError: it is missing, or the store itself."""
    return open_second(project, "OLD_", "docs/store.md leads over", environment)


def move_store(old: Store, new: Store, *, check: bool = False) -> tuple[str, bool]:
    """Copy what the new store lacks, and what was replaced since; return a text, and whether both are equal now.

    What is published is never replaced: where the new store has other bytes, a line says so. `check`: copy nothing.
    """
    there, here = _states(old), _states(new)
    wrong, done = list[str](), list[str]()

    def move(key: str) -> None:
        try:
            if _is_same(old, new, key, there, here):
                return
            is_fixed = key.startswith(PUBLISHED) and not _REPLACED.fullmatch(key)
            if check or (key in here and is_fixed):
                wrong.append(f"{key}: {'is another' if key in here else 'is not'} in {new.uri}")
                return
            _copy(old, new, key, replace=key in here)
            done.append(key)
        except MissingObjectError:
            pass  # removed, or expired, since it was listed
        except ObjectError as error:
            wrong.append(str(error))

    transfer_named_first(move, {key: state.size for key, state in there.items()}, f"{old.uri} to {new.uri}")
    lines = [f"FAIL  {text}" for text in sorted(wrong)]
    lines.append(f"{new.uri}: {len(done)} of {len(there)} objects copied, {len(wrong)} wrong")
    return "\n".join(lines), not wrong


def _states(store: Store) -> dict[str, ObjectState]:
    found = dict(list_states(store))
    return {key: state for key, state in found.items() if key != CAPABILITIES and not key.startswith("scratch/")}


def _is_same(
    old: Store, new: Store, key: str, there: Mapping[str, ObjectState], here: Mapping[str, ObjectState]
) -> bool:
    if key not in here or here[key].size != there[key].size:
        return False
    return (here[key].etag == there[key].etag != "") or noted_digest(old, key) == noted_digest(new, key)


def _copy(old: Store, new: Store, key: str, *, replace: bool) -> None:
    with scratch("move-") as folder:
        old.fetch(key, file := folder / "object")
        if replace:
            new.replace(key, file.read_bytes())
        else:
            new.put_file(key, file, sha256_of(file))
