import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ObjectError, StoreError
from runner.store import Store, open_store
from runner.store.published import latest, locate, model_names, numbers, read_version, to_json

MANIFEST = {"name": "things", "version": 3, "onnx_sha256": "0" * 64, "classes": ["kite"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a folder."""
    return open_store(tmp_path)


def put(store: Store, number: int = 3, **changes: Any) -> bytes:
    content = to_json(MANIFEST | {"version": number} | changes)
    store.create(f"models/things/{number}/manifest.json", content)
    return content


def test_there_is_none_when_the_store_is_empty(store: Store) -> None:
    assert (model_names(store), numbers(store, "things"), latest(store, "things")) == ([], [], None)
    with pytest.raises(ObjectError, match=r"no version 3 of things \(there are: none\)"):
        read_version(store, "things", 3)


def test_only_those_with_a_manifest_exist_when_listed(store: Store) -> None:
    put(store, 10)
    put(store, 9)
    for key in ("models/things/11/model.onnx", "models/things/0/manifest.json", "models/things/x/manifest.json"):
        store.create(key, b"")
    assert (model_names(store), numbers(store, "things")) == (["things"], [9, 10])
    assert numbers(store, "thing") == []


@pytest.mark.parametrize(
    ("changes", "passed", "may_be_latest"),
    [
        ({"verdict": {"passed": True}}, True, True),
        ({"verdict": {"passed": True}, "trial": "train.epochs=1"}, True, False),
        ({"verdict": {"passed": False}}, False, False),
        ({"verdict": {}}, False, False),
        ({"verdict": None}, None, False),
        ({}, None, False),
    ],
)
def test_verdict_is_known_when_the_manifest_has_it(
    store: Store, changes: dict[str, Any], passed: bool | None, may_be_latest: bool
) -> None:
    content = put(store, **changes)
    version = read_version(store, "things", 3)
    assert (version.passed, version.may_be_latest) == (passed, may_be_latest)
    assert (version[:2], version.sha256) == (("things", 3), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(("metrics", "map50"), [({"map50": 0.9}, 0.9), ({"map50": "0.9"}, None), ({}, None)])
def test_quality_is_known_when_it_was_measured(store: Store, metrics: dict[str, Any], map50: float | None) -> None:
    put(store, metrics=metrics)
    assert read_version(store, "things", 3).map50 == map50


def test_bytes_are_the_same_when_a_manifest_is_written_again(store: Store) -> None:
    finding = {"criterion": "größe", "candidate": 9e-07, "deployed": None, "said": "", "passed": True, "more": 1}
    judged = {"onnx_sha256": "0" * 64, "pictures": 4, "deployed": None, "criteria": {"b": 1, "a": 0.5}, "deploy": False}
    changes: dict[str, Any] = {  # in the order in which `publish` has always written it
        **{"imgsz": [32, 64], "license": None, "thresholds": {"overall": 0.25, "classes": {"kite": 0.5}}},
        **{
            "metrics": {"b": 1, "a": 2.0},
            "verdict": {"passed": True, "findings": [finding], "left_out": [""], **judged},
        },
        **{"commit": "abc", "work_tree": "as committed", "dataset": {"url": "sample"}, "params": {"b": {}, "a": None}},
        **{"libraries": {"python": "3"}, "trial": "x=1", "created": "2026-11-25", "files": {"best.pt": "0"}},
        "later": {"z": [1]},
    }
    content = put(store, **changes)
    assert to_json(read_version(store, "things", 3).manifest) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a manifest"),
        (b"{}", "not a manifest"),
        (json.dumps(MANIFEST | {"version": "three"}).encode(), "not a manifest"),
        (json.dumps(MANIFEST | {"version": 4}).encode(), "things 4"),
        (json.dumps(MANIFEST | {"name": "other"}).encode(), "other 3"),
    ],
)
def test_refused_when_the_manifest_is_not_its_own(store: Store, content: bytes, message: str) -> None:
    store.create("models/things/3/manifest.json", content)
    with pytest.raises(ObjectError, match=f"models/things/3/manifest.json: .*{message}"):
        read_version(store, "things", 3)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": "x"}', b"{}"])
def test_refused_when_the_pointer_is_damaged(store: Store, content: bytes) -> None:
    store.replace("models/things/latest.json", content)
    with pytest.raises(ObjectError, match=r"models/things/latest\.json is damaged"):
        latest(store, "things")


@pytest.mark.parametrize("place", ["store", "{tmp}/store", "a b/ü"])
def test_the_store_is_found_when_a_pin_names_a_manifest(tmp_path: Path, place: str) -> None:
    found, key = locate(tmp_path, f"{place.format(tmp=tmp_path)}/models/things/3/manifest.json")
    assert (found.uri, key) == (str(tmp_path / place.format(tmp=tmp_path)), "models/things/3/manifest.json")


@pytest.mark.parametrize(
    "uri", ["", "manifest.json", "models/x/3/manifest.json", "s/models/x/0/manifest.json", "m.onnx"]
)
def test_refused_when_a_pin_names_no_manifest(tmp_path: Path, uri: str) -> None:
    with pytest.raises(StoreError, match=rf"^'{uri}' names no manifest"):
        locate(tmp_path, uri)
