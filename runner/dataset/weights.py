"""Pretrained weights in the store: `weights add` uploads them, the stage `train` fetches them.

A .pt file is a pickle, and unpickling can run any code. So nothing here unpickles one: the first bytes and the file
list of torch's zip are enough. Format: https://pytorch.org/docs/stable/notes/serialization.html
"""

import re
import zipfile
from pathlib import Path

from runner.config.edit import get_param, set_params
from runner.dataset.data_yaml import load_mapping
from runner.errors import StoreError
from runner.store import SCHEME, Store, open_store
from runner.workspace import PARAMS, sha256_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.pt")
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, pickled
_EXPECTED = "expected a .pt file that torch.save wrote, such as yolo11n.pt"


def add_weights(file: Path, *, project: Path) -> str:
    """Put a .pt file of torch into the store and its digest into params.yaml, under `weights`; return a text to print.

    The file's name is the value of `model.base`.
    """
    file = file.expanduser()
    check_weights(file)
    before = get_param(project / PARAMS, ("weights", file.name))
    store = open_store(project)
    sha256 = sha256_of(file)
    key = _key(file.name, sha256)
    is_new = store.put_file(key, file, sha256)
    changed = set_params(project / PARAMS, {("weights", file.name): sha256})
    lines = [f"{'stored as' if is_new else 'in the store already:'} {SCHEME}{key} (store: {store.uri})"]
    if changed and before:
        lines.append(f"{PARAMS}: {file.name} now means this file, no longer the one with sha256 {before}")
    elif not changed:
        lines.append(f"{PARAMS} names it already: nothing changed")
    lines.append(f"to start from it, set {_how_to_use(file.name, project)} in {PARAMS}")
    return "\n".join(lines)


def fetch_weights(name: str, sha256: str, store: Store, work: Path) -> Path:
    """Return the path of a weights file such as yolo11n.pt, fetched from the store unless it is in `work` already."""
    file = work / "weights" / sha256[:12] / name
    if not file.is_file() or sha256_of(file) != sha256:
        store.fetch(_key(name, sha256), file, sha256)
    return file


def _key(name: str, sha256: str) -> str:
    return f"weights/{sha256[:12]}-{name}"


def check_weights(file: Path) -> None:
    """Reject a file that is not a .pt file of torch.save, without unpickling it."""
    if file.suffix.lower() in (".yaml", ".yml"):
        raise StoreError(
            f"{file}: an architecture, not weights, {_EXPECTED}; to train it from scratch, no file is added: set "
            f"model.base: {file.name} in {PARAMS}"
        )
    if not file.is_file():
        raise StoreError(
            f"{file}: there is no such file, {_EXPECTED}; nothing is downloaded here, "
            "Ultralytics' own are at https://github.com/ultralytics/assets/releases"
        )
    if not _NAME.fullmatch(file.name):
        raise StoreError(f"{file}: its name is not one for weights, expected NAME.pt of A-Z a-z 0-9 . _ -; rename it")
    if reason := _reason_to_refuse(file):
        raise StoreError(f"{file}: {reason}, {_EXPECTED}")


def _reason_to_refuse(file: Path) -> str | None:
    """Return why a file is not weights; None for torch's zip and for its older plain pickle."""
    with file.open("rb") as opened:
        beginning = opened.read(64)
    if beginning.startswith(_LEGACY):
        return None
    if beginning.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS (`git lfs pull` gets the file itself)"
    if not beginning.startswith(b"PK"):
        return "not weights of torch" if beginning else "empty"
    try:
        with zipfile.ZipFile(file) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return f"damaged or truncated ({error}; get it again)"
    if "constants.pkl" in names:
        return "an export to TorchScript, which cannot be trained further"
    return None if "data.pkl" in names else "a zip, but not one of torch"


def _how_to_use(name: str, project: Path) -> str:
    """Return the presets that start from these weights, or else the key `model.base`."""
    presets = [
        preset.stem
        for preset in sorted((project / "conf" / "model").glob("[!.]*.yaml"))
        if (load_mapping(preset) or {}).get("base") == name
    ]
    return " or ".join(f"presets.model: {preset}" for preset in presets) or f"model.base: {name}"
