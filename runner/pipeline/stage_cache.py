"""DVC's run cache, asked by key: only the entries of a project's own stages are fetched and sent.

DVC's own pull and push copy the entries of all runs that ever were, one after another: with some thousand runs, minutes
in each Task. An entry lies under `runs/<first two of the key>/<key>/<digest of its content>`, here and in the remote.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dvc.stage.cache
from dvc.config import RemoteConfigError
from dvc.stage.cache import RunCacheNotSupported, StageCache, _get_cache_hash, _get_stage_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_objects.db import ObjectDB
from dvc_objects.fs.generic import copy


class KeyedStageCache(StageCache):  # type: ignore[misc]
    """As DVC's. Where `pull` was called, an entry is fetched once a stage asks for its key."""

    _source: ObjectDB | None = None

    def pull(self, remote: str | None, odb: ObjectDB | None = None) -> list[tuple[str, str]]:
        """Fetch later, by key. RunCacheNotSupported without a remote; the remote's own error when it is away."""
        source = odb or self._remote(remote, "fetch --run-cache")
        source.fs.exists(source.fs.join(source.path, "runs"))  # raises when the remote does not answer
        self._source = source
        return []

    def push(self, remote: str | None, odb: ObjectDB | None = None) -> list[tuple[str, str]]:
        """Send the entries of the stages in dvc.lock that are here; return (key, value) of each."""
        to = odb or self._remote(remote, "push --run-cache")
        sent = []
        locked = [
            stage for stage in self.repo.index.stages if all(each.hash_info for each in (*stage.deps, *stage.outs))
        ]
        for stage in locked:
            key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
            folder = Path(self._get_cache_dir(key))
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                there = to.fs.join(to.path, "runs", key[:2], key, file.name)
                copy(self.repo.cache.legacy.fs, str(file), to.fs, there)
                sent.append((key, file.name))
        return sent

    def fetch(self, key: str) -> None:
        """Fetch a key's entries that are not here, the oldest first: DVC takes the file that was written last."""
        if self._source is None:
            return
        fs, place = self._source.fs, self._source.fs.join(self._source.path, "runs", key[:2], key)
        try:
            found: dict[str, Any] = {path: fs.info(path) for path in fs.find(place)}
        except FileNotFoundError:
            return
        for path in sorted(found, key=lambda path: (str(found[path].get("LastModified", "")), path)):
            here = self._get_cache_path(key, fs.name(path))
            if not Path(here).exists():
                copy(fs, path, self.repo.cache.legacy.fs, here)

    def _load(self, stage: Any) -> dict[str, Any] | None:
        self.fetch(_get_stage_hash(stage))
        found: dict[str, Any] | None = super()._load(stage)
        return found

    def _remote(self, name: str | None, command: str) -> ObjectDB:
        try:
            found: ObjectDB = self.repo.cloud.get_remote_odb(name, command, hash_name="md5-dos2unix")
        except RemoteConfigError as error:
            raise RunCacheNotSupported(error) from error
        return found


@contextmanager
def keyed_run_cache() -> Iterator[None]:
    """Let what DVC does in this process ask the run cache by key."""
    before = dvc.stage.cache.StageCache
    dvc.stage.cache.StageCache = KeyedStageCache
    try:
        yield
    finally:
        dvc.stage.cache.StageCache = before
