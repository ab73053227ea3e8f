from pathlib import Path

import pytest

from runner.dataset.layouts import DatasetPicture, Layout, read_layout
from runner.errors import DatasetError
from tests.support.trees import write_tree

WORKSHOP = {
    "classes.txt": "airplane\nhelicopter\n",
    "notes.json": '{"categories": [{"id": 0, "name": "airplane"}, {"id": 1, "name": "helicopter"}]}',
    "images/a.jpg": "",
    "images/b.png": "",
    "labels/a.txt": "0 0.5 0.5 0.1 0.1\n",
}
ROBOFLOW = {
    "data.yaml": "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['plane']\n",
    "README.roboflow.txt": "",
    "train/images/a_jpg.rf.12.jpg": "",
    "train/labels/a_jpg.rf.12.txt": "",
    "valid/images/b.jpg": "",
    "valid/labels/b.txt": "",
    "test/images/c.jpg": "",
    "test/labels/c.txt": "",
}
PARTS = {"a_jpg.rf.12.jpg": "train", "b.jpg": "val", "c.jpg": "test"}


def parts(layout: Layout) -> dict[str, str | None]:
    return {picture.name: picture.part for picture in layout.pictures}


LINE = "0 0.5 0.5 0.1 0.1\n"
A_LIST, TWO = {"classes.txt": "a\n"}, {"images/a.jpg": "", "images/b.jpg": ""}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no pictures: the folder is empty"),
        ({".DS_Store": "", "__MACOSX/._classes.txt": ""}, "no pictures: the folder is empty"),
        ({"LICENSE.txt": ""}, r"no pictures: LICENSE\.txt; expected"),
        (A_LIST | {"labels/a.txt": ""}, r"no pictures: .* images/ beside classes\.txt"),
        (A_LIST | {"images/a": ""}, "no pictures: images/a: neither a picture"),
        (TWO | {"labels/a.txt": ""}, "no class list"),
        ({"data.yaml": "names: [a]\ntrain: t\n"}, r"no pictures: data\.yaml: train: there is no t;"),
        ({"data.yaml": "names: [a]\n", "a/b.jpg": ""}, r"no pictures: a/b\.jpg: a picture that no part"),
        (A_LIST | TWO | {"labels/c.txt": ""}, r"no labels: .* 2 pictures .* labels/a\.txt .*\(labels/c\.txt: a label"),
        ({"data.yaml": "names: [a]\ntrain: x\n", "x/images/a.jpg": ""}, r"no labels: .* 1 pictures .* x/labels/a\.txt"),
        (WORKSHOP | {"classes.txt": ""}, r"classes\.txt: no classes"),
        (WORKSHOP | {"classes.txt": "helicopter\nairplane"}, r"notes\.json: .* 0 airplane, 1 helicopter"),
        (ROBOFLOW | {"classes.txt": "helicopter\n"}, r"classes\.txt: lists helicopter, but data\.yaml plane"),
        ({f"{top}/{name}": text for top in "ab" for name, text in WORKSHOP.items()}, "several datasets: a, b;"),
        ({"a.yaml": "names: [a]\ntrain: t", "b.yml": "names: [a]\nval: t"}, r"a\.yaml, b\.yml: each describes"),
    ],
)
def test_dataset_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(DatasetError, match=f"^{message}"):
        read_layout(write_tree(tmp_path, files))


@pytest.mark.parametrize("top", ["", "export/", "project-1/exports 2026/größe/"])
def test_workshop_layout_is_read_in_any_top_folder(tmp_path: Path, top: str) -> None:
    layout = read_layout(write_tree(tmp_path, {f"{top}{name}": text for name, text in WORKSHOP.items()}))
    assert layout.classes == ["airplane", "helicopter"]
    images, label = tmp_path / f"{top}images", tmp_path / f"{top}labels/a.txt"
    b = DatasetPicture("b.png", images / "b.png", None, None)
    assert layout.pictures == [DatasetPicture("a.jpg", images / "a.jpg", label, None), b]
    assert layout.ignored == layout.notes == []


@pytest.mark.parametrize("top", ["", "planes.v3i.yolov11/", "x/y/"])
def test_roboflow_layout_is_read_in_any_top_folder(tmp_path: Path, top: str) -> None:
    layout = read_layout(write_tree(tmp_path, {f"{top}{name}": text for name, text in ROBOFLOW.items()}))
    assert layout.classes == ["plane"]
    assert parts(layout) == PARTS
    valid = tmp_path / f"{top}valid"
    assert DatasetPicture("b.jpg", valid / "images/b.jpg", valid / "labels/b.txt", "val") in layout.pictures
    assert list(layout.about) == ["README.roboflow.txt"]
    assert layout.ignored == layout.notes == []


