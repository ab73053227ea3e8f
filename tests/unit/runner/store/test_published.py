"""Versions in the store, and stores that somebody touched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ObjectError, StoreError
from runner.store import Store, open_store
from runner.store.published import (
    fetch_onnx,
    latest,
    locate,
    model_names,
    numbers,
    parse_version,
    read_version,
)

ONNX = b"a model"
MANIFEST = {
    "name": "things",
    "version": 3,
    "onnx_sha256": hashlib.sha256(ONNX).hexdigest(),
    "classes": ["kite"],
    "metrics": {"map50": 0.9},
    "verdict": {"passed": True},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a folder."""
    return open_store(tmp_path)


def put(store: Store, number: int = 3, **changes: Any) -> None:
    manifest = MANIFEST | {"version": number} | changes
    store.create(f"models/things/{number}/model.onnx", ONNX)
    store.create(f"models/things/{number}/manifest.json", json.dumps(manifest).encode())


def test_there_is_none_when_the_store_is_empty(store: Store) -> None:
    assert (model_names(store), numbers(store, "things"), latest(store, "things")) == ([], [], None)
    with pytest.raises(
        ObjectError, match=r"there is no version 3 of things \(there are: none\); .* models` lists them"
    ):
        read_version(store, "things", 3)


def test_only_those_with_a_manifest_exist_when_listed(store: Store) -> None:
    put(store, 10)
    put(store, 9)
    for key in ("models/things/11/model.onnx", "models/things/0/manifest.json", "models/things/x/manifest.json"):
        store.create(key, b"")
    assert (model_names(store), numbers(store, "things")) == (["things"], [9, 10])
    assert numbers(store, "thing") == []


@pytest.mark.parametrize(
    ("verdict", "passed"), [({"passed": True}, True), ({"passed": False}, False), ({}, False), (None, None)]
)
def test_the_gates_word_is_known_when_it_was_asked(store: Store, verdict: object, passed: bool | None) -> None:
    put(store, verdict=verdict, metrics={})
    version = read_version(store, "things", 3)
    assert (version.passed, version.map50, version.number) == (passed, None, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a manifest"),
        (b"{}", "not a manifest"),
        (json.dumps(MANIFEST | {"version": "three"}).encode(), "not a manifest"),
        (json.dumps(MANIFEST | {"version": 4}).encode(), "is the manifest of things 4; the object was replaced"),
        (json.dumps(MANIFEST | {"name": "other"}).encode(), "is the manifest of other 3; the object was replaced"),
    ],
)
def test_refused_when_the_manifest_is_not_its_own(store: Store, content: bytes, message: str) -> None:
    store.create("models/things/3/manifest.json", content)
    with pytest.raises(ObjectError, match=f"models/things/3/manifest.json: {message}"):
        read_version(store, "things", 3)


def test_the_digest_is_the_manifests_when_parsed() -> None:
    content = json.dumps(MANIFEST).encode()
    assert parse_version(content, "here").sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": "x"}', b"{}"])
def test_refused_when_the_pointer_is_damaged(store: Store, content: bytes) -> None:
    store.replace("models/things/latest.json", content)
    with pytest.raises(ObjectError, match=r"models/things/latest\.json is damaged .*expected a version; .*publish"):
        latest(store, "things")


def test_the_model_is_fetched_once_when_its_digest_fits(store: Store, tmp_path: Path) -> None:
    put(store)
    version = read_version(store, "things", 3)
    file = fetch_onnx(store, version, tmp_path / "work")
    assert file.read_bytes() == ONNX
    (tmp_path / "store/models/things/3/model.onnx").write_bytes(b"damaged")
    assert fetch_onnx(store, version, tmp_path / "work") == file
    file.write_bytes(b"cut")
    with pytest.raises(ObjectError, match=r"models/things/3/model\.onnx: its sha256 is [0-9a-f]{64}, but"):
        fetch_onnx(store, version, tmp_path / "work")


@pytest.mark.parametrize("place", ["store", "{tmp}/store", "a b/ü"])
def test_the_store_is_found_when_a_pin_names_a_manifest(tmp_path: Path, place: str) -> None:
    found, key = locate(tmp_path, f"{place.format(tmp=tmp_path)}/models/things/3/manifest.json")
    assert (found.uri, key) == (str(tmp_path / place.format(tmp=tmp_path)), "models/things/3/manifest.json")


@pytest.mark.parametrize(
    "uri", ["", "manifest.json", "models/x/3/manifest.json", "s/models/x/0/manifest.json", "m.onnx"]
)
def test_refused_when_a_pin_names_no_manifest(tmp_path: Path, uri: str) -> None:
    with pytest.raises(StoreError, match=r"names no manifest, expected <store>/models/<model>/<n>/manifest\.json"):
        locate(tmp_path, uri)
