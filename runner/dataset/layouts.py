"""Dataset layouts: detect the layout on disk and pair each picture with its label file.

Two layouts are known, each at the root or in any number of top folders:

    workshop (Label Studio's export)   Ultralytics (Roboflow, CVAT, made by hand)
    classes.txt                        data.yaml              names, and paths of train, val and test
    notes.json                         train/images/…         or images/train/…, or train.txt with one path per line
    images/…   labels/…                train/labels/…         or labels/train/…
    train.txt  val.txt  test.txt       (here optional: the part of each `images/<name>`)
"""

import re
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname

from runner.config.schema import PARTS
from runner.dataset.classes import check_notes, parse_classes
from runner.dataset.data_yaml import PART_KEYS, load_mapping, read_data_yaml
from runner.dataset.files import DatasetFiles, is_picture, label_lines, label_places, list_files, match_labels
from runner.dataset.labels import Labels, parse_labels
from runner.dataset.names import fold, name_pictures, reason_for, shown
from runner.dataset.pose import keypoint_columns
from runner.errors import DatasetError

EXPECTED = (
    "expected classes.txt beside images/ and labels/ (the workshop, Label Studio's export 'YOLO with Images'), "
    "or data.yaml with train and val (Ultralytics, Roboflow, CVAT)"
)
SAMPLED = 500  # [label files] that say whether a dataset has keypoints
_ABOUT = re.compile(r"(licen[cs]e|copying|notice|source|readme|citation)[^/]*", re.IGNORECASE)


@dataclass(frozen=True)
class DatasetPicture:
    """Picture of a dataset."""

    name: str  # file name in the dataset: safe, with a unique stem (see `runner.dataset.names`)
    image: Path
    label: Path | None  # None: no label file, so it counts as background
    part: str | None  # train, val or test; None where the dataset has no parts


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
    files.root, data_yaml = _find_root(files)
    classes, keypoints = _read_ultralytics(files, data_yaml) if data_yaml else (_read_workshop(files), None)
    if (notes_json := files.at_root("notes.json")) in files.known:
        check_notes(files.read(notes_json), shown(notes_json), classes)
    labels, spare = match_labels(files)
    about = _take_about(files)
    lost = _ignore_the_rest(files, {label for label in labels.values() if label}, spare)
    if not labels:
        raise DatasetError(f"no pictures: {_some(files.notes + files.ignored)}; {EXPECTED}")
    if not any(labels.values()):
        raise DatasetError(
            f"no labels: none of the {len(labels)} pictures has a label file, not even an empty one; expected "
            f"{shown(label_places(next(iter(labels)))[0])} and so on ({_some([*lost, *files.ignored])})"
        )
    if keypoints is None:
        keypoints = keypoint_columns(
            (folder / label).read_bytes() for label in _sample(list(filter(None, labels.values())))
        )
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
    pictures = [
        DatasetPicture(names[inside[path]], folder / path, folder / label if label else None, files.parts[path])
        for path, label in labels.items()
    ]
    return Layout(
        classes, sorted(pictures, key=lambda picture: picture.name), about, files.ignored, lost, files.notes, keypoints
    )


def read_labels(layout: Layout, picture: DatasetPicture, where: str) -> Labels:
    """Parse the labels of a picture; `where` is the name of its label file in messages."""
    text = picture.label.read_bytes() if picture.label else b""
    return parse_labels(text, where=where, classes=len(layout.classes), keypoints=layout.keypoints)


