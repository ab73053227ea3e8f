"""Pictures of tasks: stored in the store's bucket, which Label Studio reads; without a bucket, in Label Studio."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from label_studio_sdk.core.api_error import ApiError

from runner.errors import LabelStudioError, StoreError
from runner.label_studio.server import Project
from runner.store import Store, is_key
from runner.workspace import writing

_MAX_UPLOAD = 100 * 2**20  # [bytes] of a request; Label Studio refuses 250 MB


class TaskImages:
    """Stores pictures for Label Studio, and fetches those of any task."""

    def __init__(self, project: Project, store: Store, dataset: str) -> None:
        """Store pictures in the dataset's folder of the store."""
        self.project, self._store = project, store
        self._prefix = f"datasets/{dataset}/pictures/"
        self._base = store.uri_of("x").removesuffix("x")  # s3://bucket/, or a folder

    def store(self, files: Sequence[tuple[Path, str]]) -> list[str]:
        """Store pictures as <sha256>.<suffix>; return the address of each in a task. Existing ones stay."""
        if self._base.startswith("s3://"):
            for path, name in files:
                if not self._store.exists(self._prefix + name):
                    self._store.put_file(self._prefix + name, path)
            return [self._store.uri_of(self._prefix + name) for _, name in files]
        addresses: dict[str, str] = {}
        waiting: list[tuple[str, bytes]] = []
        for number, (path, name) in enumerate(files, 1):
            waiting.append((name, path.read_bytes()))
            if number == len(files) or sum(len(data) for _, data in waiting) > _MAX_UPLOAD:
                addresses |= self.project.server.upload(self.project.id, waiting)
                waiting.clear()
        return [addresses[name] for _, name in files]

    def key_of(self, image: str) -> str | None:
        """Return the store key of a task's `image`; None when it is not in the store's bucket."""
        in_bucket = self._base.startswith("s3://") and image.startswith(self._base)
        key = image.removeprefix(self._base)
        return key if in_bucket and is_key(key) else None

    def fetch(self, task: int, image: str, path: Path) -> None:
        """Write a task's picture to a file, from the store or through Label Studio; LabelStudioError names the task."""
        where, server = self.project.task_address(task), self.project.server
        try:
            if key := self.key_of(image):
                self._store.fetch(key, path)
                return
            if image.startswith("/data/"):
                data = server.get(image)
            elif re.match(r"(s3|gs|azure-blob)://", image):
                uri = base64.urlsafe_b64encode(image.encode()).decode()
                data = server.get(f"/tasks/{task}/resolve/?fileuri={uri}")
            else:
                raise LabelStudioError(
                    f"{where}: its picture is {image[:200]!r}, expected one that Label Studio or the store holds; "
                    "`python -m runner labels import` stores it there"
                )
        except (ApiError, StoreError) as error:
            reason = f"answered {error.status_code}" if isinstance(error, ApiError) else error
            raise LabelStudioError(f"{where}: its picture {image[:200]} cannot be fetched: {reason}") from error
        with writing(path, durable=False) as temporary:
            temporary.write_bytes(data)
