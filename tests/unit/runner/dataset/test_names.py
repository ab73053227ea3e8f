import re

from hypothesis import given
from hypothesis import strategies as st

from runner.dataset.names import fold, name_pictures, reason_for, shown


def test_names_are_made_safe_when_a_disk_or_a_list_would_trip_and_stay_otherwise() -> None:
    expected = {
        "images/V_AIRPLANE_001_f0043.jpg": "V_AIRPLANE_001_f0043.jpg",
        "images/a b (1).v2.JPG": "a b (1).v2.JPG",
        "images/größe.png": "größe.png",
        "images/直升机.webp": "直升机.webp",
        "a:b?.jpg": "a_b_.jpg",
        "line\nend.jpg": "line_end.jpg",
        "back\\slash.jpg": "back_slash.jpg",
        " .lead .jpg": "lead.jpg",
        "\udcff.jpg": "_-e6f5276b.jpg",
        "...jpg": "_.jpg",
        "con.jpg": "_con.jpg",
        "images/Aux .v1.png": "_Aux .v1.png",
        "com7.jpg": "_com7.jpg",
        "confetti.jpg": "confetti.jpg",
    }
    assert name_pictures(expected) == expected


def test_first_path_keeps_the_name_when_label_files_would_be_shared() -> None:
    names = name_pictures(["val/clip_f01.jpg", "train/clip_f01.jpg", "train/clip_f01.png", "train/CLIP_F01.jpg"])
    assert names["train/CLIP_F01.jpg"] == "CLIP_F01.jpg"
    for path in ("train/clip_f01.jpg", "train/clip_f01.png", "val/clip_f01.jpg"):
        assert re.fullmatch(r"clip_f01-[0-9a-f]{8}\.(jpg|png)", names[path])


def test_a_marked_name_gives_way_when_a_picture_has_it_already() -> None:
    marked = name_pictures(["a/x.jpg", "b/x.jpg"])["b/x.jpg"]
    names = name_pictures(["a/x.jpg", "b/x.jpg", f"c/{marked}"])
    assert names[f"c/{marked}"] == marked
    assert names["b/x.jpg"].startswith(marked[:-4])
    assert len(names["b/x.jpg"]) == len(marked) + 1


def test_long_names_are_cut_and_stay_apart() -> None:
    names = name_pictures([f"{'直' * 300}{end}.jpg" for end in "ab"])
    assert len(set(names.values())) == 2
    assert all(len(name.encode()) <= 200 and name.endswith(".jpg") for name in names.values())


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).map(lambda stem: f"{stem}.jpg"), unique=True))
def test_names_are_unique_stable_and_final_whatever_the_paths(paths: list[str]) -> None:
    names = name_pictures(paths)
    assert names == name_pictures(reversed(paths))
    assert len({fold(name) for name in names.values()}) == len(paths)
    assert all("/" not in name and name.isprintable() for name in names.values())
    assert all(name == again for name, again in name_pictures(names.values()).items())


def test_the_reason_is_the_accents_when_nothing_else_differs() -> None:
    assert "NFD" in reason_for("images/Flu\u0308gel.jpg", "Fl\xfcgel.jpg")
    assert "NFD" not in reason_for("images/Flu\u0308gel.jpg", "Fl\xfcgel-01234567.jpg")


def test_shown_replaces_what_a_terminal_would_obey() -> None:
    assert shown("a/\x1b[31m\udcff.jpg") == "a/\ufffd[31m\ufffd.jpg"
