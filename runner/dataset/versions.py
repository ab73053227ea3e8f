"""Dataset versions in the store: `dataset add` writes one, the stage `fetch` unpacks it.

A version is a zip whose name and digest depend only on its content, so params.yaml names exact bytes. Its files have
one layout, whatever the source looked like:

classes.txt  notes.json                the class names in id order, as lines and as Label Studio's categories
images/<name>  labels/<stem>.txt       pictures and label files, byte for byte; no label file: background
train.txt  val.txt  test.txt           one `images/<name>` per line, where the source has parts
LICENSE… SOURCE… README…               unchanged
"""

import json
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from runner.config.edit import Key, get_param, set_params
from runner.config.schema import PARTS, Composed
from runner.dataset.archive import unpack, write_zip
from runner.dataset.check import SHOWN, advice, check_dataset, describe, listed, refusals
from runner.dataset.classes import format_notes
from runner.dataset.layouts import Layout, label_content, read_layout
from runner.dataset.names import shown
from runner.errors import DatasetError, StoreError
from runner.store import SCHEME, Store, key_of_url, open_store
from runner.workspace import PARAMS, link, scratch, sha256_of, work_folder, write_text

File = tuple[str, Path | bytes]  # name with `/`, and the content or the file that has it
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_MAX_NAME = 60  # [letters]


def add_dataset(
    source: str | Path,
    *,
    project: Path,
    name: str | None = None,
    store: Store | None = None,
    record: Mapping[str, Any] | None = None,
    composed: Composed | None = None,
) -> str:
    """Check a dataset, store it as a version, and set it in params.yaml; return a text to print.

    The same dataset, as zip or folder, from any machine, gives the same version; adding it again changes nothing. Nor
    does a DatasetError, for a source that is unsafe, not a dataset, or beyond the limits of `prepare` in
    `composed`, the project's configuration (None: there are no limits, and no advice).

    The source is a zip or a folder in one of the layouts that `runner.dataset.layouts` knows; also s3://bucket/key of a
    zip, or s3://bucket/prefix/ of a folder's files, on the endpoint of the environment. `name` is the folder of its
    versions (None: from the source's name) in the store (None: of STORE_URI). `record` is the origin of a new version,
    stored beside it as <sha12>.json.
    """
    is_remote = str(source).startswith("s3://")
    path = Path(source).expanduser()
    name = _checked_name(name, path)
    get_param(project / PARAMS, ("dataset", "url"))  # fails before the work, not after it
    store = store or open_store(project)
    if not is_remote and not path.exists():
        raise DatasetError(f"{source}: there is no such file or folder, expected a zip or a folder with a dataset")
    with scratch("dataset-add-", project) as work:
        if is_remote:
            from runner.dataset.prefix import fetch_uri  # importing the client takes 0.3 s

            path = fetch_uri(str(source), work / "fetched")
        folder = path if path.is_dir() else work / "files"
        if folder != path:
            unpack(path, folder)
        layout = _read(folder, str(source) if is_remote else path.name or str(path))
        check = check_dataset(layout, folder)
        lines = [describe(layout, check, name)]
        if max(map(len, (layout.ignored, layout.lost, layout.notes, check.doubtful, check.repaired))) > SHOWN:
            findings = work_folder(project) / f"dataset-add-{name}.txt"
            write_text(findings, describe(layout, check, name, limit=None) + "\n")
            lines.append(f"complete lists: {findings}")
        if composed and (reasons := refusals(layout, check, composed[0].prepare)):
            raise DatasetError(
                "\n".join([f"{source}: not added", *lines, *reasons])
                + "\ncorrect the dataset, or change the limits in params.yaml"
            )
        version = work / "version.zip"
        write_zip(_files_of(layout), version)
        sha256 = sha256_of(version)
        key = f"datasets/{name}/{sha256[:12]}.zip"
        is_new = store.put_file(key, version, sha256)
    if record is not None:
        store.create(record_key(key), json.dumps(record, indent=1, ensure_ascii=False).encode())
    lines.append(f"{'stored as' if is_new else 'in the store already:'} {SCHEME}{key} (store: {store.uri})")
    lines.append(_name_version(project / PARAMS, name, f"{SCHEME}{key}", sha256))
    if composed:
        lines += advice(check, *composed)
        if get_param(project / PARAMS, ("model", "name")) is None and name != (model := composed[0].model.name):
            lines.append(f"{PARAMS}: model.name is empty, so models are published as {model}; set it, as to {name}")
    return "\n".join(lines)


