"""The bill of materials, against CycloneDX's own schema."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from runner.release.bill import bill_of_materials
from serving.storage.manifest import Manifest
from tests.unit.runner.release.test_card import STOCK, manifest

BASE = {"params": {"model": {"base": "yolo11n.pt", "sha256": "b" * 64}, "split": {"mode": "hash"}}}
WITH_ALL: dict[str, Any] = {
    **BASE,
    **{"license": "AGPL-3.0", "created": "2026-11-30T12:00:00+00:00", "gated_by": "PipelineRun retrain-1"},
    **{"libraries": {"python": "3.12.1", "torch": "2.9.0", "onnx": "1.20.0"}, "trial": "train.epochs=2"},
    "variant": {"kind": "int8", "sha256": "c" * 64},
}


def checked(manifest: Manifest) -> dict[str, Any]:
    text = bill_of_materials(manifest)
    assert (fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is None, fault
    bill: dict[str, Any] = json.loads(text)
    refs = [part["bom-ref"] for part in (bill["metadata"]["component"], *bill["components"])]
    assert len(refs) == len(set(refs))
    assert {ref for each in bill["dependencies"] for ref in (each["ref"], *each["dependsOn"])} == set(refs)
    return bill


@pytest.mark.parametrize(
    "bill",
    [
        Manifest.model_validate(STOCK),
        manifest(),
        manifest(**WITH_ALL),
        manifest(classes=["kite\n\x00", '"]}', "ü" * 300], dataset={"url": "sample", "boxes": {}}),
    ],
    ids=["a stock model", "a trained one", "with all that there can be", "odd names"],
)
def test_valid_by_the_official_schema(bill: Manifest) -> None:
    checked(bill)
    assert bill_of_materials(bill) == bill_of_materials(bill)


def test_names_all_that_the_model_was_made_from() -> None:
    bill = checked(manifest(**WITH_ALL))
    model, parts = bill["metadata"]["component"], {part["bom-ref"]: part for part in bill["components"]}
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "things", "7")
    assert model["hashes"] == [{"alg": "SHA-256", "content": STOCK["onnx_sha256"]}]
    assert parts["dataset"]["hashes"][0]["content"] == "f" * 64
    assert parts["base"]["hashes"][0]["content"] == "b" * 64
    assert {"pkg:pypi/torch@2.9.0", "pkg:pypi/onnx@1.20.0", "pkg:generic/python@3.12.1"} < parts.keys()
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {each["slice"] for each in metrics} == {"all", "kite", "bird"}
    told = {each["name"]: each["value"] for each in model["properties"]}
    assert model["modelCard"]["modelParameters"]["architectureFamily"] == "YOLO"
    other = checked(manifest(output={"form": "queries", "boxes": "boxes", "scores": "scores"}))
    assert "architectureFamily" not in other["metadata"]["component"]["modelCard"]["modelParameters"]
    assert told["flywheel:gated_by"] == "PipelineRun retrain-1" and told["flywheel:verdict"] == "did not pass"


def test_refused_by_the_schema_when_it_is_no_bill(tmp_path: Path) -> None:
    """And the validator would find a fault."""
    bill = json.loads(bill_of_materials(manifest()))
    bill["metadata"]["component"]["type"] = "detector"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is not None
