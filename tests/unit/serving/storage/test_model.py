import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import load_model
from serving.vision.letterbox import DEFAULT_FORM, FORMER_FORM, InputForm
from serving.vision.metadata import form_metadata

SQUARE = InputForm("square", "full")


@pytest.mark.parametrize(
    ("metadata", "named", "expected"),
    [
        ({}, None, FORMER_FORM),  # a version of before: served as it was measured
        ({}, {"input_shape": "square", "decoding": "full"}, SQUARE),
        (form_metadata(SQUARE), {"input_shape": "square", "decoding": "full"}, SQUARE),
        (form_metadata(SQUARE), None, SQUARE),
    ],
)
def test_input_form_is_that_of_the_version(
    metadata: dict[str, str],
    named: dict[str, str] | None,
    expected: InputForm,
    tmp_path: Path,
    tiny_model: Callable[..., bytes],
) -> None:
    onnx = tiny_model(np.zeros((6, 3), np.float32), free=True, **metadata)
    (tmp_path / "model.onnx").write_bytes(onnx)
    classes = ["airplane", "helicopter"]
    manifest: dict[str, Any] = {"name": "things", "version": 1, "classes": classes}
    manifest |= {"onnx_sha256": hashlib.sha256(onnx).hexdigest()} | ({"preprocessing": named} if named else {})
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    endpoint = endpoint_of_environment()
    assert load_model(str(tmp_path / "manifest.json"), endpoint).detector.form == expected
    bare = load_model(str(tmp_path / "model.onnx"), endpoint).detector.form
    assert bare == (expected if metadata else DEFAULT_FORM)
