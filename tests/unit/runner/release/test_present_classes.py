"""Classes of a compared model under the dataset's present names."""

import numpy as np
import pytest

from runner.release.present_classes import is_dropped, present_ids, suppress_merged
from runner.stages.evaluate.metrics import Boxes

NAMES = ["vehicle", "bicycle"]


@pytest.mark.parametrize(
    ("known", "then", "now", "ids"),
    [
        ([], {}, {}, []),
        (["bicycle", "vehicle", "kite"], {}, {}, [1, 0, -1]),
        (["car", "bicycle"], {}, {"car": "vehicle"}, [0, 1]),
        (["car", "truck", "person"], {}, {"car": "vehicle", "truck": "vehicle", "person": None}, [0, 0, -1]),
        (["bicycle"], {}, {"bicycle": "vehicle"}, [1]),  # a class of the dataset is itself
        (["auto"], {"car": "auto"}, {"car": "vehicle"}, [0]),  # renamed anew
        (["auto"], {"vehicle": "auto"}, {}, [0]),  # the renaming is taken back
        (["auto"], {"car": "auto", "truck": "auto"}, {"car": "vehicle", "truck": "vehicle"}, [0]),
        (["auto"], {"car": "auto", "truck": "auto"}, {"car": "vehicle", "truck": None}, [-1]),
        (["auto"], {"car": "auto"}, {"car": "vehicle", "auto": "bicycle"}, [-1]),
        (["auto"], {"vehicle": "auto", "bicycle": "auto"}, {}, [-1]),  # of two classes, of which it cannot tell
    ],
)
def test_class_has_the_name_that_the_mappings_give_it(
    known: list[str], then: dict[str, str | None], now: dict[str, str | None], ids: list[int]
) -> None:
    assert present_ids(known, NAMES, then, now).tolist() == ids


def test_class_has_the_name_that_it_was_renamed_to_in_the_dataset() -> None:
    known = ["auto", "bicycle", "car", "lorry", "kite"]
    renamed = {"auto": "vehicle", "bicycle": "vehicle", "car": None, "lorry": "van"}
    assert present_ids(known, NAMES, {"truck": "auto"}, {}, renamed).tolist() == [0, 1, -1, -1, -1]
    dropped = [name for name in known if is_dropped(name, {}, {"kite": None}, renamed)]
    assert dropped == ["car", "kite"]


def boxes(*rows: tuple[int, int, float]) -> Boxes:
    """Boxes of 10 x 10 px at an x, with class id and confidence."""
    xs, ids, confidences = zip(*rows, strict=True) if rows else ((), (), ())
    corners = [[x, 0, x + 10, 10] for x in xs]
    return Boxes(np.array(corners, float).reshape(-1, 4), np.array(ids, np.int64), np.array(confidences, float))


def test_boxes_of_one_thing_count_once_when_two_classes_are_merged() -> None:
    found = boxes((0, 0, 0.9), (0, 1, 0.8), (1, 0, 0.7), (0, 1, 0.6), (50, 0, 0.5), (0, -1, 0.4))
    empty, kept = suppress_merged([boxes(), found], np.array([0, 0, 1, -1]), 0.7)
    assert len(empty.class_ids) == 0
    assert kept.confidences.tolist() == [0.9, 0.8, 0.6, 0.5]  # 0.8 and 0.6 are of a class that was not merged
    (kept,) = suppress_merged([found], np.array([0, 1, -1]), 0.7)
    assert kept.confidences.tolist() == [0.9, 0.8, 0.7, 0.6, 0.5]
