"""Gate: compare the candidate with dev's model on the same test part, in the same run.

Both go through `serving.vision.detector`, as in the server. The verdict is a file with every reason; not passing is a
verdict, no error.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from runner.config.schema import Config
from runner.errors import StageError
from runner.release.contents import Candidate, load_candidate
from runner.release.criteria import ClassDetections, absolute, budgets, map50, per_class
from runner.release.deployed import Deployed, NotDeployedError, load_deployed
from runner.release.pin import DEV
from runner.release.verdict import criteria_of, verdict_file
from runner.stages.evaluate.examples import Example, class_ids, detect, load, read_part
from runner.stages.evaluate.metrics import Ids
from runner.stages.evaluate.resampling import rank
from runner.workspace import sha256_of, work_folder, write_text
from serving.storage.manifest import ComparedVersion, Manifest, Verdict
from serving.vision.detector import Detector, Options

PAIRS = 40  # pictures that each model is timed on
MAP50_TOLERANCE = 0.01  # allowed difference from `evaluate`'s mAP50, which may be of another machine


def gate(project: Path, *, alone: bool = False) -> Verdict:
    """Judge the model in artifacts/ and write the verdict to .work/verdict.json; `alone` by absolute criteria only."""
    work = work_folder()
    candidate = load_candidate(project)
    left_out: list[str] = []
    try:
        if alone:
            raise NotDeployedError("it was not asked for (--alone)")
        deployed = load_deployed(project, DEV, work)
    except NotDeployedError as reason:
        deployed = None
        left_out.append(f"comparison with the deployed model: {reason}")
    verdict = _judge(candidate, deployed, left_out)
    write_text(verdict_file(work), verdict.model_dump_json(indent=2) + "\n")
    return verdict


def _judge(candidate: Candidate, deployed: Deployed | None, left_out: list[str]) -> Verdict:
    config, folder = candidate.config, candidate.folder
    names = (folder / "dataset/classes.txt").read_text(encoding="utf-8").splitlines()
    test = read_part("test", folder / "raw", folder / "dataset", folder / "split")
    detector = load(candidate.onnx)
    class_ids(detector.classes, names)  # raises for classes other than the dataset's
    shown = _shown(detector, names, test, config)._replace(metrics=candidate.metrics)
    _check_evaluation(map50(shown.classes), candidate)
    findings, not_judged = absolute(shown, config.gate)
    left_out += not_judged
    against, detectors, sizes = None, [detector], [candidate.onnx.stat().st_size]
    if deployed:
        model, number, manifest, sha256 = deployed.version
        against = ComparedVersion(model=model, version=number, manifest_sha256=sha256)
        if reason := incomparable_split(manifest, config, _has_parts(candidate)):
            left_out.append(f"comparison of classes: {reason}")
        else:
            compared, not_compared = per_class(shown, _shown(deployed.detector, names, test, config), config.gate)
            findings += compared
            left_out += not_compared
        detectors.append(deployed.detector)
        sizes.append(deployed.size)
    times = milliseconds(detectors, test) if deployed or config.gate.max_ms is not None else []
    findings += budgets(times, sizes, config.gate)
    return Verdict(
        passed=all(each.passed for each in findings),
        findings=findings,
        left_out=left_out,
        onnx_sha256=sha256_of(candidate.onnx),
        pictures=len(test),
        deployed=against,
        criteria=criteria_of(config.gate),
        deploy=config.gate.deploy,
    )


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


def _has_parts(candidate: Candidate) -> bool:
    """Whether the split kept parts of the dataset's own."""
    index = json.loads((candidate.folder / "dataset/index.json").read_text(encoding="utf-8"))
    return candidate.config.split.mode != "hash" and any(entry.get("part") for entry in index)


def milliseconds(detectors: Sequence[Detector], test: Sequence[Example]) -> list[float]:
    """Return each model's median time for a picture, decoding and suppression included.

    The models take turns and alternate who begins, so other load on the machine affects all alike.
    """
    options = Options(max_pixels=10**10)
    pictures = [example.source.read_bytes() for example in test[:PAIRS]]
    times: list[list[float]] = [[] for _ in detectors]
    for turn in range(-1, PAIRS):  # the first turn is warm-up
        order = range(len(detectors)) if turn % 2 else reversed(range(len(detectors)))
        for number in order:
            start = perf_counter()
            detectors[number].detect(pictures[turn % len(pictures)], options)
            times[number].append((perf_counter() - start) * 1e3)
    return [statistics.median(each[1:]) for each in times]


def _shown(detector: Detector, names: list[str], test: Sequence[Example], config: Config) -> ClassDetections:
    """Run a model on the test part; classes are matched by name."""
    ids: Ids = np.array([names.index(name) if name in names else -1 for name in detector.classes], np.int64)
    found = [each.everything for each in detect(detector, ids, test, config.evaluate)]
    known = [each.take(np.flatnonzero(each.class_ids >= 0)) for each in found]
    ranked = rank([example.labelled for example in test], known, len(names))
    classes = {name: each for name, each in zip(names, ranked, strict=True) if name in detector.classes}
    return ClassDetections(classes, [name for name in detector.classes if name not in names])


def _check_evaluation(found: float | None, candidate: Candidate) -> None:
    written = candidate.metrics.get("map50")
    if (found is None) != (written is None) or abs((found or 0) - (written or 0)) > MAP50_TOLERANCE:
        raise StageError(
            f"{candidate.folder}/evaluation/metrics.json says mAP50 {written}, but {candidate.onnx} shows {found}: "
            "it is about another model; run `dvc repro`"
        )
