"""Dataset layouts: detect the layout on disk and pair each picture with its label file.

Two layouts are known best, each at the root or in any number of top folders:

    workshop (Label Studio's export)   Ultralytics (Roboflow, CVAT, made by hand)
    classes.txt                        data.yaml              names, and paths of train, val and test
    notes.json                         train/images/…         or images/train/…, or train.txt with one path per line
    images/…   labels/…                train/labels/…         or labels/train/…
    train.txt  val.txt  test.txt       (here optional: the part of each `images/<name>`)

Without them: a class list beside the pictures and label files (labelImg's classes.txt, also in labels/; obj.names of
Darknet and CVAT's YOLO 1.1 with obj_train_data/), and the formats of `coco.py` and `voc.py`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, dirname

from runner.config.schema import PARTS
from runner.dataset.classes import check_notes, parse_classes
from runner.dataset.coco import read_coco
from runner.dataset.data_yaml import PART_KEYS, load_mapping, read_data_yaml
from runner.dataset.files import DatasetFiles, is_picture, label_lines, label_places, list_files, match_labels
from runner.dataset.labels import Labels, format_labels, parse_labels
from runner.dataset.names import fold, name_pictures, reason_for, shown
from runner.dataset.pose import keypoint_columns
from runner.dataset.unread import refuse_path
from runner.dataset.voc import read_voc
from runner.errors import DatasetError

EXPECTED = (
    "expected pictures with one of these: classes.txt beside images/ and labels/ (Label Studio's export 'YOLO with "
    "Images'), data.yaml with train and val (Ultralytics, Roboflow, CVAT's 'Ultralytics YOLO Detection'), obj.names "
    "(Darknet, CVAT's 'YOLO 1.1'), JSON of COCO, XML of Pascal VOC"
)
SAMPLED = 500  # [label files] evenly spaced ones, that say whether a dataset has keypoints
_ABOUT = re.compile(r"(licen[cs]e|copying|notice|source|readme|citation)[^/]*", re.IGNORECASE)


@dataclass(frozen=True)
class DatasetPicture:
    """Picture of a dataset."""

    name: str  # file name in the dataset: safe, with a unique stem (see `runner.dataset.names`)
    image: Path
    label: Path | None  # None: no label file, so it counts as background
    part: str | None  # train, val or test; None where the dataset has no parts
    text: bytes | None = None  # its labels in YOLO's format, where the label file has another; None: read the file


@dataclass(frozen=True)
class Layout:
    """Dataset as found on disk."""

    classes: list[str]  # in id order
    pictures: list[DatasetPicture]  # sorted by name; at least one, and at least one with a label file
    about: dict[str, Path]  # name → licence, source and read-me files in the dataset's root; they stay with it
    ignored: list[str]  # `file: reason` for each file left out; system files of macOS and Windows are not listed
    lost: dict[str, int]  # `file: reason` for each label file without a picture → its label lines, at least one
    notes: list[str]  # values read differently from how they are written, such as renamed pictures
    keypoints: int = 0  # columns after `class x y w h` in the label lines, which are no part of a box


def read_layout(folder: Path) -> Layout:
    """Detect the layout of a dataset and pair its pictures with their label files.

    DatasetError for no known layout, several datasets, an unclear class list, no pictures or no labels.
    """
    files = list_files(folder)
    classes, keypoints = _read_classes(files)
    if (notes_json := files.at_root("notes.json")) in files.plain:
        check_notes(files.read(notes_json), shown(notes_json), classes)
    labels, spare = match_labels(files)
    labelled = [label for label in labels.values() if label]
    about = _take_about(files, set(labelled))
    _ignore_the_rest(files, set(labelled), spare)
    if not labels:
        raise DatasetError(f"no pictures: {_some([*files.lost, *files.notes, *files.ignored])}; {EXPECTED}")
    if not labelled:
        raise DatasetError(
            f"no labels: none of the {len(labels)} pictures has a label file, not even an empty one; expected "
            f"{shown(label_places(next(iter(labels)))[0])} and so on ({_some([*files.lost, *files.ignored])})"
        )
    if keypoints is None and not files.texts:
        sample = labelled[:: max(1, len(labelled) // SAMPLED)]
        keypoints = keypoint_columns((folder / label).read_bytes() for label in sample)
    if keypoints:
        files.notes.append(f"label lines of {5 + keypoints} columns: read as class x y w h; the keypoints are left out")
    top = files.at_root("")
    inside = {path: path.removeprefix(top) if path.startswith(top) else f"../{path}" for path in labels}
    names = name_pictures(inside.values())
    files.notes += [
        f"{shown(path)}: called {names[own]}, {reason_for(own, names[own])}"
        for path, own in inside.items()
        if names[own] != own.rpartition("/")[2]
    ]
    pictures = []
    for path, label in labels.items():
        label_file, text = folder / label if label else None, files.texts.get(path)
        pictures.append(DatasetPicture(names[inside[path]], folder / path, label_file, files.parts[path], text))
    pictures.sort(key=lambda picture: picture.name)
    return Layout(classes, pictures, about, files.ignored, files.lost, files.notes, keypoints or 0)


def read_labels(layout: Layout, picture: DatasetPicture, where: str) -> Labels:
    """Parse the labels of a picture; `where` is the name of its label file in messages."""
    if picture.text is not None:
        return parse_labels(picture.text, where=f"{where}: {picture.name}", classes=len(layout.classes))
    text = picture.label.read_bytes() if picture.label else b""
    return parse_labels(text, where=where, classes=len(layout.classes), keypoints=layout.keypoints)


def label_content(layout: Layout, picture: DatasetPicture) -> bytes | None:
    """Return the label file of a picture, in YOLO's format: as it is, or else its boxes; None: it has none."""
    if picture.label is None or (not layout.keypoints and picture.text is None):
        return picture.label.read_bytes() if picture.label else None
    labels = read_labels(layout, picture, "")
    return format_labels(labels.class_ids, labels.boxes_xywhn).encode()