@pytest.mark.parametrize(
    "places",
    [
        "train: images/train\nval: images/val\ntest: images/test\n",
        "path: .\ntrain: images/train/\nval: [images/val]\ntest: ./images/test\n",
        "path: ../datasets/planes\ntrain: images/train\nvalid: images/val\ntest: images/test\n",
        "path: /home/me/planes\ntrain: images/train\nval: images/val\ntest: images/test\n",
        "train: /home/me/planes/images/train\nval: /home/me/planes/images/val\ntest: /home/me/planes/images/test\n",
        "path: C:\\planes\ntrain: C:\\planes\\images\\train\nval: images\\val\ntest: ..\\images\\test\n",
        "train: train.txt\nval: lists/val.txt\ntest: lists/../test.txt\n",
    ],
)
def test_ultralytics_layout_is_read_however_it_names_its_places(tmp_path: Path, places: str) -> None:
    files = {
        "data.yaml": f"names:\n  0: plane\n{places}",
        "train.txt": "data/images/train/a_jpg.rf.12.jpg\n",
        "lists/val.txt": "./../images/val/b.jpg\r\n",
        "test.txt": "/home/me/planes/images/test/c.jpg",
    }
    for name, part in PARTS.items():
        files |= {f"images/{part}/{name}": "", f"labels/{part}/{name[:-4]}.txt": ""}
    layout = read_layout(write_tree(tmp_path, files))
    assert parts(layout) == PARTS
    assert all(picture.label for picture in layout.pictures)


@pytest.mark.parametrize(
    ("files", "expected", "notes", "ignored"),
    [
        (
            WORKSHOP | {"train.txt": "images/a.jpg\r\n\r\nimages/gone.jpg\n", "test.txt": "./images/b.png"},
            {"a.jpg": "train", "b.png": "test"},
            [],
            ["train.txt:3: images/gone.jpg"],
        ),
        (
            {"classes.txt": "a", "images/train/a.jpg": "", "images/Valid/b.jpg": "", "labels/train/a.txt": ""},
            {"a.jpg": "train", "b.jpg": "val"},
            [],
            [],
        ),
        (
            {"other.yaml": "a: b\n", "coco8.yaml": "names: {0: a}\ntrain: images/train\n"}
            | {"images/train/a.jpg": "", "labels/train/a.txt": ""},
            {"a.jpg": "train"},
            [],
            ["other.yaml: neither a picture"],
        ),
        (
            {name: text for name, text in ROBOFLOW.items() if not name.startswith("test/")} | {"images/old.jpg": ""},
            {"a_jpg.rf.12.jpg": "train", "b.jpg": "val"},
            ["data.yaml: test: there is no ../test/images"],
            ["images/old.jpg: a picture that no part"],
        ),
        (
            {"data.yaml": "names: [a]\ntrain: images\nval: images/val\n"}
            | {"images/a.jpg": "", "images/val/b.jpg": "", "labels/a.txt": ""},
            {"a.jpg": "train", "b.jpg": "val"},
            ["images/val/b.jpg: named for train and for val, kept in val"],
            [],
        ),
        (
            {"data.yaml": "names: [a]\ntrain: data\n", "data/a.jpg": "", "data/a.txt": ""},  # the label beside
            {"a.jpg": "train"},
            [],
            [],
        ),
    ],
    ids=["lists", "folders", "another name", "a part is missing", "in several parts", "labels beside"],
)
def test_parts_are_read_when_the_layout_is_odd(
    tmp_path: Path, files: dict[str, str], expected: dict[str, str], notes: list[str], ignored: list[str]
) -> None:
    layout = read_layout(write_tree(tmp_path, files))
    assert (parts(layout), layout.notes) == (expected, notes)
    assert all(line.startswith(start) for line, start in zip(layout.ignored, ignored, strict=True))


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    secret = write_tree(tmp_path, {"secret/images/s.jpg": "", "secret/labels/s.txt": ""}) / "secret"
    files = {
        "data.yaml": f"path: {secret}\nnames: [a]\ntrain: [{secret}, ../../secret/images, list.txt, images]\n",
        "list.txt": f"{secret}/images/s.jpg\n../secret/images/s.jpg\n",
        "images/a.jpg": "",
        "labels/a.txt": "",
    }
    dataset = write_tree(tmp_path / "dataset", files)
    (dataset / "images" / "link.jpg").symlink_to(secret / "images" / "s.jpg")
    (dataset / "images" / "linked").symlink_to(secret / "images")
    layout = read_layout(dataset)
    assert parts(layout) == {"a.jpg": "train"}
    assert {line.partition(": a link out")[0] for line in layout.ignored} >= {"images/link.jpg", "images/linked"}


