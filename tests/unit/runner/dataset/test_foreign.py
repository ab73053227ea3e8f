"""COCO and Pascal VOC are read with their boxes, what is lost of them is counted, other formats are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.dataset.layouts import Layout, read_labels, read_layout
from runner.errors import DatasetError
from tests.support.pictures import encoded, gradient, turned
from tests.support.trees import write_tree

PICTURE = encoded(gradient(40, 20))
BOX = {"bbox": [10, 5, 20, 10], "category_id": 7}  # 0.5 0.5 0.5 0.5


def coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]], **more: Any) -> str:
    categories = [{"id": 9, "name": "car", "supercategory": "all"}, {"id": 7, "name": "plane", "supercategory": "all"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories} | more)


def image(number: int, name: str, **more: int) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": 40, "height": 20} | more


def voc(name: str, objects: str, size: str = "<size><width>40</width><height>20</height></size>") -> str:
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def voc_object(name: str, *corners: float) -> str:
    keys = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    return f"<object><name>{name}</name><bndbox>{''.join(f'<{key}>{x}</{key}>' for key, x in keys)}</bndbox></object>"


def boxes(layout: Layout) -> dict[str, list[list[float]]]:
    """Boxes of each picture: class id, and centre and size."""
    found = {}
    for picture in layout.pictures:
        labels = read_labels(layout, picture, "")
        assert labels.problems == []
        found[picture.name] = np.column_stack([labels.class_ids, labels.boxes_xywhn.round(6)]).tolist()
    return found


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({"_annotations.coco.json": "a.jpg", "a.jpg": PICTURE}, [None]),
        ({"train/_annotations.coco.json": "a.jpg", "train/a.jpg": PICTURE}, ["train"]),
        ({"annotations/instances_default.json": "a.jpg", "images/a.jpg": PICTURE}, [None]),
        ({"annotations/instances_val2017.json": "a.jpg", "val2017/a.jpg": PICTURE, "train2017/a.jpg": b"x"}, ["val"]),
        ({"x/result.json": "images\\a.jpg", "x/images/a.jpg": PICTURE}, [None]),
    ],
    ids=["flat", "Roboflow", "CVAT", "COCO", "Label Studio"],
)
def test_coco_is_read_wherever_its_pictures_are(
    tmp_path: Path, files: dict[str, str | bytes], parts: list[str | None]
) -> None:
    (name, picture), *others = files.items()
    content = coco([image(1, str(picture))], [BOX | {"id": 1, "image_id": 1}])
    found: dict[str, str | bytes] = {name: content, **dict(others)}
    layout = read_layout(write_tree(tmp_path, found))
    assert layout.classes == ["plane", "car"]  # by id
    assert boxes(layout) == {"a.jpg": [[0, 0.5, 0.5, 0.5, 0.5]]}
    assert [each.part for each in layout.pictures] == parts
    assert layout.lost == {}


def test_what_is_lost_of_coco_is_counted(tmp_path: Path) -> None:
    pictures = [image(1, "a.jpg"), image(2, "b.jpg"), image(3, "gone.jpg"), image(4, "c.jpg", width=20, height=20)]
    annotations = [
        BOX | {"image_id": 1},
        {"image_id": 1, "category_id": 9, "segmentation": [[0, 0, 20, 0, 20, 10]]},
        BOX | {"image_id": 1, "id": 5, "category_id": 3},
        BOX | {"image_id": 1, "iscrowd": 1},
        *[BOX | {"image_id": 3}] * 2,
        BOX | {"image_id": 4},
        BOX | {"image_id": 8},
    ]
    files: dict[str, str | bytes] = {
        "labels.json": coco(pictures, annotations),
        **dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), PICTURE),
    }
    layout = read_layout(write_tree(tmp_path, files))
    assert boxes(layout) == {"a.jpg": [[0, 0.5, 0.5, 0.5, 0.5], [1, 0.25, 0.25, 0.5, 0.5]], "b.jpg": []}
    lost = {message.removeprefix("labels.json: ").split(":")[0]: count for message, count in layout.lost.items()}
    assert lost == {"a.jpg": 1, "gone.jpg": 2, "image_id 8": 1, "c.jpg": 1}
    assert [note.split(":")[1] for note in layout.notes] == [" a.jpg"]


def test_ids_of_coco_are_the_same_when_they_are_written_as_floats(tmp_path: Path) -> None:
    content = coco([image(1, "a.jpg")], [BOX | {"image_id": 1.0, "category_id": 7.0}])
    layout = read_layout(write_tree(tmp_path, {"labels.json": content, "a.jpg": PICTURE}))
    assert boxes(layout) == {"a.jpg": [[0, 0.5, 0.5, 0.5, 0.5]]}


def test_a_picture_of_crowds_alone_is_no_background(tmp_path: Path) -> None:
    crowd, box = BOX | {"image_id": 1, "iscrowd": 1}, BOX | {"image_id": 2}
    content = coco([image(1, "a.jpg"), image(2, "b.jpg")], [crowd, box])
    layout = read_layout(write_tree(tmp_path, {"labels.json": content, "a.jpg": PICTURE, "b.jpg": PICTURE}))
    assert list(boxes(layout)) == ["b.jpg"] and [each.partition(":")[0] for each in layout.ignored] == ["a.jpg"]


@pytest.mark.parametrize(
    "more",
    [
        {"images": [image(1, "a.jpg"), image(1, "b.jpg")]},
        {"categories": [{"id": 7, "name": "a.jpg"}, {"id": 7, "name": "b.jpg"}]},
    ],
    ids=["pictures", "classes"],
)
def test_refused_when_an_id_of_coco_is_of_two(tmp_path: Path, more: dict[str, Any]) -> None:
    content = json.dumps(json.loads(coco([image(1, "a.jpg")], [BOX | {"image_id": 1}])) | more)
    with pytest.raises(DatasetError, match=r"labels\.json: id \d is of a\.jpg and of b\.jpg, "):
        read_layout(write_tree(tmp_path, {"labels.json": content, "a.jpg": PICTURE, "b.jpg": PICTURE}))


def test_group_of_classes_is_no_class(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "birds", "supercategory": "none"}]
    categories += [{"id": 7, "name": name, "supercategory": "birds"} for name in ("eagle",)]
    content = coco([image(1, "a.jpg")], [BOX | {"image_id": 1}], categories=categories)
    layout = read_layout(write_tree(tmp_path, {"train/_annotations.coco.json": content, "train/a.jpg": PICTURE}))
    assert layout.classes == ["eagle"]


@pytest.mark.parametrize("declared", [{"width": 40, "height": 30}, {"width": "40", "height": "30"}, {"width": 0}])
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_size_of_the_picture_as_seen_counts(tmp_path: Path, declared: dict[str, Any], turn: int, kind: str) -> None:
    content = coco([image(1, "a.jpg", **declared)], [{"bbox": [0, 0, 20, 15], "category_id": 7, "image_id": 1}])
    layout = read_layout(write_tree(tmp_path, {"a.json": content, "a.jpg": turned(turn, kind)}))
    assert boxes(layout) == {"a.jpg": [[0, 0.25, 0.25, 0.5, 0.5]]}
    assert layout.notes == []


def test_size_before_exif_turns_the_picture_is_noted(tmp_path: Path) -> None:
    content = coco([image(1, "a.jpg", width=30, height=40)], [BOX | {"image_id": 1}])
    (note,) = read_layout(write_tree(tmp_path, {"a.json": content, "a.jpg": turned(6)})).notes
    assert note.startswith("a.jpg: ") and "--exif-boxes stored" in note


def test_voc_is_read_with_its_parts(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "VOC/Annotations/a.xml": voc("a.jpg", voc_object("plane", 10, 5, 30, 15) + voc_object("car", 0, 0, 40, 20)),
        "VOC/Annotations/b.xml": voc("b.jpg", "", size=""),
        "VOC/Annotations/gone.xml": voc("gone.jpg", voc_object("car", 0, 0, 4, 2)),
        "VOC/Annotations/turned.xml": voc("t.jpg", "<object><name>car</name><robndbox/></object>"),
        "VOC/ImageSets/Main/train.txt": "a\n",
        "VOC/ImageSets/Main/val.txt": "b  1\n",
        **{f"VOC/JPEGImages/{name}.jpg": PICTURE for name in ("a", "b", "t")},
    }
    layout = read_layout(write_tree(tmp_path, files))
    assert layout.classes == ["car", "plane"]
    assert boxes(layout) == {"a.jpg": [[1, 0.5, 0.5, 0.5, 0.5], [0, 0.5, 0.5, 1, 1]], "b.jpg": []}
    assert [each.part for each in layout.pictures] == ["train", "val"]
    assert list(layout.lost.values()) == [1, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("result.json", [{"id": 1, "data": {"image": "/a"}, "annotations": []}], r"Label Studio.* 'YOLO with Images'"),
        ("annotations/default.json", {"info": {}, "categories": {}, "items": []}, "Datumaro"),
        ("labels.json", {"classes": ["a"], "labels": {}}, "FiftyOne.*YOLOv5Dataset"),
        ("samples.json", {"samples": []}, "FiftyOne"),
        ("a.json", {"shapes": [], "imagePath": "a.jpg"}, "LabelMe"),
        ("via.json", {"_via_img_metadata": {}}, "VGG"),
        ("via.json", {"a.jpg9": {"filename": "a.jpg", "regions": []}}, "VGG"),
        ("ann/a.jpg.json", {"objects": [], "size": {"width": 40, "height": 20}}, "Supervisely"),
        ("a.json", {"version": "2.0", "item": {}, "annotations": []}, "Darwin"),
        ("a.json", {"asset": {}, "regions": []}, "VoTT"),
        ("a.json", [{"name": "a.jpg", "labels": []}], "BDD100K"),
        ("a.json", [{"image": "a.jpg", "annotations": []}], "CreateML"),
        ("a.json", {"images": [{"id": 1}], "annotations": [], "categories": []}, "like COCO, but one of its images"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=f"^{name}: .*{message}"):
        read_layout(write_tree(tmp_path, {name: json.dumps(content), "a.jpg": PICTURE}))


@pytest.mark.parametrize("inside", ["<image/>", "<track/>", "<version>1.1</version>"])
def test_cvat_for_images_is_named(tmp_path: Path, inside: str) -> None:
    content = f"<annotations>{inside}</annotations>"
    with pytest.raises(DatasetError, match=r"^annotations\.xml: .*CVAT for images.*'Ultralytics YOLO Detection'"):
        read_layout(write_tree(tmp_path, {"annotations.xml": content, "a.jpg": PICTURE}))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("training/label_2/000001.txt", "KITTI"),
        ("train-annotations-bbox.csv", "Open Images"),
        ("train/Cars.tfrecord", "TFRecord"),
        ("train.tfrecord-00001-of-00010", "TFRecord"),
        ("coco8.ndjson", "NDJSON"),
        ("data/train-0000.parquet", "Parquet"),
        ("dataset/_annotations.train.jsonl", "JSON Lines"),
        ("train/_annotations.txt", "one text file"),
        ("train/_annotations.csv", "CSV"),
        ("labelTxt/a.txt", "DOTA"),
        ("seq/gt/gt.txt", "MOT"),
        ("exports/birds.zip", "archives in it"),
    ],
)
def test_formats_without_json_or_xml_are_named_by_their_files(tmp_path: Path, name: str, kind: str) -> None:
    lines = "imagesource:x\n1 1 9 1 9 9 1 9 plane 0\n" if kind == "DOTA" else "Car 0.00 0 -1.57 1 1 9 9 1 1 1 1 1 1 0\n"
    with pytest.raises(DatasetError, match=f"^{name}: .*{kind}"):
        read_layout(write_tree(tmp_path, {name: lines, "images/a.jpg": PICTURE}))


def test_refused_when_no_picture_is_there(tmp_path: Path) -> None:
    content = coco([image(1, "gone.jpg")], [BOX | {"image_id": 1}])
    with pytest.raises(DatasetError, match=r"^a\.json: gone\.jpg: .* export it with its pictures"):
        read_layout(write_tree(tmp_path, {"a.json": content, "other.jpg": PICTURE}))


def test_entities_are_not_followed(tmp_path: Path) -> None:
    bomb = f'<!DOCTYPE a [<!ENTITY b "bb">]>{voc("a.jpg", "<object/>")}'
    with pytest.raises(DatasetError, match=r"^a\.xml: .*document type"):
        read_layout(write_tree(tmp_path, {"a.xml": bomb, "a.jpg": PICTURE}))


@pytest.mark.parametrize(
    ("written", "picture"),
    [("caf%C3%A9 1.jpg", "café 1.jpg"), ("B.JPG", "b.jpg"), ("e\u0301.jpg", "é.jpg"), ("é.jpg", "e\u0301.jpg")],
)
def test_pictures_are_found_however_their_names_are_spelled(tmp_path: Path, written: str, picture: str) -> None:
    described = {
        "train/a.json": coco([image(1, written)], [BOX | {"image_id": 1}]),
        f"A/{written.rpartition('.')[0]}.xml": voc(written, voc_object("plane", 10, 5, 30, 15)),
    }
    for name, content in described.items():
        folder = name.partition("/")[0]
        layout = read_layout(write_tree(tmp_path / folder, {name: content, f"{folder}/{picture}": PICTURE}))
        assert [each[1:] for each in next(iter(boxes(layout).values()))] == [[0.5, 0.5, 0.5, 0.5]]
        assert (len(layout.notes), layout.lost) == (1 + (picture == "e\u0301.jpg"), {})  # that one gets another name


COCO_1 = [image(1, "1.jpg")], [BOX | {"image_id": 1}]
FOLDERS = [image(number, name) for number, name in enumerate(("cam1/1.jpg", "cam2/1.jpg", "cam2/2.jpg"))]
OBJECT = voc_object("plane", 0, 0, 4, 4)


@pytest.mark.parametrize(
    "files",
    [
        {"a.json": coco(FOLDERS, [BOX | {"image_id": n} for n in range(3)])}
        | {"i/cam2/1.jpg": PICTURE, "i/cam2/2.jpg": PICTURE},
        {"a.json": coco([FOLDERS[0], FOLDERS[2]], [BOX | {"image_id": n} for n in (0, 2)])}
        | {"i/cam2/1.jpg": PICTURE, "i/cam2/2.jpg": PICTURE},
        {"a/instances_train.json": coco(*COCO_1), "a/instances_val.json": coco(*COCO_1), "val/1.jpg": PICTURE},
        {"A/x/1.xml": voc("1.jpg", OBJECT), "A/y/1.xml": voc("1.jpg", OBJECT), "J/y/1.jpg": PICTURE},
        {"train/1.xml": voc("1.jpg", OBJECT), "val/1.xml": voc("1.jpg", OBJECT), "val/1.jpg": PICTURE},
        {"A/x/1.xml": voc("1.jpg", OBJECT), "A/y/2.xml": voc("2.jpg", OBJECT)}
        | {"J/y/1.jpg": PICTURE, "J/y/2.jpg": PICTURE},
    ],
    ids=["two of COCO", "one of COCO", "parts of COCO", "two of VOC", "parts of VOC", "one of VOC"],
)
def test_boxes_of_a_missing_picture_are_not_given_to_another_of_its_name(tmp_path: Path, files: dict[str, Any]) -> None:
    layout = read_layout(write_tree(tmp_path, files))
    assert sum(layout.lost.values()) == 1
    assert {len(found) for found in boxes(layout).values()} == {1}


def test_none_is_taken_when_label_files_tell_of_several_pictures(tmp_path: Path) -> None:
    annotations = [BOX | {"image_id": number} for number in range(3)]
    pictures = dict.fromkeys(("i/1.jpg", "i/2.jpg"), PICTURE)
    files: dict[str, str | bytes] = {"a.json": coco(FOLDERS, annotations), **pictures}
    layout = read_layout(write_tree(tmp_path, files))
    assert list(boxes(layout)) == ["2.jpg"] and sum(layout.lost.values()) == 2


def test_a_picture_of_two_parts_is_in_the_later(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = dict.fromkeys(("val.json", "train.json"), coco(*COCO_1))
    files["images/1.jpg"] = PICTURE
    (picture,) = read_layout(write_tree(tmp_path, files)).pictures
    assert picture.part == "val"


def test_label_files_that_cannot_be_read_are_lost_with_their_labels(tmp_path: Path) -> None:
    good = voc("a.jpg", voc_object("plane", 10, 5, 30, 15) * 2)
    files = {"A/a.xml": good, "A/b.xml": good[:-30], "A/c.xml": "", "A/d.xml": f"<!DOCTYPE a>{good}", "A/e.xml": "<x"}
    write_tree(tmp_path / "voc", {f"J/{name}.jpg": PICTURE for name in "abcd"})
    layout = read_layout(write_tree(tmp_path / "voc", files))
    assert list(boxes(layout)) == ["a.jpg"]
    lost = {message.partition(":")[0]: labels for message, labels in layout.lost.items()}
    assert lost == {"A/b.xml": 2, "A/c.xml": 1, "A/d.xml": 2}
    write_tree(tmp_path / "coco", {"1.jpg": PICTURE})
    files = {"train.json": coco(*COCO_1), "val.json": coco(*COCO_1)[:-30]}
    layout = read_layout(write_tree(tmp_path / "coco", files))
    assert [message.partition(":")[0] for message in layout.lost] == ["val.json"]


def test_labels_are_lost_and_named_when_they_are_no_boxes(tmp_path: Path) -> None:
    ids = [{"id": 2, "name": "a"}, {"id": "x", "name": "b"}, {"id": 10, "name": "c"}]
    content = coco(
        [image(1, "a.jpg"), image(2, "b.jpg")],
        [
            BOX | {"image_id": "1", "category_id": "10"},
            BOX | {"image_id": 1, "category_id": [2]},
            {"image_id": 2, "category_id": 2, "segmentation": {"counts": [0, 9], "size": [20, 40]}},
        ],
        categories=ids,
    )
    layout = read_layout(write_tree(tmp_path, {"a.json": content, "a.jpg": PICTURE, "b.jpg": PICTURE}))
    assert layout.classes == ["a", "c", "b"]
    assert boxes(layout) == {"a.jpg": [[1, 0.5, 0.5, 0.5, 0.5]]}  # b.jpg would be a background with an object in it
    assert sum(layout.lost.values()) == 2


@pytest.mark.parametrize("encoding", ["gb2312", "shift_jis", "utf-16", "latin-1"])
def test_voc_is_read_in_its_encoding_with_odd_objects(tmp_path: Path, encoding: str) -> None:
    objects = voc_object("plane", 30, 15, 10, 5) + voc_object("", 1, 1, 2, 2)
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n{voc("a.jpg", objects)}'
    layout = read_layout(write_tree(tmp_path, {"a.xml": text.encode(encoding), "a.jpg": PICTURE}))
    assert boxes(layout) == {"a.jpg": [[0, 0.5, 0.5, 0.5, 0.5]]}  # its corners are swapped
    assert (list(layout.lost.values()), len(layout.notes)) == ([1], 1)
