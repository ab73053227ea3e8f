"""Storage of the tasks' pictures: the store's bucket, which Label Studio reads; without a bucket, in Label Studio."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from label_studio_sdk.core.api_error import ApiError

from runner.errors import LabelStudioError, StoreError
from runner.label_studio.project import Project
from runner.store import Store, is_key
from runner.workspace import writing

_MOST_BYTES = 100 * 2**20  # [bytes] of an upload; Label Studio refuses 250 MB


class File(NamedTuple):
    """A picture to store: `name` is <sha256>.<suffix>."""

    path: Path
    name: str


class Shelf:
    """Stores pictures for Label Studio, and fetches those of any task."""

    def __init__(self, its: Project, store: Store, dataset: str) -> None:
        """Use the folder of the dataset's pictures in the store."""
        self._its, self._store = its, store
        self._prefix = f"datasets/{dataset}/pictures/"
        self._base = store.uri_of("x").removesuffix("x")  # s3://bucket/, or a folder

    @property
    def in_bucket(self) -> bool:
        """Whether the store is a bucket, which Label Studio can read."""
        return self._base.startswith("s3://")

    def place(self, files: Sequence[File]) -> list[str]:
        """Store pictures; return the address of each in a task. Existing ones stay."""
        if self.in_bucket:
            keys = [f"{self._prefix}{file.name}" for file in files]
            for key, file in zip(keys, files, strict=True):
                if not self._store.exists(key):
                    self._store.put_file(key, file.path)
            return [self._store.uri_of(key) for key in keys]
        places: dict[str, str] = {}
        waiting: list[tuple[str, bytes]] = []
        for file in files:
            waiting.append((file.name, file.path.read_bytes()))
            if sum(len(data) for _, data in waiting) > _MOST_BYTES:
                places |= self._its.server.upload(self._its.id, waiting)
                waiting.clear()
        if waiting:
            places |= self._its.server.upload(self._its.id, waiting)
        return [places[file.name] for file in files]

    def key_of(self, image: str) -> str | None:
        """Return the store key of a task's `image`; None when it is not in the store's bucket."""
        key = image.removeprefix(self._base)
        return key if self.in_bucket and image.startswith(self._base) and is_key(key) else None

    def fetch(self, task: int, image: str, path: Path) -> None:
        """Write a task's picture to a file, from the store or through Label Studio; LabelStudioError names the task."""
        where = self._its.task_address(task)
        try:
            if key := self.key_of(image):
                self._store.fetch(key, path)
                return
            if image.startswith("/data/"):
                data = self._its.server.get(image)
            elif re.match(r"(s3|gs|azure-blob)://", image):
                uri = base64.urlsafe_b64encode(image.encode()).decode()
                data = self._its.server.get(f"/tasks/{task}/resolve/?fileuri={uri}")
            else:
                raise LabelStudioError(
                    f"{where}: its picture is {image[:200]!r}, expected one that Label Studio or the store holds; "
                    "`python -m runner labels import` brings it there"
                )
        except (ApiError, StoreError) as error:
            said = f"answered {error.status_code}" if isinstance(error, ApiError) else error
            raise LabelStudioError(f"{where}: its picture {image[:200]} cannot be fetched: {said}") from error
        with writing(path, durable=False) as temporary:
            temporary.write_bytes(data)
