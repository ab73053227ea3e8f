"""A version of a dataset: the files of one layout, whatever the source looked like.

classes.txt  notes.json                the class names in id order, as lines and as Label Studio's categories
images/<name>  labels/<stem>.txt       pictures and label files, byte for byte; no label file: background
train.txt  val.txt  test.txt           `images/<name>` a line, where the source has parts
LICENSE… SOURCE… README…               as they were
"""

from pathlib import Path

from runner.dataset.classes import format_notes
from runner.dataset.layouts import PARTS, Layout


def version_files(layout: Layout) -> list[tuple[str, Path | bytes]]:
    """Return the files of a version: name with `/`, and the content or the file that has it.

    A version that is read and written again comes out the same.
    """
    files: list[tuple[str, Path | bytes]] = [
        ("classes.txt", "".join(f"{name}\n" for name in layout.classes).encode()),
        ("notes.json", format_notes(layout.classes)),
        *layout.about.items(),
    ]
    for picture in layout.pictures:
        files.append((f"images/{picture.name}", picture.image))
        if picture.label:
            files.append((f"labels/{picture.name.rpartition('.')[0]}.txt", picture.label))
    for part in PARTS:
        names = [picture.name for picture in layout.pictures if picture.part == part]
        if names:
            files.append((f"{part}.txt", "".join(f"images/{name}\n" for name in names).encode()))
    return files
