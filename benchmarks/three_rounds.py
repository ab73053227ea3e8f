"""Three rounds of the wheel on real pictures: 40 % of the clips are labelled at first, captures bring the rest.

`python -m benchmarks.three_rounds planes-helis-yolo.zip` needs the extra `train`. In each round a model is trained by
`dvc repro` and published; the model server answers with it, and sees every frame of 30 % of the clips, which nobody has
labelled. What it captures gets its true boxes, as from an annotator who errs nowhere, and is added to the dataset. At
the end `flywheel --rescore` measures all models on one test part, and draws `.work/flywheel.png`.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.rounds import FOLDER, project, runner, shell, took
from tests.support.processes import until
from tests.support.projects import IDENTITY, git
from tests.support.servers import running

CLIP = ".*_f"  # in the name of a frame
SHARES = (0.4, 0.3, 0.3)  # of the clips: labelled at first, seen by the first model, and by the second
PARAMS = {
    "presets": {"augment": "light", "train": "cpu"},
    "split": {"group": CLIP, "val": 0.15, "test": 0.3},
    "model": {"name": "planes"},
    "gate": {"min_map50": 0.0, "min_boxes": 1, "max_class_drop": 1.0, "max_latency": 100.0},
}
SERVER = {"CAPTURE_PER_MINUTE": "1000", "CAPTURE_PER_HOUR": "1000", "ENVIRONMENT": "dev", "WORKERS": "1"}


def clips_of(folder: Path) -> list[list[Path]]:
    """Return the frames of each clip; the order of the clips is by the hash of their name."""
    clips: dict[str, list[Path]] = {}
    for path in sorted((folder / "images").iterdir()):
        match = re.match(CLIP, path.name)
        clips.setdefault(match[0] if match else path.name, []).append(path)
    return [clips[name] for name in sorted(clips, key=lambda name: hashlib.sha256(name.encode()).digest())]


def shared_out(clips: Sequence[list[Path]]) -> list[list[Path]]:
    """Return the frames that are labelled at first, and those that each later round's model sees."""
    edges = [round(len(clips) * sum(SHARES[:number])) for number in range(len(SHARES) + 1)]
    return [[frame for clip in clips[low:high] for frame in clip] for low, high in pairwise(edges)]


def label(dataset: Path, source: Path, frames: Sequence[Path]) -> None:
    """Add frames to a dataset's folder, with their true boxes."""
    for name in ("images", "labels"):
        (dataset / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "classes.txt", dataset)
    for frame in frames:
        shutil.copy(frame, dataset / "images")
        shutil.copy(source / "labels" / f"{frame.stem}.txt", dataset / "labels")


def train(folder: Path, store: Path, dataset: Path, message: str) -> str:
    """Add the dataset's next version, train, and publish; return the last line of the evaluation."""
    uri = {"STORE_URI": str(store)}
    runner(folder, "dataset", "add", str(dataset), **uri)
    took(sys.executable, "-m", "dvc", "repro", cwd=folder, **uri)
    runner(folder, "gate", **uri)
    git(folder, "add", "-A")
    git(folder, *IDENTITY, "commit", "-qm", message)
    runner(folder, "publish", **uri)
    metrics = json.loads((folder / "artifacts/evaluation/metrics.json").read_text("utf-8"))
    return f"{metrics['pictures']} test pictures, mAP50 {metrics['map50']:.3f}"


def captured(folder: Path, store: Path, version: int, frames: Sequence[Path]) -> list[Path]:
    """Show frames to the model server; return those that it captures."""
    folder.mkdir()
    model = f"{store}/models/planes/{version}/manifest.json"
    with running(folder, MODEL_URI=model, CAPTURE_URI=str(store), **SERVER) as server:
        for frame in frames:
            server.post("/detect", frame.read_bytes())
        until(lambda: b"\nflywheel_capture_queue_length 0.0" in server.get("/metrics").body)
    kept = store.glob(f"captures/dev/planes/{version}/*/*.json")
    sent = {json.loads(file.read_text("utf-8"))["sent_sha256"] for file in kept}
    return [frame for frame in frames if hashlib.sha256(frame.read_bytes()).hexdigest() in sent]


def main(arguments: list[str] | None = None) -> None:
    """Turn the wheel, and print what each round brought."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a zip with classes.txt, images/ and labels/")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--imgsz", type=int, default=160)
    options = parser.parse_args(arguments)
    root = (FOLDER / "three-rounds").resolve()
    shutil.rmtree(root, ignore_errors=True)
    source, dataset, store = root / "source", root / "planes", root / "store"
    zipfile.ZipFile(options.dataset).extractall(source)
    changes = {"train": {"epochs": options.epochs}, "model": {"name": "planes", "imgsz": options.imgsz}}
    folder = project(root / "flywheel", PARAMS | changes)
    new = (seen := shared_out(clips_of(source)))[0]
    for number in range(1, len(seen) + 1):
        label(dataset, source, new)
        start = time.perf_counter()
        said = train(folder, store, dataset, f"round {number}")
        print(f"round {number}: {len(new)} new pictures; {said}; {time.perf_counter() - start:.0f} s", flush=True)
        if number < len(seen):
            new = captured(root / f"server-{number}", store, number, seen[number])
            print(f"         the server saw {len(seen[number])} pictures and captured {len(new)}", flush=True)
    report = [sys.executable, "-m", "runner", "flywheel", "--rescore"]
    subprocess.run(report, cwd=folder, env=shell(STORE_URI=str(store)), check=True)


if __name__ == "__main__":
    main()
