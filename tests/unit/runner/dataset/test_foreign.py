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


def test_group_of_classes_is_no_class(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "birds", "supercategory": "none"}]
    categories += [{"id": 7, "name": name, "supercategory": "birds"} for name in ("eagle",)]
    content = coco([image(1, "a.jpg")], [BOX | {"image_id": 1}], categories=categories)
    layout = read_layout(write_tree(tmp_path, {"train/_annotations.coco.json": content, "train/a.jpg": PICTURE}))
    assert layout.classes == ["eagle"]


@pytest.mark.parametrize("declared", [{"width": 40, "height": 30}, {"width": 0, "height": 0}])
def test_size_of_the_picture_as_seen_counts(tmp_path: Path, declared: dict[str, int]) -> None:
    content = coco([image(1, "a.jpg", **declared)], [{"bbox": [0, 0, 20, 15], "category_id": 7, "image_id": 1}])
    layout = read_layout(write_tree(tmp_path, {"a.json": content, "a.jpg": turned(6)}))
    assert boxes(layout) == {"a.jpg": [[0, 0.25, 0.25, 0.5, 0.5]]}


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
    assert boxes(layout) == {"a.jpg": [[1, 0.5, 0.5, 0.5, 0.5], [0, 0.5, 0.5, 1, 1]], "b.jpg": [], "t.jpg": []}
    assert [each.part for each in layout.pictures] == ["train", "val", None]
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
        ("a.json", [{"image": "a.jpg", "annotations": []}], "CreateML"),
        ("a.json", {"images": [{"id": 1}], "annotations": [], "categories": []}, "like COCO, but one of its images"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=f"^{name}: .*{message}"):
        read_layout(write_tree(tmp_path, {name: json.dumps(content), "a.jpg": PICTURE}))


def test_cvat_for_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"^annotations\.xml: .*CVAT for images.*'Ultralytics YOLO Detection'"):
        read_layout(write_tree(tmp_path, {"annotations.xml": "<annotations><image/></annotations>", "a.jpg": PICTURE}))


def test_refused_when_no_picture_is_there(tmp_path: Path) -> None:
    content = coco([image(1, "gone.jpg")], [BOX | {"image_id": 1}])
    with pytest.raises(DatasetError, match=r"^a\.json: gone\.jpg: .* export it with its pictures"):
        read_layout(write_tree(tmp_path, {"a.json": content, "other.jpg": PICTURE}))


def test_entities_are_not_followed(tmp_path: Path) -> None:
    bomb = f'<!DOCTYPE a [<!ENTITY b "bb">]>{voc("a.jpg", "<object/>")}'
    with pytest.raises(DatasetError, match=r"^no class list"):
        read_layout(write_tree(tmp_path, {"a.xml": bomb, "a.jpg": PICTURE}))