def test_links_out_of_the_dataset_are_named_when_no_picture_is_left(tmp_path: Path) -> None:
    dataset = write_tree(tmp_path / "dataset", {"classes.txt": "a\n", "images/readme": "", "labels/a.txt": LINE})
    (dataset / "images" / "a.jpg").symlink_to(write_tree(tmp_path / "real", {"a.jpg": ""}) / "a.jpg")
    with pytest.raises(DatasetError, match=r"images/a\.jpg: a link out of the dataset, .*`cp -rL`"):
        read_layout(dataset)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"classes.txt": "plane", "a.jpg": "", "a.txt": LINE}, {"a.jpg": None}),
        ({"classes.txt": "plane", "train/a.jpg": "", "train/a.txt": LINE}, {"a.jpg": "train"}),
        ({"labels/classes.txt": "plane", "images/val/a.jpg": "", "labels/val/a.txt": LINE}, {"a.jpg": "val"}),
        (
            {"obj.names": "plane", "obj.data": "classes = 1", "train.txt": "data/obj_train_data/a.jpg\n"}
            | {"obj_train_data/a.jpg": "", "obj_train_data/a.txt": LINE, "obj_valid_data/b.jpg": ""},
            {"a.jpg": "train", "b.jpg": "val"},
        ),
        (
            {"cfg/d.names": "plane", "cfg/valid.txt": "/home/me/cfg/x/a.jpg", "cfg/x/a.jpg": "", "cfg/x/a.txt": LINE},
            {"a.jpg": "val"},
        ),
        (
            {f"x/{part}/_darknet.labels": "plane" for part in ("train", "valid")}
            | {"x/train/a.jpg": "", "x/train/a.txt": LINE, "x/valid/b.jpg": ""},
            {"a.jpg": "train", "b.jpg": "val"},
        ),
        (
            {f"{part}/labels/classes.txt": "plane" for part in ("train", "test")}
            | {"train/images/a.jpg": "", "train/labels/a.txt": LINE, "test/images/b.jpg": ""},
            {"a.jpg": "train", "b.jpg": "test"},
        ),
    ],
    ids=["labelImg", "labelImg in parts", "list in labels", "CVAT's YOLO 1.1", "Darknet", "Roboflow's", "labelImg's"],
)
def test_class_list_beside_pictures_and_labels_is_read(
    tmp_path: Path, files: dict[str, str], expected: dict[str, str | None]
) -> None:
    layout = read_layout(write_tree(tmp_path, files))
    assert (layout.classes, parts(layout)) == (["plane"], expected)
    assert layout.lost == {} and any(picture.label for picture in layout.pictures)


def test_pictures_get_their_own_names_when_they_would_share_a_label_file(tmp_path: Path) -> None:
    files = {"data.yaml": "names: [a]\ntrain: train\nval: val\n"}
    for place in ("train/images/a.jpg", "train/images/a.png", "val/images/a.jpg"):
        files |= {place: "", place.replace("images", "labels")[:-4] + ".txt": place}
    layout = read_layout(write_tree(tmp_path, files))
    names = {picture.image.relative_to(tmp_path).as_posix(): picture.name for picture in layout.pictures}
    assert names["train/images/a.jpg"] == "a.jpg"
    assert len({name.rpartition(".")[0] for name in names.values()}) == 3
    assert [note.split(":")[0] for note in layout.notes] == ["train/images/a.png", "val/images/a.jpg"]
    assert {picture.label for picture in layout.pictures} == {
        tmp_path / "train/labels/a.txt",
        tmp_path / "val/labels/a.txt",
    }


def test_top_folders_decide_no_name(tmp_path: Path) -> None:
    files = {"data.yaml": "names: [a]\ntrain: [a, b, ../a]\n", "a/x.jpg": "", "a/x.txt": "", "b/x.jpg": ""}
    plain = read_layout(write_tree(tmp_path / "plain", files))
    nested = read_layout(write_tree(tmp_path / "nested", {f"top/{name}": text for name, text in files.items()}))
    assert [picture.name for picture in plain.pictures] == [picture.name for picture in nested.pictures]
    beside = read_layout(write_tree(tmp_path / "nested", {"a/x.jpg": ""}))
    assert len({picture.name for picture in beside.pictures}) == len(beside.pictures) == 3


