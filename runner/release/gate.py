"""Gate: compare the candidate with dev's model and the champion on the same test part, in the same run.

All go through `serving.vision.detector`, as in the server. The verdict is a file with every reason; not passing is a
verdict, no error.
"""

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.config.schema import Config
from runner.dataset.entries import Entry, read_entries
from runner.errors import ObjectError, StageError
from runner.release.contents import Candidate, load_candidate
from runner.release.criteria import (
    CHAMPION,
    DEPLOYED,
    ClassDetections,
    absolute,
    budgets,
    map50,
    per_class,
    unknown_names,
)
from runner.release.deployed import (
    Deployed,
    NotDeployedError,
    champions,
    load_deployed,
    load_version,
    trained_on,
)
from runner.release.pin import DEV
from runner.release.present_classes import ClassMap, class_map, class_map_of, is_dropped, present_ids, suppress_merged
from runner.release.timing import milliseconds
from runner.release.variant import judge_variant, refusal
from runner.release.verdict import criteria_of, verdict_file
from runner.stages.evaluate.examples import Example, class_ids, detect, load, read_part
from runner.stages.evaluate.metrics import Boxes, Ids
from runner.stages.evaluate.resampling import Ranked, rank
from runner.stages.picture_files import PictureFiles
from runner.store import Store
from runner.store.published import Version
from runner.workspace import remove_stale, sha256_of, work_folder, write_text
from serving.storage.manifest import ComparedVersion, Finding, JudgedVariant, Manifest, Verdict
from serving.vision import picture
from serving.vision.detector import Detector
from serving.vision.metadata import ModelError
from serving.vision.similarity import near_duplicates

MAP50_TOLERANCE = 0.01  # allowed difference from `evaluate`'s mAP50, which may be of another machine


class Compared(NamedTuple):
    """A published version beside the candidate."""

    against: str  # DEPLOYED or CHAMPION
    store: Store
    version: Version
    detections: ClassDetections


def gate(project: Path, *, alone: bool = False) -> Verdict:
    """Judge the model in artifacts/ and write the verdict to .work/verdict.json; `alone` by absolute criteria only."""
    work = work_folder()
    candidate = load_candidate(project)
    left_out: list[str] = []
    deployed, others = None, list[tuple[Store, Version]]()
    try:
        if alone:
            raise NotDeployedError("it was not asked for (--alone)")
        others = champions(project, candidate.config, left_out)
        deployed = load_deployed(project, DEV, work)
    except NotDeployedError as reason:
        left_out.append(f"comparison with the deployed model: {reason}")
    verdict = _judge(candidate, deployed, others, left_out, work)
    write_text(verdict_file(work), verdict.model_dump_json(indent=2) + "\n")
    return verdict