def record_key(key: str) -> str:
    """Return the key of a version's record of origin; only versions from Label Studio have one."""
    return key.removesuffix(".zip") + ".json"


def fetch_dataset(url: str, sha256: str | None, store: Store, out: Path, *, work: Path) -> str:
    """Unpack a version from the store; a zip that was uploaded by hand is converted to the same layout.

    `url` is store:datasets/<name>/<sha12>.zip, `sha256` the zip's hex digest. `out`, new or empty, gets the files that
    the module lists, all at once. A killed download resumes in `work`. Returns the files left out or renamed, to print;
    empty for a version that `dataset add` wrote.
    """
    key = key_of_url(url)
    if sha256 is None:
        raise StoreError(f"{PARAMS}: dataset.sha256 is empty, expected the digest of {url}; `sha256sum` prints it")
    out.parent.mkdir(parents=True, exist_ok=True)
    packed = work / "datasets" / f"{sha256[:12]}.zip"
    packed.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(packed.with_suffix(".lock")),
        tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside,
    ):
        store.fetch(key, packed, sha256)
        try:
            unpack(packed, Path(beside, "files"))
        finally:
            packed.unlink()
        layout = _read(Path(beside, "files"), url)
        built = Path(beside, "built")
        write_files(_files_of(layout), built)
        built.replace(out)
    return "\n".join(
        [*listed("left out", [*layout.lost, *layout.ignored]), *listed("read otherwise than written", layout.notes)]
    )


def _name_version(params: Path, name: str, url: str, sha256: str) -> str:
    """Set the version in params.yaml; the preset `sample` is replaced by `store`."""
    values: dict[Key, str] = {("dataset", "name"): name, ("dataset", "url"): url, ("dataset", "sha256"): sha256}
    if get_param(params, ("presets", "dataset")) == "sample":
        values["presets", "dataset"] = "store"
    if set_params(params, values):
        return f"{PARAMS} now names this version; `dvc repro` trains on it"
    return f"{PARAMS} names this version already: nothing changed"


def _read(folder: Path, where: str) -> Layout:
    try:
        return read_layout(folder)
    except DatasetError as error:
        raise DatasetError(f"{shown(where)}: {error}") from error


def _checked_name(name: str | None, source: Path) -> str:
    """Return the dataset name: the given one, else one derived from the source's name."""
    if name is not None:
        if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
            raise DatasetError(
                f"--name {name!r}: expected at most {_MAX_NAME} of a-z, 0-9 and -, such as {slug(name) or 'planes'}"
            )
        return name
    own = re.sub(r"\.zip$", "", source.resolve().name, flags=re.IGNORECASE)
    if name := slug(own):
        return name
    raise DatasetError(f"{source}: no dataset name can be made of {own!r}, expected --name with a-z, 0-9 and -")


def slug(text: str) -> str:
    """Return a dataset name derived from a text; empty if it has no ASCII letters or digits."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MAX_NAME].strip("-")


def _files_of(layout: Layout) -> list[File]:
    pictures = [(each.name, each.image, label_content(layout, each), each.part) for each in layout.pictures]
    return version_files(layout.classes, layout.about, pictures)


def version_files(
    classes: list[str], about: Mapping[str, Path], pictures: Sequence[tuple[str, Path, Path | bytes | None, str | None]]
) -> list[File]:
    """Return the files of a version; a picture is its name, image, label file or its content (None: none), and part.

    Reading a version and writing it again gives the same files.
    """
    files: list[File] = [
        ("classes.txt", "".join(f"{name}\n" for name in classes).encode()),
        ("notes.json", format_notes(classes)),
        *about.items(),
    ]
    for name, image, label, _ in pictures:
        files.append((f"images/{name}", image))
        if label is not None:
            files.append((f"labels/{name.rpartition('.')[0]}.txt", label))
    for part in PARTS:
        if names := [name for name, *_, own in pictures if own == part]:
            files.append((f"{part}.txt", "".join(f"images/{name}\n" for name in names).encode()))
    return files


def write_files(files: Iterable[File], folder: Path) -> None:
    """Write files below a folder, which is created; those on disk are linked."""
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            link(content, folder / name)
