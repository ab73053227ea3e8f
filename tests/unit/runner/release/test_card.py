from typing import Any

from runner.release.card import model_card
from serving.storage.manifest import Manifest

FIGURES = {"map50": 0.9, "map50_95": 0.5, "precision": 0.8, "recall": 0.75, "threshold": 0.4, "boxes": 50}
FINDING = {"criterion": "AP50 of kite", "candidate": 0.9, "deployed": 0.8, "said": "0.900 after 0.800", "passed": True}
STOCK: dict[str, Any] = {
    **{"name": "yolo11n", "version": 1, "classes": [f"class {number}" for number in range(80)], "imgsz": 640},
    **{"metrics": {}, "verdict": None, "dataset": {}, "params": {}, "libraries": {}, "commit": None, "license": None},
    **{"thresholds": {"overall": 0.25, "classes": {}}, "onnx_sha256": "0" * 64},
    **{"work_tree": "a stock model: yolo11n.pt", "created": "2026-11-25T10:00:00+00:00"},
}


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate(
        {
            **STOCK,
            **{"name": "things", "version": 7, "classes": ["kite", "bird"], "imgsz": [320, 640], "commit": "abc"},
            "metrics": {
                **FIGURES,
                **{"pictures": 45, "notes": ["bird: no boxes in val"]},
                "classes": {"kite": FIGURES | {"recall": 0.5}, "bird": FIGURES | {"boxes": 4}},
            },
            "verdict": {
                "passed": False,
                "findings": [FINDING, FINDING | {"passed": False}],
                "left_out": ["size: unknown"],
            },
            "dataset": {"name": "birds", "url": "store:x", "sha256": "f" * 64, "pictures": 300, "boxes": {"kite": 9}},
            "params": {
                **{"seed": 3, "model": {"base": "yolo11n.yaml", "imgsz": 320}},
                "split": {"mode": "hash", "seed": 5, "group": "^(.*)_f"},
            },
        }
        | changes
    )


def test_it_says_so_when_nothing_was_measured() -> None:
    card = model_card(Manifest.model_validate(STOCK))
    assert card.startswith("# yolo11n 1\n\nA detector of 80 classes: class 0, ")
    assert "The gate was not asked." in card
    assert "It was not measured here." in card and "The threshold is 0.25 for every class." in card


def test_every_section_is_filled_when_it_was_trained_here() -> None:
    card = model_card(manifest())
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        *("# things 7", "## Intended use", "## Data", "## Quality", "## Limits", "## Provenance")
    ]
    assert "The gate did not let it pass." in card
    assert "birds, store:x (sha256 ffff" in card and "300 pictures, boxes: 9 kite." in card
    assert "by hash, seed 5; pictures whose name agrees in `^(.*)_f` stay together; 45 pictures are in test" in card
    assert "| kite | 50 | 0.900 | 0.500 | 0.800 | 0.500 | 0.400 |" in card
    assert "| AP50 of kite | 0.900 after 0.800 | NO |" in card and "- Left out: size: unknown." in card
    assert "The input is 640 pixels" in card
    assert "- kite: 50% of the boxes in test were missed." in card
    assert "- bird: only 4 boxes in test, so its figures say little." in card
    assert "- bird: no boxes in val." in card
    assert "| commit | abc (" in card and "| network | yolo11n.yaml at 320 px, seed 3 |" in card


def test_names_stay_text_when_they_look_like_markdown() -> None:
    evil = "<script>*a*|[b](http://c)\n# d"
    figures = manifest().metrics | {"classes": {evil: FIGURES}}
    card = model_card(manifest(classes=[evil], metrics=figures))
    assert "<script>" not in card.replace("\\<script\\>", "")
    assert "\n# d" not in card and "[b](" not in card
    assert r"| \<script\>\*a\*\|\[b\](http://c) \# d | 50 |" in card