def _judge(
    candidate: Candidate,
    deployed: Deployed | None,
    others: Sequence[tuple[Store, Version]],
    left_out: list[str],
    work: Path,
) -> Verdict:
    config, folder = candidate.config, candidate.folder
    part = read_test_part(folder, config, work)
    names, test, entries = part.names, part.examples, part.entries
    detector = load(candidate.onnx)
    class_ids(detector.classes, names)  # raises for classes other than the dataset's
    shown = _shown(detector, names, test, config)._replace(metrics=candidate.metrics)
    _check_evaluation(map50(shown.classes), candidate)
    findings, not_judged = absolute(shown, config.gate)
    left_out += not_judged
    detectors, sizes = [detector], [candidate.onnx.stat().st_size]
    compared: list[Compared] = []
    if deployed:
        detectors.append(deployed.detector)
        sizes.append(deployed.size)
        own = _shown(deployed.detector, names, test, config, class_map_of(deployed.version.manifest))
        compared.append(Compared(DEPLOYED, deployed.store, deployed.version, own))
    if champion := _champion(others, compared, part, config, left_out, work):
        compared.append(champion)
    has_parts = config.split.mode != "hash" and part.has_parts
    for against, store, version, own in compared:
        if (known := trained_on(store, version)) is not None:
            unseen = unseen_pictures(entries, known, near=config.split.near != "ignore")
        elif reason := incomparable_split(version.manifest, config, has_parts):
            left_out.append(f"comparison of classes with {against}: {reason}")
            continue
        else:
            unseen = np.ones(len(test), np.bool_)
        if known is None or not part.sha256s.isdisjoint(known):  # otherwise it is of another dataset
            mappings = class_map_of(version.manifest), class_map(config.dataset.classes), config.gate.renamed
            findings += unknown_names(
                shown, own, [name for name in own.others if not is_dropped(name, *mappings)], against
            )
        found, not_compared = per_class(shown, own, config.gate, unseen, against)
        findings += found
        left_out += not_compared
    is_timed = deployed or config.gate.max_ms is not None
    times = map(statistics.median, milliseconds(detectors, test, perf_counter)) if is_timed else ()
    findings += budgets(list(times), sizes, config.gate)
    variant = _variant(candidate, detector, names, test)
    if variant and not variant.passed and config.gate.variant.required:
        said = f"{refusal(variant)}, and gate.variant.required is true"
        findings.append(Finding(criterion=f"variant {variant.kind}", said=said, passed=False))
    models = {
        against: ComparedVersion(model=version.model, version=version.number, manifest_sha256=version.sha256)
        for against, _, version, _ in compared
    }
    return Verdict(
        passed=all(each.passed for each in findings),
        findings=findings,
        left_out=left_out,
        onnx_sha256=sha256_of(candidate.onnx),
        pictures=len(test),
        deployed=models.get(DEPLOYED),
        champion=models.get(CHAMPION),
        criteria=criteria_of(config.gate),
        deploy=config.gate.deploy,
        variant=variant,
    )


def _variant(
    candidate: Candidate, detector: Detector, names: list[str], test: Sequence[Example]
) -> JudgedVariant | None:
    if candidate.variant is None:
        return None
    config = candidate.config
    return judge_variant(
        config.export.quantize,
        candidate.variant,
        detector,
        lambda model: _found(model, class_ids(model.classes, names), test, config),
        test,
        names,
        candidate.metrics,
        config.gate,
    )


def _champion(
    others: Sequence[tuple[Store, Version]],
    compared: Sequence[Compared],
    part: "TestPart",
    config: Config,
    left_out: list[str],
    work: Path,
) -> Compared | None:
    """Return the version with the best mAP50 on the test part; None where it is the deployed one, or there is none."""
    known = {each.version.sha256: each.detections for each in compared}
    found: list[Compared] = []
    for store, version in others:
        try:
            own = known.get(version.sha256) or detections_of(store, version, part, config, work)
        except (ObjectError, ModelError) as error:
            left_out.append(f"champion: {version.model} {version.number} cannot be used: {error}")
        else:
            found.append(Compared(CHAMPION, store, version, own))
    best = max(found, key=lambda each: map50(each.detections.classes) or 0.0, default=None)
    return None if best is None or best.version.sha256 in known else best


def incomparable_split(manifest: Manifest, config: Config, has_parts: bool) -> str:
    """Return why the deployed model may have been trained on pictures that are now in test; empty when it was not.

    A picture's part follows from the section `split` and its own key. So with the same section, a picture in test now
    was in test then, or absent. Where the dataset `has_parts` of its own, this holds only for the same dataset.
    """
    then, now = manifest.params.get("split"), config.split.model_dump()
    if not isinstance(then, dict):
        return "nobody knows which pictures the deployed model was trained on: its manifest has no params.split"
    if changed := sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key)):
        what = ", ".join(f"split.{key}" for key in changed)
        return f"the pictures were dealt anew ({what}), and the deployed model may know what is in test now"
    if has_parts and manifest.dataset.get("sha256") != config.dataset.sha256:
        return "the dataset gives the parts and is another one, and the deployed model may know what is in test now"
    return ""


def unseen_pictures(entries: Sequence[Entry], known: Mapping[str, str], *, near: bool) -> NDArray[np.bool_]:
    """Return (P,): whether a test picture, and if `near` every near-duplicate, is missing in `known`, sha256 → look."""
    unseen = np.array([entry["sha256"] not in known for entry in entries], np.bool_)
    places = [place for place, entry in enumerate(entries) if near and entry.get("look")]
    looks = [entries[place]["look"] for place in places]
    for pairs in near_duplicates([*looks, *filter(None, known.values())]):
        across = pairs[(pairs < len(places)).sum(axis=1) == 1]  # a picture of test, and one of theirs
        unseen[[places[place] for place in across.min(axis=1)]] = False
    return unseen