@pytest.mark.parametrize(
    ("picture", "label"),
    [
        ("images/Capture_é 1.jpg", "labels/Capture_%C3%A9%201.txt"),
        ("images/Capture_%C3%A91.jpg", "labels/Capture_é1.txt"),
        ("images/Flu\u0308gel.jpg", "labels/Flügel.txt"),
        ("images/Flügel.jpg", "labels/Flu\u0308gel.txt"),
        ("images/a.jpg", "labels/a.TXT"),
        ("images/IMG_1.JPG", "labels/img_1.txt"),
        ("images/a.jpg", "labels/a.jpg.txt"),
        ("Images/a.jpg", "Labels/a.txt"),
        ("IMAGES/Train/a.jpg", "labels/train/a.txt"),
        ("images/a.jpg", "labels/alice/a.txt"),
        ("images/train/a.jpg", "labels/a.txt"),
        ("images/a.jpg", "annots/a.txt"),
    ],
)
def test_label_file_is_matched_when_one_picture_alone_can_have_it(tmp_path: Path, picture: str, label: str) -> None:
    files = {"classes.txt": "a\n", picture: "", label: LINE, f"{picture[:6]}/b.jpg": "", f"{label[:6]}/b.txt": LINE}
    layout = read_layout(write_tree(tmp_path, files))
    labels = {each.image: each.label for each in layout.pictures}
    assert labels[tmp_path / picture] == tmp_path / label
    assert layout.lost == {}
    assert f"{label}: read as the labels of {picture}" in layout.notes


@pytest.mark.parametrize(
    ("files", "lost", "reason"),
    [
        ({"labels/gone.txt": LINE * 3}, {"labels/gone.txt": 3}, "expected one of this name"),
        (
            {"labels/alice/b.txt": LINE, "labels/bob/b.txt": LINE},
            {"labels/alice/b.txt": 1, "labels/bob/b.txt": 1},
            "images/b.jpg could have labels/alice/b.txt or labels/bob/b.txt",
        ),
        ({"labels/A.txt": LINE}, {"labels/A.txt": 1}, "images/a.jpg has labels/a.txt already"),
        (
            {"images/x/c.jpg": "", "images/y/c.jpg": "", "labels/alice/c.txt": LINE},
            {"labels/alice/c.txt": 1},
            "could belong to images/x/c.jpg or to images/y/c.jpg",
        ),
        ({"labels/classes.txt": "airplane\nhelicopter\n", "labels/empty.txt": ""}, {}, ""),
        ({"old/images/b.jpg": "", "old/labels/b.txt": LINE}, {}, ""),  # of a picture that is left out
    ],
    ids=["no picture", "two label files", "labelled already", "two pictures", "no lines", "left out with its picture"],
)
def test_label_files_without_a_picture_are_counted(
    tmp_path: Path, files: dict[str, str], lost: dict[str, int], reason: str
) -> None:
    given = {"classes.txt": "a\n", "images/a.jpg": "", "images/b.jpg": "", "labels/a.txt": LINE}
    layout = read_layout(write_tree(tmp_path, given | files))
    assert {message.partition(": ")[0]: lines for message, lines in layout.lost.items()} == lost
    assert all(reason in message for message in layout.lost)
    assert [each.name for each in layout.pictures if each.label] == ["a.jpg"]


@pytest.mark.parametrize("name", ["Classes.txt", "Data.yaml"])
def test_class_list_is_found_in_any_case(tmp_path: Path, name: str) -> None:
    files = {name: "plane" if name == "Classes.txt" else "names: [plane]\ntrain: train/images\n"}
    files |= {"images/a.jpg": "", "labels/a.txt": ""} if name == "Classes.txt" else {"Train/Images/a.jpg": ""}
    files |= {"Train/Labels/a.txt": LINE} if name == "Data.yaml" else {}
    layout = read_layout(write_tree(tmp_path, files))
    assert layout.classes == ["plane"]
    assert [bool(picture.label) for picture in layout.pictures] == [True]


