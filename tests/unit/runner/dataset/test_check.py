import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from runner.config.compose import compose_before_dataset
from runner.dataset.check import advice, check_dataset, describe, refusals
from runner.dataset.layouts import DatasetPicture, Layout
from runner.errors import DatasetError
from tests.support.pictures import settings


def layout(folder: Path, labels: dict[str, str | None], part: str | None = None) -> Layout:
    pictures = []
    for name, text in labels.items():
        image, label = folder / f"{name}.png", folder / f"{name}.txt"
        Image.new("L", (4, 4)).save(image)
        if text is not None:
            label.write_text(text)
        pictures.append(DatasetPicture(image.name, image, label if text is not None else None, part))
    return Layout(["plane", "light aircraft"], pictures, {}, [], {}, [])


@pytest.mark.parametrize(
    ("text", "reason"), [("", "every label file is empty"), ("2 0.5 0.5 0.1 0.1", r"a\.txt:1: class id 2")]
)
def test_dataset_is_refused_when_it_has_no_box(tmp_path: Path, text: str, reason: str) -> None:
    found = layout(tmp_path, {"a": text, "b": None})
    with pytest.raises(DatasetError, match=rf"^no labels: not one of the 2 pictures .* \({reason}"):
        check_dataset(found, tmp_path)
    with pytest.raises(DatasetError, match=r" \(labels/c\.txt: a label file without a picture"):
        check_dataset(replace(found, lost={"labels/c.txt: a label file without a picture": 1}), tmp_path)


def test_boxes_backgrounds_and_parts_are_counted(tmp_path: Path) -> None:
    found = layout(
        tmp_path, {"a": "0 .5 .5 .1 .1\n0 .2 .2 .1 .1\n1 .5 .5 .1 .1", "b": "0 .5 .5 .1 .1", "c": "", "d": None}
    )
    check = check_dataset(found, tmp_path)
    assert (check.boxes, check.pictures) == ([3, 1], [2, 1])
    assert check.doubtful == check.repaired == []
    text = describe(found, check, "planes")
    assert text.startswith("planes: 4 pictures, 4 boxes\n") and text.endswith("without a label file: 1")
    rows = [
        ("class", "boxes", "pictures"),
        ("plane", "3", "2"),
        ("light aircraft", "1", "1"),
        ("(background)", "0", "2"),
    ]
    assert [tuple(re.split("  +", line.strip())) for line in text.splitlines()[1:-1]] == rows


