"""Which pictures to label next: mAP50 by number of labelled pictures, for four ways to choose them.

`python -m benchmarks.label_next [--dataset FILE.zip --group REGEX]` needs the extra `train`. All labels are known, and
are hidden until a strategy asks for them. Each seed starts with the same random pictures for every strategy; in each
round a yolo11n is trained from scratch on what is labelled, measured on test pictures of other groups, and the strategy
names the next pictures by what that model says of them. All in one process, on one core.

    random    any pictures
    unsure    nothing found, or a confidence near its threshold
    spread    far from what is labelled, by difference hashes (k-centre, greedy)
    score     all parts of the score by which `captures push` orders, see runner/label_studio/label_next.py
"""

import argparse
import hashlib
import re
import shutil
import statistics
import time
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image

from benchmarks.rounds import FOLDER, markdown
from runner.label_studio.label_next import EQUAL, Evidence, Parts, most_useful, parts_of
from runner.sample import draw_sample
from runner.stages.offline import ultralytics_offline
from serving.vision.similarity import difference_hash

WEIGHTS = {"unsure": Parts(1, 1, 0, 0, 0), "spread": Parts(0, 0, 0, 0, 1), "score": EQUAL}
STRATEGIES = ("random", *WEIGHTS)
LOWEST, FOUND = 0.05, 0.25  # confidences: of boxes that count at all, and of a thing that counts as found
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t of a 95 % interval, by the number of seeds
TRAIN = {"batch": 8, "nbs": 8, "cos_lr": False, "warmup_epochs": 1.0, "warmup_bias_lr": 0.1, "val": False}
SUFFIXES = (".jpg", ".jpeg", ".png")


class Pool(NamedTuple):
    """The pictures of a dataset, with labels beside them as Ultralytics wants it."""

    pictures: list[Path]  # that may be labelled
    test: list[Path]
    classes: list[str]
    hashes: dict[Path, int]


class Said(NamedTuple):
    """What a model says of a picture: the confidence and class of each box."""

    confidences: list[float]
    classes: list[int]