def _read_classes(files: DatasetFiles) -> tuple[list[str], int | None]:
    """Find the folder that holds the dataset; return the class names, and the columns of keypoints where it has them.

    Assigns the dataset's pictures to their parts.
    """
    yamls = {
        file: dirname(file)
        for file in files.files
        if file.lower().endswith((".yaml", ".yml")) and _describes(files, file)
    }
    lists = {file: dirname(file) for file in files.files if _is_class_list(file) and files.find(f"{file[:-11]}images")}
    if not yamls and not lists:
        if classes := read_coco(files) or read_voc(files):
            return classes, None
        lists = {file: root for file in files.files if (root := _root_of_list(files, file)) is not None}
    if not yamls and not lists:
        raise DatasetError(_explain_unknown(files))
    every = [*yamls.values(), *lists.values()]
    depth = min(_depth(root) for root in every)
    roots = sorted({root for root in every if _depth(root) == depth})
    if len(roots) > 1 and not yamls and (classes := _read_lists_of_parts(files, lists, roots)):
        return classes, None
    if len(roots) > 1:
        raise DatasetError(f"several datasets: {', '.join(map(shown, roots))}; expected one: add them one at a time")
    files.root = roots[0]
    of_root = [file for file, root in yamls.items() if root == files.root]
    if len(of_root) > 1:
        of_root = [file for file in of_root if basename(file).lower() == "data.yaml"] or of_root
    if len(of_root) > 1:
        raise DatasetError(
            f"{', '.join(map(shown, of_root))}: each describes a dataset; expected one, called data.yaml"
        )
    if of_root:
        return _read_ultralytics(files, of_root[0])
    return _read_listed(files, next(file for file, root in lists.items() if root == files.root)), None


def _read_lists_of_parts(files: DatasetFiles, lists: dict[str, str], roots: list[str]) -> list[str] | None:
    """Read a dataset whose parts have a folder each, with the same class list in each; None if it is none.

    labelImg writes a list for each folder, and so does Roboflow as YOLO Darknet.
    """
    parts = {root: PART_KEYS.get(basename(root).lower()) for root in roots}
    found = [parse_classes(files.read(file), shown(file)) for file, root in lists.items() if root in parts]
    if None in parts.values() or len(set(map(dirname, roots))) > 1 or any(each != found[0] for each in found):
        return None
    files.root = dirname(roots[0])
    for root, part in parts.items():
        files.put(files.pictures_below(root), str(part))
    return found[0]


def _root_of_list(files: DatasetFiles, file: str) -> str | None:
    """Return the root of a dataset whose class list is beside its pictures, or in labels/; None for other files."""
    if not _is_class_list(file) and not file.lower().endswith((".names", "_darknet.labels")):
        return None
    folder = dirname(file)
    around = dirname(folder)
    if basename(folder).lower() == "labels" and files.find(f"{around}/images" if around else "images"):
        return around
    return folder if files.pictures_below(folder) else None


def _depth(folder: str) -> int:
    return folder.count("/") + bool(folder)


def _describes(files: DatasetFiles, file: str) -> bool:
    """Whether a YAML file describes a dataset; data.yaml always does, by its name."""
    if basename(file).lower() == "data.yaml":
        return True
    content = load_mapping(files.folder / file) or {}
    return "names" in content and any(key in content for key in PART_KEYS)


