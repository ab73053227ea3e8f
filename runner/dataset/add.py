"""`dataset add` and `dataset migrate`: check a dataset, store it as a version, and name it in params.yaml."""

import re
import unicodedata
from collections import Counter
from pathlib import Path

from runner.config.compose import compose
from runner.config.edit import get_param
from runner.config.schema import Composed
from runner.dataset.archive import unpack
from runner.dataset.check import SHOWN, Check, Frame, advice, check_dataset, describe, listed, refusals
from runner.dataset.duplicates import Copy, describe_pairs, sort_copies
from runner.dataset.labels import parse_labels
from runner.dataset.layouts import Layout
from runner.dataset.versions import index_of, name_version, open_version, read_source, store_version, unpack_zip
from runner.errors import DatasetError, MissingObjectError
from runner.store import Store, key_of_url, open_store
from runner.workspace import PARAMS, scratch, work_folder, write_text

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_MAX_NAME = 60  # [letters]


def add_dataset(
    source: str | Path,
    *,
    project: Path,
    name: str | None = None,
    store: Store | None = None,
    frame: Frame = "seen",
    composed: Composed | None = None,
) -> str:
    """Check a dataset, store it as a version, and set it in params.yaml; return a text to print.

    The same dataset, as zip or folder, from any machine, gives the same version; adding it again changes nothing. Nor
    does a DatasetError, for a source that is unsafe, not a dataset, or beyond the limits of `prepare` in
    `composed`, the project's configuration (None: there are no limits, and no advice).

    The source is a zip or a folder in one of the layouts that `runner.dataset.layouts` knows; also s3://bucket/key of a
    zip, or s3://bucket/prefix/ of a folder's files, on the endpoint of the environment. `name` is the folder of its
    versions (None: from the source's name) in the store (None: of STORE_URI). `frame` is that of its boxes.
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
        layout = read_source(folder, str(source) if is_remote else path.name or str(path))
        return _store(layout, check_dataset(layout, folder, frame), composed, name, "dataset add", project, store)


def migrate_dataset(project: Path, frame: Frame | None) -> str:
    """Store the zip that params.yaml names as a version with an index, and set that; return a text to print.

    `frame` is that of its boxes; None: DatasetError where that matters.
    """
    composed = compose(project)
    config, _ = composed
    url, store = config.dataset.url, open_store(project)
    if not url.endswith(".zip"):
        return f"{PARAMS}: dataset.url is {url}, which is no zip: nothing to do"
    with scratch("dataset-migrate-", project) as work:
        key, sha256 = key_of_url(url), str(config.dataset.sha256)
        layout, check = unpack_zip(key, sha256, store, work / "files", work=work, frame=frame)
        return _store(layout, check, composed, key.split("/")[1], "dataset migrate", project, store)


def _store(
    layout: Layout, check: Check, composed: Composed | None, name: str, made_by: str, project: Path, store: Store
) -> str:
    """Store a checked dataset within the limits of `composed`; set it in params.yaml, and return a text to print."""
    lines = [describe(layout, check, name)]
    lists = (layout.lost, layout.ignored + check.emptied, layout.notes, check.wrong, check.repaired, check.doubtful)
    if max(map(len, lists)) > SHOWN:
        findings = work_folder(project) / f"dataset-add-{name}.txt"
        write_text(findings, describe(layout, check, name, limit=None) + "\n")
        lines.append(f"complete lists: {findings}")
    if composed and (reasons := refusals(layout, check, composed[0].prepare)):
        remedy = "correct the dataset, or change the limits in params.yaml"
        raise DatasetError("\n".join([f"{name}: not added", *lines, *reasons, remedy]))
    leaving, pairs = sort_copies(_copies(layout, check), composed[0].prepare.duplicates if composed else "labelled")
    if pairs:
        sheet = work_folder(project) / f"dataset-add-{name}-duplicates.jpg"
        raise DatasetError("\n".join([f"{name}: not added", *lines, describe_pairs(pairs, layout.classes, sheet)]))
    lines += listed("copies that prepare will leave out", [f"{own}: {reason}" for own, reason in leaving.items()])
    params = project / PARAMS
    same = get_param(params, ("dataset", "name")) == name
    parent = get_param(params, ("dataset", "sha256")) if same else None
    record = {"made_by": made_by, "previous": parent, "exif_boxes": check.frame}
    with scratch("version-", project) as work:
        if parent and (moved := _moved(check, str(get_param(params, ("dataset", "url"))), str(parent), store, work)):
            found = listed("in another part than in the version before, so what is measured was trained on", moved)
            remedy = "keep the parts of these pictures, or add the dataset under another name (--name), to begin anew"
            raise DatasetError("\n".join([f"{name}: not added", *found, remedy]))
        url, sha256, stored = store_version(store, name, *index_of(layout, check.rows, check.files), record, work=work)
    lines += [stored, name_version(params, name, url, sha256)]
    if composed:
        lines += advice(check, *composed)
        if get_param(params, ("model", "name")) is None and name != (model := composed[0].model.name):
            lines.append(f"{PARAMS}: model.name is empty, so models are published as {model}; set it, as to {name}")
    return "\n".join(lines)


def _moved(check: Check, url: str, sha256: str, store: Store, work: Path) -> list[str]:
    """Return the pictures that are in another part than in a version, if the store has its index, with both parts."""
    if not url.endswith(".jsonl"):
        return []
    try:
        before, _ = open_version(url, sha256, store, work, work=work)
    except MissingObjectError:  # STORE_URI is another store
        return []
    parts: dict[str, list[str]] = {}
    for row in before.rows:
        parts.setdefault(row.sha256, []).extend([row.part] if row.part else [])
    return [
        f"{row.name}: {row.part}, was {' and '.join(old)}"
        for row in check.rows
        if row.part and (old := parts.get(row.sha256)) and row.part not in old
    ]


def _copies(layout: Layout, check: Check) -> list[Copy]:
    """Return the pictures that are in the dataset more than once."""
    count = Counter(row.sha256 for row in check.rows)
    copies = []
    for row in check.rows:
        if count[row.sha256] > 1:
            labels = parse_labels(row.labels.encode(), where="", classes=len(layout.classes))
            copies.append(Copy(row.name, row.sha256, row.part, labels, check.files[row.sha256]))
    return copies


def slug(text: str) -> str:
    """Return a dataset name derived from a text; empty if it has no ASCII letters or digits."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MAX_NAME].strip("-")


def _checked_name(name: str | None, source: Path) -> str:
    """Return the dataset name: the given one, else one derived from the source's name."""
    if name is not None:
        if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
            raise DatasetError(
                f"--name {name!r}: expected at most {_MAX_NAME} of a-z, 0-9 and -, such as {slug(name) or 'planes'}"
            )
        return name
    own = re.sub(r"\.(zip|tgz|tar(\.(gz|bz2|xz))?)$", "", source.resolve().name, flags=re.IGNORECASE)
    if name := slug(own):
        return name
    raise DatasetError(f"{source}: no dataset name can be made of {own!r}, expected --name with a-z, 0-9 and -")
