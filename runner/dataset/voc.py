"""Pascal VOC: one XML file for each picture; other known formats of XML are named.

Format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf. Corners are taken as edges, 0 to the picture's
width, which is what most tools write.
"""

import re
from posixpath import basename, dirname
from xml.etree import ElementTree

from runner.dataset.data_yaml import PART_KEYS
from runner.dataset.files import DatasetFiles
from runner.dataset.foreign import (
    AGAINST,
    AGREES,
    UNSAID,
    Described,
    Found,
    locate,
    number_of,
    part_of,
    pictures_by,
    spelling,
    stem_of,
    take_labels,
)
from runner.dataset.names import shown
from runner.dataset.unread import refuse_xml

_ENCODING = re.compile(rb"""^<\?xml[^>]*?encoding=["']([\w.:-]+)["'][^>]*\?>""")


def read_voc(files: DatasetFiles) -> list[str] | None:
    """Read a dataset of Pascal VOC, as `take_labels`; DatasetError for XML of a format that is known and not read."""
    found, pictures, stems = Found(), pictures_by(files, basename), pictures_by(files, stem_of)
    parts = _listed_parts(files)
    for file in files.files:
        if not file.lower().endswith(".xml"):
            continue
        stem = stem_of(file)
        root = _load(files, file, expected=spelling(stem) in stems)
        if root is None:
            continue
        objects = root.findall("object")
        name = (root.findtext("filename") or stem).replace("\\", "/").strip("/")
        picture = locate(stems, stem, dirname(file), None) or locate(pictures, name, dirname(file), None)
        if picture is None:
            files.lose(f"{shown(file)}: there is no picture {shown(name)}, or several", len(objects))
            continue
        boxes = []
        for number, each in enumerate(objects, start=1):
            where, class_name = f"{shown(file)}: object {number}", each.findtext("name", "").strip()
            try:
                x1, y1, x2, y2 = (float(each.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
            except ValueError:
                files.lose(f"{where}: no bndbox with xmin, ymin, xmax, ymax", 1)
                continue
            if not class_name:
                files.lose(f"{where}: no name, expected that of its class", 1)
                continue
            if x1 > x2 or y1 > y2:
                x1, x2, y1, y2 = *sorted((x1, x2)), *sorted((y1, y2))
                files.notes.append(f"{where}: its corners are swapped")
            boxes.append((class_name, x1, y1, x2, y2))
        shape = number_of(root.findtext("size/width")), number_of(root.findtext("size/height"))
        fit = _fit(picture, file), stem_of(picture) == stem
        part = parts.get(stem) or part_of(file)
        found.setdefault(picture, []).append(Described(file, file, fit, part, boxes, len(objects) - len(boxes), shape))
    names = {box[0] for described in found.values() for each in described for box in each.boxes}
    return take_labels(files, found, sorted(names))


def _fit(picture: str, file: str) -> int:
    """Return how well a picture fits a label file: by the folders in which both are, or by their parts."""
    ours, theirs = dirname(picture).split("/"), dirname(file).split("/")
    while ours and theirs and ours[0] == theirs[0]:
        del ours[0], theirs[0]
    if ours == theirs:
        return AGREES
    inner = ours[1:], theirs[1:]  # without JPEGImages and Annotations
    same = [one == other for one, other in (inner, (part_of(picture), part_of(file))) if one and other]
    return UNSAID if not same else AGREES if all(same) else AGAINST


def _listed_parts(files: DatasetFiles) -> dict[str, str]:
    """Return the part of each stem that a list in ImageSets/Main names."""
    parts = {}
    for file in files.files:
        name = basename(file).lower().removesuffix(".txt")
        if dirname(file).endswith("ImageSets/Main") and (part := PART_KEYS.get(name)):
            lines = files.read(file).decode("utf-8-sig", errors="replace").splitlines()
            parts.update({line.split()[0]: part for line in lines if line.strip()})
    return parts


def _load(files: DatasetFiles, file: str, *, expected: bool) -> ElementTree.Element | None:
    """Return the content of a Pascal VOC file; None for another file. DatasetError for CVAT's own.

    What is `expected`, as there is a picture of its name, and cannot be read is lost.
    """
    content = (files.folder / file).read_bytes()
    reason = ""
    try:
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # entities may grow without end
            reason = "it has a document type, which is not read; remove these lines"
        else:
            root = _parse_xml(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        reason = f"cannot be read as XML ({error})"
    if reason:
        files.described.add(file)
        files.lose(f"{shown(file)}: {reason}", max(content.count(b"<object"), int(expected)))
        return None
    refuse_xml(file, root)
    return root if root.tag == "annotation" else None


def _parse_xml(content: bytes) -> ElementTree.Element:
    """Parse XML in any encoding that Python knows; ElementTree itself knows none of Chinese or Japanese."""
    try:
        return ElementTree.fromstring(content)
    except (LookupError, ValueError):
        if not (declared := _ENCODING.match(content)):
            raise
        return ElementTree.fromstring(content[declared.end() :].decode(declared[1].decode()))
