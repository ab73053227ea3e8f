import json

import pytest

from runner.dataset.classes import check_notes, format_notes, parse_classes
from runner.errors import DatasetError


@pytest.mark.parametrize("text", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_classes_are_refused_when_there_are_none(text: bytes) -> None:
    with pytest.raises(DatasetError, match=r"^classes\.txt: no classes"):
        parse_classes(text, "classes.txt")


@pytest.mark.parametrize(
    "text",
    [
        b"airplane\nhelicopter\n",
        b"airplane\nhelicopter",
        b"airplane\r\nhelicopter",
        b"airplane\rhelicopter\r",
        b"\xef\xbb\xbfairplane\nhelicopter\n\n\n",
        b"  airplane \nhelicopter\t\n \n",
        "airplane\r\nhelicopter".encode("utf-16"),
    ],
)
def test_classes_keep_the_last_one_whatever_the_line_ends(text: bytes) -> None:
    assert parse_classes(text, "classes.txt") == ["airplane", "helicopter"]


def test_classes_keep_spaces_dots_and_letters_of_every_script() -> None:
    names = ["light aircraft", "Bo 105 (v1.2)", "Hubschrauber-größe", "直升机", "'no'", "0"]
    assert parse_classes("\n".join(names).encode(), "classes.txt") == names
    check_notes(format_notes(names), "notes.json", names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"airplane\n\nhelicopter\n", ":2: blank"),
        (b"\nairplane\n", ":1: blank"),
        (b"airplane\n \nhelicopter\n", ":2: blank"),
        (b"airplane\nbird\nairplane\n", ":3: airplane is class 0"),
        (b"airplane\nairplane \n", ":2: airplane is class 0"),
        ("e\u0301\n\u00e9\n".encode(), ":2: \u00e9 is class 0"),
        (b"air\x00plane\n", r":1: 'air\\x00plane' holds an unprintable"),
        ("air\u2028plane".encode(), r":1: 'air\\u2028plane' holds an unprintable"),
        (b"Gr\xf6\xdfe\n", r":1: not UTF-8 text \(invalid start byte\)"),
        (b"a\r\nGr\xf6\xdfe\n", ":2: not UTF-8 text"),
    ],
)
def test_classes_are_refused_when_ids_would_be_a_guess(text: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"^classes\.txt{message}"):
        parse_classes(text, "classes.txt")


@pytest.mark.parametrize("text", [b"{}", b'{"categories": []}', b"[]", b'{"categories": null}'])
def test_notes_say_nothing_when_they_have_no_categories(text: bytes) -> None:
    check_notes(text, "notes.json", ["airplane"])


def test_notes_are_accepted_when_they_agree_in_any_order() -> None:
    text = '{"categories": [{"id": 1, "name": "e\u0301"}, {"id": 0, "name": "airplane"}]}'
    check_notes(text.encode("utf-8-sig"), "notes.json", ["airplane", "\u00e9"])


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 0, "name": "helicopter"}, {"id": 1, "name": "airplane"}],
        [{"id": 0, "name": "airplane"}],
        [{"id": 1, "name": "airplane"}, {"id": 2, "name": "helicopter"}],
    ],
)
def test_notes_are_refused_when_they_disagree(categories: list[dict[str, object]]) -> None:
    text = json.dumps({"categories": categories}).encode()
    with pytest.raises(DatasetError, match=r"^notes\.json: its categories are .* 0 airplane, 1 helicopter"):
        check_notes(text, "notes.json", ["airplane", "helicopter"])


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"categories": [{"id": 0}]}', b'{"categories": 3}', b"\xff", b"[" * 100_000]
)
def test_notes_are_refused_when_they_cannot_be_read(text: bytes) -> None:
    with pytest.raises(DatasetError, match=r"^notes\.json: cannot be read \("):
        check_notes(text, "notes.json", ["airplane"])