def test_pointers_of_git_lfs_are_named_with_the_remedy(tmp_path: Path) -> None:
    found = layout(tmp_path, {"a": "0 .5 .5 .1 .1", "b": None})
    (tmp_path / "b.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (doubt,) = check_dataset(found, tmp_path).doubtful
    assert doubt.startswith("b.png: ") and "`git lfs pull`" in doubt


def test_findings_are_listed_with_their_place(tmp_path: Path) -> None:
    found = layout(
        tmp_path, {"a": "0 .5 .5 .1 .1\n9 .5 .5 .1 .1\n0 .9 .5 .4 .1\n", "b": None, "c": None, "d": None}, "val"
    )
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_bytes(b"<html>404</html>")
    (tmp_path / "d.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    check = check_dataset(found, tmp_path)
    assert check.wrong == ["a.txt:2: class id 9, but the dataset lists 2 classes (0-1)"]
    assert check.doubtful == [
        "b.png: empty, expected a picture",
        "c.png: cannot be opened, expected a picture",
        "d.png: cannot be opened, expected a picture",
    ]
    assert check.repaired == ["a.txt:3: x 0.7 to 1.1, y 0.45 to 0.55 clipped to the picture, expected 0-1"]
    text = describe(found, check, "planes", limit=2)
    assert "parts: val 4; `split` keeps them (split.mode: auto)" in text
    assert "label lines left out (1):\n  a.txt:2: class id 9" in text
    assert "prepare will leave out (3):\n  b.png: empty, expected a picture\n" in text and "\n  … and 1 more" in text
    assert "d.png" in describe(found, check, "planes", limit=None)


def test_picture_is_no_background_when_its_only_label_line_is_left_out(tmp_path: Path) -> None:
    check = check_dataset(layout(tmp_path, {"a": "0 .5 .5 .1 .1", "b": "0 .5 .5 0 .1", "c": ""}), tmp_path)
    assert [row.name for row in check.rows] == ["a.png", "c.png"]
    assert check.emptied[0].startswith("b.png: none of its label lines can be used, the first: b.txt:1: width 0")


@pytest.mark.parametrize(
    ("labels", "lost", "expected"),
    [
        ({"a": "0 .5 .5 .1 .1"}, {}, []),
        ({"a": "0 .5 .5 .1 .1"}, {"labels/x.txt: no picture": 3}, ["3 of 4 label lines", "max_rejected = 0.5 "]),
        ({"a": "0 .5 .5 .9 .9\n0 .2 .3 .8 .7", "b": "1 .4 .4 .9 .9"}, {}, ["2 of 3 boxes", "max_clipped = 0.1 "]),
        ({"a": "0 .5 .5 .1 .1", "b": "9 .5 .5 .1 .1", "c": "9 .5 .5 .1 .1"}, {}, ["2 of 3 pictures", "2 of 3 label"]),
    ],
)
def test_dataset_is_refused_when_too_much_of_it_cannot_be_used(
    tmp_path: Path, labels: dict[str, str | None], lost: dict[str, int], expected: list[str]
) -> None:
    found = replace(layout(tmp_path, labels), lost=lost)
    reasons = "\n".join(refusals(found, check_dataset(found, tmp_path), settings(max_rejected=0.5)))
    assert bool(reasons) == bool(expected)
    assert [part for part in expected if part not in reasons] == []


@pytest.mark.parametrize(
    ("side", "imgsz", "preset", "said"),
    [
        (0.5, 160, 640, ["80 px at model.imgsz 160"]),
        (0.03, 160, 640, ["5 px at model.imgsz 160", "the preset's 640 would make it 19 px", "16 x"]),
        (0.01, 640, None, ["6 px at model.imgsz 640", ": 1280 would make it 13 px", "4 x"]),
        (0.005, 1280, None, ["6 px at model.imgsz 1280", "into tiles"]),
    ],
)
def test_the_input_size_is_judged_by_the_median_box(
    tmp_path: Path, project: Path, side: float, imgsz: int, preset: int | None, said: list[str]
) -> None:
    wide = layout(tmp_path, {"a": f"0 .5 .5 {side} {2 * side}\n0 .5 .5 .001 .001\n0 .5 .5 1 1"})
    Image.new("L", (400, 200)).save(tmp_path / "a.png")
    config, _ = compose_before_dataset(project)
    config = config.model_copy(update={"model": config.model.model_copy(update={"imgsz": imgsz})})
    check = check_dataset(wide, tmp_path)
    assert check.side == pytest.approx(side)
    (line,) = advice(check, config, [("model.imgsz", preset, imgsz)] if preset else [])
    assert [part for part in said if part not in line] == []
    assert ("too small" in line) == (len(said) > 1)


def test_large_and_odd_pictures_raise_no_warning(tmp_path: Path, shared_data: Path) -> None:
    found = layout(tmp_path, {"a": "0 .5 .5 .1 .1"})
    Image.new("1", (20_000, 10_000)).save(tmp_path / "large.png")
    odd = [*(shared_data / "same-picture").iterdir(), tmp_path / "large.png"]
    pictures = [*found.pictures, *(DatasetPicture(path.name, path, None, None) for path in odd)]
    check = check_dataset(Layout(found.classes, pictures, {}, [], {}, []), Path("/"))
    assert check.rows[[row.name for row in check.rows].index("pic.heic")][2:5] == (19_677, None, None)
    expected = [] if "HEIF" in Image.OPEN else ["pic.heic: cannot be opened, expected a picture"]
    assert [finding.rpartition("/")[2] for finding in check.doubtful] == expected