@pytest.mark.parametrize(
    ("shape", "label", "keypoints"),
    [
        ("kpt_shape: [2, 3]\n", "0 0.4 0.4 0.1 0.1 0.35 0.35 2 0.45 0.45 2\n", 6),
        ("kpt_shape: [1, 2]\n", "0 0.4 0.4 0.1 0.1 0.9 0.9\n", 2),
        ("", "0 0.4 0.4 0.1 0.1 0.35 0.35 2 0.45 0.45 2\n", 6),
        ("", "0 0.1 0.1 0.2 0.1 0.1 0.2\n", 0),
        ("kpt_shape: [0, 0]\n", "0 0.5 0.5 0.5 0.5 0.4 0.5 0.5 0.4\n", 0),
    ],
)
def test_keypoints_are_known_by_data_yaml_or_the_values(tmp_path: Path, shape: str, label: str, keypoints: int) -> None:
    files = {"data.yaml": f"names: [plane]\ntrain: images\n{shape}", "images/a.jpg": "", "labels/a.txt": label}
    layout = read_layout(write_tree(tmp_path, files))
    assert layout.keypoints == keypoints
    assert bool(layout.notes) == bool(keypoints)


def test_every_file_that_is_left_out_has_a_reason(tmp_path: Path) -> None:
    ignored = {
        ".git": "hidden",
        "images/0650dbf4__": "neither a picture",
        "labels.cache": "neither a picture",
        "labels/classes.txt": "a label file without a picture",
        "labels/gone.txt": "a label file without a picture",
        "old/images/a.jpg": "a picture that no part",
        "old/labels/a.txt": "its picture, old/images/a.jpg, is left out",
    }
    unsaid = ["__MACOSX/images/._a.jpg", "images/._a.jpg", "images/.DS_Store", "images/Thumbs.db"]
    unsaid += ["LICENSE", "SOURCE.txt"]
    files = WORKSHOP | dict.fromkeys(("labels/gone.txt", *ignored, *unsaid), "") | {".git/config": ""}
    del files[".git"]
    layout = read_layout(write_tree(tmp_path, files))
    assert parts(layout) == {"a.jpg": None, "b.png": None}
    assert list(layout.about) == ["LICENSE", "SOURCE.txt"]
    found = dict(reason.split(": ", 1) for reason in layout.ignored)
    assert found.keys() == ignored.keys()
    assert [name for name, reason in ignored.items() if not found[name].startswith(reason)] == []


@pytest.mark.parametrize(
    ("place", "reason"),
    [("val: ../val/images", "val: there is no ../val/images"), ("backup: held-out", "backup is none of")],
)
def test_labels_are_lost_when_no_part_has_what_data_yaml_names(tmp_path: Path, place: str, reason: str) -> None:
    files = {"data.yaml": f"names: [a]\ntrain: ../train/images\n{place}\n", "train/images/a.jpg": ""}
    files |= {"train/labels/a.txt": LINE, "held-out/images/b.jpg": "", "held-out/labels/b.txt": LINE * 2}
    layout = read_layout(write_tree(tmp_path, files))
    ((message, lines),) = layout.lost.items()
    assert lines == 2 and message.startswith("held-out/labels/b.txt: ") and reason in message
    files["data.yaml"] = "names: [a]\ntrain: ../train/images\n"
    assert read_layout(write_tree(tmp_path, files)).lost == {}  # it does not want more


def test_labels_are_no_papers_whatever_their_names(tmp_path: Path) -> None:
    files = {"classes.txt": "a", "source_1.jpg": "", "source_1.txt": LINE, "LICENSE.txt": "free"}
    layout = read_layout(write_tree(tmp_path, files))
    assert list(layout.about) == ["LICENSE.txt"]
    assert [each.label for each in layout.pictures] == [tmp_path / "source_1.txt"]


def test_several_datasets_stay_several_when_their_lists_differ(tmp_path: Path) -> None:
    files = {"train/classes.txt": "a", "val/classes.txt": "b", "train/x.jpg": "", "val/y.jpg": "", "val/y.txt": LINE}
    with pytest.raises(DatasetError, match=r"^several datasets: train, val;"):
        read_layout(write_tree(tmp_path, files))


def test_class_list_is_asked_for_when_label_files_have_ids_alone(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"^no class list: .*a\.txt .*classes\.txt"):
        read_layout(write_tree(tmp_path, {"a.jpg": "", "a.txt": LINE, "notes.csv": "x"}))


def test_folders_are_no_label_files_and_no_lists_whatever_their_names(tmp_path: Path) -> None:
    files = {"data.yaml": "names: [a]\ntrain: images\n", "images/a.jpg": "", "images/b.jpg": "", "labels/b.txt": LINE}
    files |= {f"{name}/x": "" for name in ("labels/a.txt", "classes.txt", "notes.json", "train.txt")}
    layout = read_layout(write_tree(tmp_path, files))
    assert [each.label for each in layout.pictures] == [None, tmp_path / "labels/b.txt"]
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(DatasetError, match=r"^no class list"):
        read_layout(tmp_path)