def pool_of(folder: Path, source: Path | None, group: str | None, pictures: int) -> Pool:
    """Unpack or draw a dataset, and set three groups of ten apart for test, by the hash of their name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if source:
        zipfile.ZipFile(source).extractall(folder)
    else:
        draw_sample(folder, pictures=pictures, seed=0)
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    given = next(folder.rglob("data.yaml"), None)
    names = yaml.safe_load(given.read_text("utf-8"))["names"] if given else None
    classes = list(names.values() if isinstance(names, dict) else names or [])
    classes = classes or next(folder.rglob("classes.txt")).read_text("utf-8").split()

    def is_test(path: Path) -> bool:
        match = re.match(group, path.name) if group else None
        return hashlib.sha256((match[0] if match else path.name).encode()).digest()[0] % 10 < 3

    hashes = {path: difference_hash(Image.open(path)) for path in found}
    return Pool([p for p in found if not is_test(p)], [p for p in found if is_test(p)], classes, hashes)


def trained(
    folder: Path, pool: Pool, labelled: Sequence[Path], seed: int, epochs: int, imgsz: int
) -> tuple[float, dict[Path, Said]]:
    """Train on what is labelled; return the mAP50 on test, and what the model says of the rest of the pool."""
    from ultralytics import YOLO

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part, paths in {"train": labelled, "val": pool.test}.items():
        (folder / f"{part}.txt").write_text("".join(f"{path}\n" for path in paths), "utf-8")
    data = folder / "data.yaml"
    names = dict(enumerate(pool.classes))
    data.write_text(yaml.safe_dump({"train": "train.txt", "val": "val.txt", "path": str(folder), "names": names}))
    common: dict[str, Any] = {"data": str(data), "imgsz": imgsz, "device": "cpu", "workers": 0, "plots": False}
    model = YOLO("yolo11n.yaml")
    model.train(**common, **TRAIN, epochs=epochs, seed=seed, project=str(folder), name="run", verbose=False)
    model = YOLO(str(folder / "run/weights/last.pt"))
    map50 = float(model.val(**common, project=str(folder), name="val", verbose=False).box.map50)
    rest = [path for path in pool.pictures if path not in set(labelled)]
    said = {}
    for path in rest:
        (result,) = model.predict(str(path), conf=LOWEST, imgsz=imgsz, device="cpu", verbose=False)
        said[path] = Said(result.boxes.conf.tolist(), [int(each) for each in result.boxes.cls.tolist()])
    return map50, said


def chosen(
    strategy: str, pool: Pool, labelled: Sequence[Path], said: Mapping[Path, Said], count: int, seed: int
) -> list[Path]:
    """Return the pictures that a strategy wants labelled next, the most useful first."""
    rest = list(said)
    if strategy == "random":
        return [rest[place] for place in np.random.default_rng([seed, len(labelled)]).permutation(len(rest))[:count]]
    counts = Counter(pool.classes[class_id] for path in labelled for class_id in classes_of(path))
    parts = [parts_of(evidence(said[path], pool.classes), counts) for path in rest]
    hashes, known = [pool.hashes[path] for path in rest], [pool.hashes[path] for path in labelled]
    return [rest[place] for place, _ in most_useful(parts, hashes, known, count, WEIGHTS[strategy])]


def evidence(said: Said, classes: Sequence[str]) -> Evidence:
    """Return what a model says, as `captures push` would have it of a server with the threshold FOUND."""
    found = sum(confidence >= FOUND for confidence in said.confidences)
    margin = min((abs(confidence - FOUND) for confidence in said.confidences), default=None)
    return Evidence([classes[class_id] for class_id in said.classes], found, margin)


def classes_of(picture: Path) -> list[int]:
    """Return the class of each labelled box of a picture."""
    label = Path(*("labels" if part == "images" else part for part in picture.parts)).with_suffix(".txt")
    return [int(line.split()[0]) for line in label.read_text("utf-8").splitlines()] if label.exists() else []


def report(results: Mapping[tuple[str, int], list[float]], sizes: Sequence[int], strategies: Sequence[str]) -> str:
    """Return Markdown: mean mAP50 of the seeds at each size, and the mean difference from random after the first round.

    `results`: strategy and seed → mAP50 of each round.
    """
    seeds = sorted({seed for _, seed in results})
    rows = []
    gains = {
        (name, seed): float(np.mean(results[name, seed][1:])) - float(np.mean(results["random", seed][1:]))
        for name, seed in results
    }
    for name in strategies:
        means = [statistics.mean(results[name, seed][place] for seed in seeds) for place in range(len(sizes))]
        own = [gains[name, seed] for seed in seeds]
        gain = f"{statistics.mean(own):+.3f}"
        if len(seeds) in T_95:
            margin = T_95[len(seeds)] * statistics.stdev(own) / len(seeds) ** 0.5
            gain += f" ({statistics.mean(own) - margin:+.3f} to {statistics.mean(own) + margin:+.3f})"
        rows.append([name, *(f"{mean:.3f}" for mean in means), "" if name == "random" else gain])
    head = ["strategy", *(f"{size} labelled" for size in sizes), "minus random (95 %)"]
    return markdown(head, rows, f"{len(seeds)} seeds" if seeds[1:] else "1 seed: no interval")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="a zip with images/ and labels/; default: the drawn sample")
    parser.add_argument("--group", help="regular expression at the beginning of the name, for frames of a clip")
    parser.add_argument("--pictures", type=int, default=300, help="of the sample")
    parser.add_argument("--start", type=int, default=20, help="labelled pictures of the first round")
    parser.add_argument("--add", type=int, default=20, help="pictures that each round adds")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    options = parser.parse_args(arguments)
    strategies = list(dict.fromkeys(["random", *options.strategies]))
    folder = (FOLDER / "label-next").resolve()
    ultralytics_offline(folder)
    pool = pool_of(folder / "data", options.dataset, options.group, options.pictures)
    results: dict[tuple[str, int], list[float]] = {}
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(pool.pictures))
        start = [pool.pictures[place] for place in order[: options.start]]
        first = trained(folder / "run", pool, start, seed, options.epochs, options.imgsz)  # the same for all
        for strategy in strategies:
            labelled, (map50, said) = list(start), first
            results[strategy, seed] = [map50]
            for _ in range(1, options.rounds):
                labelled += chosen(strategy, pool, labelled, said, options.add, seed)
                map50, said = trained(folder / "run", pool, labelled, seed, options.epochs, options.imgsz)
                results[strategy, seed].append(map50)
            print(f"seed {seed}, {strategy}: {' '.join(f'{each:.3f}' for each in results[strategy, seed])}", flush=True)
    sizes = [options.start + number * options.add for number in range(options.rounds)]
    print(f"\n{report(results, sizes, strategies)}")
    print(f"{len(pool.test)} test pictures, {time.process_time() / 60:.1f} CPU-minutes")


if __name__ == "__main__":
    main()
