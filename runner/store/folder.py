"""Store in a folder."""

import os
import shutil
import tempfile
from pathlib import Path

from runner.store import Store, check_key, is_key, mismatch, missing, taken
from runner.workspace import sha256_of, writing


class FolderStore(Store):
    """Store in a folder: an object is a file, its key the path."""

    def __init__(self, folder: Path) -> None:
        """Take a folder; it is created by the first write."""
        self.folder = folder
        self.uri = str(folder)

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> bool:
        target = self.folder / check_key(key)
        if not target.exists():
            with writing(target) as temporary:
                shutil.copyfile(path, temporary)
            return True
        if (other := sha256_of(target)) != (sha256 := sha256 or sha256_of(path)):
            raise taken(f"{self.uri}: {key}", other, path, sha256)
        return False

    def create(self, key: str, content: bytes) -> bool:
        target = self.folder / check_key(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".", suffix=".part", dir=target.parent) as temporary:
            temporary.write(content)
            temporary.flush()
            os.fsync(temporary.fileno())
            Path(temporary.name).chmod(0o644)
            try:
                os.link(temporary.name, target)  # fails if the name is taken, unlike a rename
            except FileExistsError:
                return False
        return True

    def replace(self, key: str, content: bytes) -> None:
        with writing(self.folder / check_key(key)) as temporary:
            temporary.write_bytes(content)

    def read(self, key: str) -> bytes:
        return self._existing(key).read_bytes()

    def fetch(self, key: str, path: Path, sha256: str | None = None) -> None:
        source = self._existing(key)
        with writing(path, durable=False) as temporary:  # it can be fetched again
            shutil.copyfile(source, temporary)
            if sha256 is not None and (found := sha256_of(temporary)) != sha256:
                raise mismatch(f"{self.uri}: {key}", found, sha256)

    def digest(self, key: str) -> str:
        return sha256_of(self._existing(key))

    def exists(self, key: str) -> bool:
        return (self.folder / check_key(key)).is_file()

    def list(self, prefix: str) -> list[str]:
        top = prefix.rpartition("/")[0]
        start = self.folder / check_key(top) if top else self.folder
        keys = (
            (Path(here) / name).relative_to(self.folder).as_posix()
            for here, _, names in os.walk(start)
            for name in names
        )
        return sorted(key for key in keys if key.startswith(prefix) and is_key(key))  # excludes unfinished files

    def tag(self, key: str, tags: dict[str, str]) -> bool:
        return False

    def _existing(self, key: str) -> Path:
        path = self.folder / check_key(key)
        if not path.is_file():
            raise missing(self.uri, key)
        return path