def _explain_unknown(files: DatasetFiles) -> str:
    if alone := next(filter(_is_class_list, files.files), None):
        reasons = [f"there is no picture in images/ beside {shown(alone)}", *files.ignored]
        return f"no pictures: {_some(reasons)}; {EXPECTED}"
    texts = [file for file in files.files if file.lower().endswith(".txt") and label_lines(files, file)]
    refuse_path(texts or files.files)
    if texts and any(map(is_picture, files.files)):
        return (
            f"no class list: the lines of {shown(texts[0])} have ids of classes, and nothing names these; write "
            "classes.txt beside the pictures, or beside images/, with a class name a line, in the order of the ids"
        )
    if any(map(is_picture, files.files)):
        return f"no class list: there is neither classes.txt nor data.yaml ({_some(files.files)}); {EXPECTED}"
    return f"no pictures: {_some(files.files or files.ignored)}; {EXPECTED}"


def _read_listed(files: DatasetFiles, class_list: str) -> list[str]:
    """Read the pictures in images/, or else in the root; parts come from train.txt and so on, or from folders."""
    images = files.at_root("images")
    images = images if images in files.known else files.root
    for picture in files.pictures_below(images):
        first, inner, _ = picture.removeprefix(f"{images}/" if images else "").partition("/")
        first = re.sub("^obj_(.*)_data$", r"\1", first.lower())  # of CVAT's YOLO 1.1
        files.parts[picture] = PART_KEYS.get(first) if inner else None
    for key, part in PART_KEYS.items():
        if (listing := files.at_root(f"{key}.txt")) in files.plain:
            files.put(files.pictures_listed(listing, [files.root]), part)
    return parse_classes(files.read(class_list), shown(class_list))


def _read_ultralytics(files: DatasetFiles, data_yaml: str) -> tuple[list[str], int | None]:
    """Read the pictures that data.yaml names; one named for several parts is kept in the last of train, val, test.

    Returns the class names, and the number of columns of keypoints if data.yaml has it.
    """
    files.described.add(data_yaml)
    data = read_data_yaml(files.folder / data_yaml, shown(data_yaml))
    base = files.find_place(data.base, [files.root]) if data.base else None
    bases = [files.root] if base is None else [base, files.root]
    for part in PARTS:
        for written in data.places.get(part, []):
            place = files.find_place(written, bases)
            if place is None:
                files.unnamed_places.append(f"{part}: there is no {shown(written)}")
                files.notes.append(f"{shown(data_yaml)}: {part}: there is no {shown(written)}")
                continue
            is_folder = (files.folder / place).is_dir()
            files.put(files.pictures_below(place) if is_folder else files.pictures_listed(place, bases), part)
    for key, written in data.others.items():
        place = files.find_place(written, bases)
        if place and (files.pictures_below(place) or place.lower().endswith(".txt")):
            files.unnamed_places.append(f"{shown(key)} is none of train, val and test")
    if (classes_txt := files.at_root("classes.txt")) in files.plain:
        own = parse_classes(files.read(classes_txt), shown(classes_txt))
        if own != data.classes:
            raise DatasetError(
                f"{shown(classes_txt)}: lists {', '.join(own)}, but {shown(data_yaml)} {', '.join(data.classes)}; "
                "expected the same names in the same order: remove the file that is wrong"
            )
    return data.classes, data.keypoints


def _take_about(files: DatasetFiles, labels: set[str]) -> dict[str, Path]:
    """Return the licence, source and read-me files, one of those whose names collide on some file systems.

    A label file is none, whatever its name.
    """
    taken = labels | files.described
    papers = {
        fold(basename(file)): file
        for file in reversed(files.files)
        if dirname(file) == files.root
        and _ABOUT.fullmatch(basename(file))
        and not is_picture(file)
        and file not in taken
    }
    files.described.update(papers.values())
    return {basename(file): files.folder / file for file in sorted(papers.values())}


def _ignore_the_rest(files: DatasetFiles, labels: set[str], spare: dict[str, str]) -> None:
    """Add the files without a role to `ignored`, and the label files among them that have labels to `lost`."""
    taken = files.described | labels | files.parts.keys()
    without = files.left_out
    for file in [file for file in files.files if file not in taken]:
        lines = 0
        if is_picture(file):
            reason = "a picture that no part of the dataset names"
        elif file in without and files.unnamed_places:
            named = " and ".join(files.unnamed_places)
            reason = f"no part names {shown(without[file])}, its picture; in data.yaml, {named}"
            lines = label_lines(files, file)
        elif file in without:
            reason = f"its picture, {shown(without[file])}, is left out"
        elif file in spare:
            reason = f"a label file without a picture; {spare[file]}"
            lines = label_lines(files, file)
        else:
            reason = "neither a picture, by its suffix, nor a label file of one"
        files.lose(f"{shown(file)}: {reason}", lines)


def _some(reasons: list[str]) -> str:
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return "; ".join(map(shown, reasons[:3])) + more if reasons else "the folder is empty"


def _is_class_list(file: str) -> bool:
    return basename(file).lower() == "classes.txt"
