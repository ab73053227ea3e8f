import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.storage.endpoint import endpoint_of_environment
from serving.storage.model import LoadingError, load_model
from serving.vision.letterbox import DEFAULT_FORM, FORMER_FORM, InputForm
from serving.vision.metadata import form_metadata
from tests.support.shades import shade

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


@pytest.fixture
def with_int8(tmp_path: Path, tiny_model: Callable[..., bytes]) -> Path:
    """The manifest of a version with INT8, which a CPU with AVX-VNNI judged."""
    manifest: dict[str, Any] = {"name": "things", "version": 1, "classes": ["airplane", "helicopter"]}
    for file, columns in (("model.onnx", 3), ("model.int8.onnx", 4)):
        (tmp_path / file).write_bytes(tiny_model(np.zeros((6, columns), np.float32)))
    digests = [hashlib.sha256((tmp_path / file).read_bytes()).hexdigest() for file in ("model.onnx", "model.int8.onnx")]
    variant = {"kind": "int8", "sha256": digests[1], "instructions": ["avx_vnni"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"onnx_sha256": digests[0], "variant": variant}))
    return tmp_path / "manifest.json"


@pytest.mark.parametrize(
    ("instructions", "wanted", "kind", "reason"),
    [
        (["avx_vnni"], True, "int8", "avx_vnni"),
        (["avx512_vnni", "avx_vnni"], True, "int8", "avx_vnni"),
        ([], True, "float", "avx_vnni"),
        (["avx_vnni"], False, "float", "MODEL_VARIANT"),
    ],
)
def test_int8_is_served_where_the_cpu_has_what_it_was_measured_with(
    instructions: list[str], wanted: bool, kind: str, reason: str, with_int8: Path
) -> None:
    model = load_model(str(with_int8), endpoint_of_environment(), variant=wanted, instructions=instructions)
    file = with_int8.with_name("model.int8.onnx" if kind == "int8" else "model.onnx")
    assert (model.served.kind, model.served.file) == (kind, file.name)
    assert model.served.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert reason in model.served.reason
    (inferred,) = model.detector.infer([shade(1)])
    assert inferred.output.shape == (6, 4 if kind == "int8" else 3)
    assert model.name.sha256 == hashlib.sha256(with_int8.with_name("model.onnx").read_bytes()).hexdigest()


def test_nothing_is_served_when_the_variant_is_damaged(with_int8: Path) -> None:
    with_int8.with_name("model.int8.onnx").write_bytes(b"damaged")
    with pytest.raises(LoadingError, match=r"model\.int8\.onnx: its sha256 is .* as variant of .*manifest\.json says"):
        load_model(str(with_int8), endpoint_of_environment(), instructions=["avx_vnni"])
    assert load_model(str(with_int8), endpoint_of_environment(), instructions=[]).served.kind == "float"


@pytest.mark.parametrize("kind", ["../model", "", "INT8/x"])
def test_refused_when_a_variant_is_no_name(kind: str, with_int8: Path) -> None:
    manifest = json.loads(with_int8.read_text())
    manifest["variant"]["kind"] = kind
    with_int8.write_text(json.dumps(manifest))
    with pytest.raises(LoadingError, match=r"variant\.kind"):
        load_model(str(with_int8), endpoint_of_environment(), instructions=["avx_vnni"])