def _sample(labels: list[str]) -> list[str]:
    """Return evenly spaced ones of many label files."""
    return labels[:: max(1, len(labels) // SAMPLED)]


def _find_root(files: DatasetFiles) -> tuple[str, str | None]:
    """Return the folder that holds the dataset, and its data.yaml if it has the Ultralytics layout."""
    yamls = [file for file in files.files if file.lower().endswith((".yaml", ".yml")) and _describes(files, file)]
    lists = [file for file in files.files if _is_class_list(file) and files.find(f"{file[:-11]}images")]
    candidates = yamls + lists
    if not candidates:
        raise DatasetError(_explain_unknown(files))
    depth = min(file.count("/") for file in candidates)
    roots = sorted({dirname(file) for file in candidates if file.count("/") == depth})
    if len(roots) > 1:
        raise DatasetError(f"several datasets: {', '.join(map(shown, roots))}; expected one: add them one at a time")
    yamls = [file for file in yamls if dirname(file) == roots[0]]
    if len(yamls) > 1:
        yamls = [file for file in yamls if _name(file).lower() == "data.yaml"] or yamls
    if len(yamls) > 1:
        raise DatasetError(f"{', '.join(map(shown, yamls))}: each describes a dataset; expected one, called data.yaml")
    return roots[0], yamls[0] if yamls else None


def _describes(files: DatasetFiles, file: str) -> bool:
    """Whether a YAML file describes a dataset; data.yaml always does, by its name."""
    if _name(file).lower() == "data.yaml":
        return True
    content = load_mapping(files.folder / file) or {}
    return "names" in content and any(key in content for key in PART_KEYS)


def _explain_unknown(files: DatasetFiles) -> str:
    if alone := next(filter(_is_class_list, files.files), None):
        return f"no pictures: there is no picture in images/ beside {shown(alone)}; {EXPECTED}"
    if any(map(is_picture, files.files)):
        return f"no class list: there is neither classes.txt nor data.yaml; {EXPECTED}"
    return f"no pictures: {_some(files.files or files.ignored)}; {EXPECTED}"


def _read_workshop(files: DatasetFiles) -> list[str]:
    """Read the pictures in images/; their parts come from train.txt, val.txt and test.txt, or from folders."""
    images = files.at_root("images")
    for picture in files.pictures_below(images):
        first, inner, _ = picture.removeprefix(f"{images}/").partition("/")
        files.parts[picture] = PART_KEYS.get(first.lower()) if inner else None
    for part in PARTS:
        if (listing := files.at_root(f"{part}.txt")) in files.known:
            files.put(files.pictures_listed(listing, [files.root]), part)
    classes_txt = files.at_root("classes.txt")
    return parse_classes(files.read(classes_txt), shown(classes_txt))


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
                files.notes.append(f"{shown(data_yaml)}: {part}: there is no {shown(written)}")
            elif (files.folder / place).is_dir():
                files.put(files.pictures_below(place), part)
            else:
                files.put(files.pictures_listed(place, bases), part)
    if (classes_txt := files.at_root("classes.txt")) in files.known:
        own = parse_classes(files.read(classes_txt), shown(classes_txt))
        if own != data.classes:
            raise DatasetError(
                f"{shown(classes_txt)}: lists {', '.join(own)}, but {shown(data_yaml)} {', '.join(data.classes)}; "
                "expected the same names in the same order: remove the file that is wrong"
            )
    return data.classes, data.keypoints


def _take_about(files: DatasetFiles) -> dict[str, Path]:
    """Return the licence, source and read-me files, one of those whose names collide on some file systems."""
    papers = {
        fold(_name(file)): file
        for file in reversed(files.files)
        if dirname(file) == files.root and _ABOUT.fullmatch(_name(file)) and not is_picture(file)
    }
    files.described.update(papers.values())
    return {_name(file): files.folder / file for file in sorted(papers.values())}


def _ignore_the_rest(files: DatasetFiles, labels: set[str], spare: dict[str, str]) -> dict[str, int]:
    """Add the files without a role to `ignored`; return the label files among them that have labels: `Layout.lost`."""
    lost = {}
    taken = files.described | labels | files.parts.keys()
    rest = [file for file in files.files if file not in taken]
    without = files.left_out
    for file in rest:
        if is_picture(file):
            reason = "a picture that no part of the dataset names"
        elif file in without:
            reason = f"its picture, {shown(without[file])}, is left out"
        elif file in spare:
            reason = f"a label file without a picture; {spare[file]}"
            if lines := label_lines(files, file):
                lost[f"{shown(file)}: {reason}"] = lines
                continue
        else:
            reason = "neither a picture, by its suffix, nor a label file of one"
        files.ignored.append(f"{shown(file)}: {reason}")
    return lost


def _some(reasons: list[str]) -> str:
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return "; ".join(map(shown, reasons[:3])) + more if reasons else "the folder is empty"


def _is_class_list(file: str) -> bool:
    return _name(file).lower() == "classes.txt"


def _name(file: str) -> str:
    return file.rpartition("/")[2]
