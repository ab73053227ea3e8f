"""Bill of materials of a version, beside its model card: the model, its dataset, its base, and the libraries.

CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/), with the model card of its machine-learning profile. Everything in
it follows from the manifest, so the same manifest gives the same bytes.
"""

import json
import uuid
from typing import Any

from runner.store.published import to_json
from serving.storage.manifest import Manifest

BILL = "bom.json"
_SPACE = uuid.UUID("5d0b1e06-3f5e-5b2c-9d2b-0d1a0d7f6c11")  # of our serial numbers, a random one
Part = dict[str, Any]


def bill_of_materials(manifest: Manifest) -> str:
    """Return the bill of a version as JSON, from its manifest as `publish` writes it."""
    parts = [*_data(manifest), *_base(manifest), *_libraries(manifest)]
    name = f"{manifest.name}@{manifest.version}"
    model = {
        **{"type": "machine-learning-model", "bom-ref": name, "name": manifest.name, "version": str(manifest.version)},
        **{"description": f"A detector of {', '.join(manifest.classes)}", "hashes": _sha256(manifest.onnx_sha256)},
        **({"licenses": [{"license": {"name": manifest.license}}]} if manifest.license else {}),
        "modelCard": _card(manifest),
        "properties": [
            {"name": f"flywheel:{key}", "value": value} for key, value in _properties(manifest).items() if value
        ],
    }
    bill = {
        **{
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
        },
        **{"serialNumber": uuid.uuid5(_SPACE, to_json(manifest).decode()).urn, "version": 1},
        "metadata": ({"timestamp": manifest.created} if manifest.created else {}) | {"component": model},
        "components": parts,
        "dependencies": [{"ref": name, "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    return f"{json.dumps(bill, indent=2, ensure_ascii=False)}\n"


def _card(manifest: Manifest) -> Part:
    base = (manifest.params.get("model") or {}).get("base")
    parameters: Part = {
        "task": "object detection",
        **({} if manifest.output else {"architectureFamily": "YOLO"}),  # one that declares its output may be of any
        **({"modelArchitecture": base} if base else {}),
        **{"inputs": [{"format": "image"}], "outputs": [{"format": "boxes with class and confidence"}]},
        **({"datasets": [{"ref": "dataset"}]} if manifest.dataset else {}),
    }
    return {"modelParameters": parameters} | (
        {"quantitativeAnalysis": {"performanceMetrics": _figures(manifest.metrics)}} if manifest.metrics else {}
    )


def _figures(metrics: Part) -> list[Part]:
    """Return the figures on test, of all classes together and of each."""
    found = []
    for place, figures in {"all": metrics, **metrics.get("classes", {})}.items():
        for key in ("map50", "map50_95", "precision", "recall", "threshold"):
            if figures.get(key) is None:
                continue
            figure: Part = {"type": key, "value": f"{figures[key]:.4f}", "slice": place}
            low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
            if low is not None and high is not None:
                figure["confidenceInterval"] = {"lowerBound": f"{low:.4f}", "upperBound": f"{high:.4f}"}
            found.append(figure)
    return found


def _data(manifest: Manifest) -> list[Part]:
    dataset = manifest.dataset
    if not dataset:
        return []
    url, sha256 = str(dataset.get("url") or ""), dataset.get("sha256")
    contents = {"contents": {"url": url}} if url else {}
    name = str(dataset.get("name") or url or "dataset")
    return [
        {
            **{"type": "data", "bom-ref": "dataset", "name": name},
            **({"hashes": _sha256(sha256)} if sha256 else {}),
            "data": [{"type": "dataset", "name": name, **contents}],
        }
    ]


def _base(manifest: Manifest) -> list[Part]:
    """Return the pretrained weights that the training began with, where it did."""
    base = manifest.params.get("model") or {}
    if not base.get("sha256"):
        return []
    hashes = _sha256(base["sha256"])
    return [{"type": "machine-learning-model", "bom-ref": "base", "name": str(base.get("base")), "hashes": hashes}]


def _libraries(manifest: Manifest) -> list[Part]:
    found = []
    for name, version in manifest.libraries.items():
        purl = f"pkg:generic/python@{version}" if name == "python" else f"pkg:pypi/{name}@{version}"
        kind = "platform" if name == "python" else "library"
        found.append({"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return found


def _properties(manifest: Manifest) -> dict[str, str]:
    verdict = manifest.verdict
    return {
        "commit": manifest.commit or "",
        "gated_by": manifest.gated_by,
        "verdict": "" if verdict is None else "passed" if verdict.passed else "did not pass",
        "trial": manifest.trial,
        "variant": f"{manifest.variant.kind} sha256:{manifest.variant.sha256}" if manifest.variant else "",
    }


def _sha256(content: str) -> list[Part]:
    return [{"alg": "SHA-256", "content": content}]
