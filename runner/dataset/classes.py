"""Class list of a dataset, from classes.txt, notes.json or data.yaml: names in id order."""

import json
import unicodedata
from collections.abc import Sequence

from runner.dataset.labels import decode_lines, not_utf8
from runner.errors import DatasetError


def parse_classes(text: bytes, where: str) -> list[str]:
    """Read classes.txt: one name per line, the first has id 0; DatasetError if it is no list of different names.

    A missing last line end, Windows line ends, a BOM and blank lines at the end are accepted. A blank line between
    names is not, because it may or may not take an id.
    """
    try:
        lines = "\n".join(decode_lines(text)).rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}{not_utf8(error)}, expected a class name a line; save it as UTF-8") from error
    return check_classes(lines if any(lines) else [], where, line=True)


def check_classes(names: Sequence[str], where: str, *, line: bool = False) -> list[str]:
    """Return the names stripped and in Unicode NFC; DatasetError if there are none, or one is blank, odd, or repeated.

    `line`: the file has one name per line, so the error names the line.
    """
    if not names:
        raise DatasetError(f"{where}: no classes, expected at least one class name")
    classes: dict[str, int] = {}
    for number, name in enumerate(names):
        at = f"{where}:{number + 1}" if line else f"{where}: class {number}"
        clean = unicodedata.normalize("NFC", name.strip())
        if not clean:
            raise DatasetError(f"{at}: blank, expected a class name; remove the line or name the class")
        if not clean.isprintable():
            raise DatasetError(
                f"{at}: {clean!r} holds an unprintable character, expected letters, digits, signs and plain spaces"
            )
        if clean in classes:
            raise DatasetError(f"{at}: {clean} is class {classes[clean]} already, expected each name once")
        classes[clean] = number
    return list(classes)


def check_notes(text: bytes, where: str, classes: list[str]) -> None:
    """Check that the categories of notes.json, if any, are the class list; DatasetError if not."""
    try:
        notes = json.loads(text.decode("utf-8-sig"))
        categories = notes.get("categories") if isinstance(notes, dict) else None
        found = {int(category["id"]): str(category["name"]) for category in categories or []}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(
            f'{where}: cannot be read ({error}), expected {{"categories": [{{"id": 0, "name": …}}, …]}}; '
            "correct or remove the file"
        ) from error
    named = [unicodedata.normalize("NFC", found[number].strip()) for number in sorted(found)]
    if found and (named != classes or sorted(found) != list(range(len(classes)))):
        listed = ", ".join(f"{number} {name}" for number, name in sorted(found.items()))
        expected = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
        raise DatasetError(
            f"{where}: its categories are {listed}, but the class list is {expected}; "
            "expected the same, or the boxes get wrong names: export the dataset again"
        )


def format_notes(classes: list[str]) -> bytes:
    """Return notes.json with the class list as its categories."""
    categories = [{"id": number, "name": name} for number, name in enumerate(classes)]
    return (json.dumps({"categories": categories}, ensure_ascii=False, indent=2) + "\n").encode()