def _shown(
    detector: Detector, names: list[str], test: Sequence[Example], config: Config, then: ClassMap | None = None
) -> ClassDetections:
    """Run a model, trained with the mapping `then`, on the test part; classes are matched by their present names."""
    ids = present_ids(detector.classes, names, then or {}, class_map(config.dataset.classes), config.gate.renamed)
    ranked = rank([example.labelled for example in test], _found(detector, ids, test, config), len(names))
    classes = {name: each for number, (name, each) in enumerate(zip(names, ranked, strict=True)) if number in ids}
    return ClassDetections(classes, [name for name, own in zip(detector.classes, ids, strict=True) if own < 0])


def _found(detector: Detector, ids: Ids, test: Sequence[Example], config: Config) -> list[Boxes]:
    """Return the boxes of the dataset's classes in each picture; `ids` (C,) are theirs of the model's, -1 for none."""
    found = [each.everything for each in detect(detector, ids, test, config.evaluate)]
    return suppress_merged(found, ids, config.evaluate.iou)


class TestPart(NamedTuple):
    """The pictures of test, with their labels."""

    names: list[str]  # of the dataset's classes, in id order
    examples: list[Example]
    entries: list[Entry]  # of the same pictures, in the dataset's index
    has_parts: bool  # whether the dataset came with parts of its own
    sha256s: frozenset[str]  # of all pictures of the dataset, whatever their part


def read_test_part(artifacts: Path, config: Config, work: Path) -> TestPart:
    """Return the test part in artifacts/."""
    names = (artifacts / "dataset/classes.txt").read_text(encoding="utf-8").splitlines()
    index = {entry["image"]: entry for entry in read_entries(artifacts / "dataset")}
    files = PictureFiles.of(config, artifacts.parent, work)
    test = read_part("test", artifacts / "dataset", artifacts / "split", files)
    has_parts = any(entry.get("part") for entry in index.values())
    sha256s = frozenset(entry["sha256"] for entry in index.values())
    return TestPart(names, test, [index[example.image] for example in test], has_parts, sha256s)


def detections_of(store: Store, version: Version, part: TestPart, config: Config, work: Path) -> ClassDetections:
    """Return a version's detections on the test part, kept in `work` by all that decides them."""
    names, test = part.names, part.examples
    code = [file.read_text(encoding="utf-8") for file in sorted(Path(picture.__file__).parent.glob("*.py"))]
    labels = [
        [entry["sha256"], each.labelled.xyxy_px.tolist(), each.labelled.class_ids.tolist()]
        for entry, each in zip(part.entries, test, strict=True)
    ]
    then, now = class_map_of(version.manifest), config.dataset.classes
    decisive = [names, labels, config.evaluate.model_dump(), code, then, now, config.gate.renamed]
    digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()
    folder = work / "gate" / digest
    file = folder / f"{version.manifest.onnx_sha256}.json"
    if not file.is_file():
        remove_stale(folder)
        shown = _shown(load_version(store, version, work).detector, names, test, config, then)
        kept = {name: [column.tolist() for column in astuple(each)] for name, each in shown.classes.items()}
        write_text(file, json.dumps([kept, shown.others]))
    kept, others = json.loads(file.read_text(encoding="utf-8"))
    types = (np.intp, np.bool_, np.int64)
    classes = {
        name: Ranked(*(np.array(column, kind) for column, kind in zip(columns, types, strict=True)))
        for name, columns in kept.items()
    }
    return ClassDetections(classes, others)


def _check_evaluation(found: float | None, candidate: Candidate) -> None:
    written = candidate.metrics.get("map50")
    if (found is None) != (written is None) or abs((found or 0) - (written or 0)) > MAP50_TOLERANCE:
        raise StageError(
            f"{candidate.folder}/evaluation/metrics.json says mAP50 {written}, but {candidate.onnx} shows {found}: "
            "it is about another model; run `dvc repro`"
        )
