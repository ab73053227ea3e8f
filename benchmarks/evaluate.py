"""How fast `evaluate` measures an ONNX model, beside Ultralytics' own `val` of the same file on the same pictures.

`python -m benchmarks evaluate` needs the extra `train`: it trains a small model on the drawn sample first. Ours reads
val and test, so Ultralytics is given the pictures of both. It is spared plots; ours writes curves, the confusion of
classes and the worst misses. Whole commands are compared, and the work alone, without the start of Python and, for
Ultralytics, the import of torch.
"""

import argparse
import json
import shutil
from functools import partial
from pathlib import Path

import yaml

from benchmarks.rounds import CORES, FOLDER, in_turn, project, runner, table, took
from benchmarks.training import DVC, as_ultralytics, ultralytics

PARAMS = {"split": {"val": 0.1, "test": 0.6}, "presets": {"augment": "light"}}


def exported(folder: Path, pictures: int, imgsz: int, epochs: int, **sections: dict[str, object]) -> Path:
    """Copy the project, set sections of params.yaml, and run all stages before `evaluate`."""
    changes = {"dataset": {"sample": {"pictures": pictures}}, "model": {"imgsz": imgsz}, "train": {"epochs": epochs}}
    project(folder, {**PARAMS, **changes, **sections})
    took(*DVC, "repro", "export", cwd=folder)
    data = as_ultralytics(folder, folder / ".work/peer/data", ["val", "test"])
    both = [(data.parent / f"{part}.txt").read_text(encoding="utf-8") for part in ("val", "test")]
    (data.parent / "both.txt").write_text("".join(both), encoding="utf-8")
    described = yaml.safe_load(data.read_text(encoding="utf-8")) | dict.fromkeys(("train", "val", "test"), "both.txt")
    data.write_text(yaml.safe_dump(described), encoding="utf-8")
    return folder


def ours(folder: Path) -> tuple[float, float]:
    """Run the stage; return seconds with and without the start of Python."""
    whole = runner(folder, "evaluate")
    return whole, json.loads((folder / ".work/seconds/evaluate.json").read_text())


def theirs(folder: Path, imgsz: int) -> tuple[float, float]:
    """Run `yolo val`; return seconds with and without the start of Python and its imports."""
    peer = folder / ".work/peer"
    for cache in peer.rglob("*.cache"):
        cache.unlink()
    shutil.rmtree(peer / "run", ignore_errors=True)
    settings = {
        "model": folder / "artifacts/export/model.onnx",
        "data": peer / "data/data.yaml",
        "split": "test",
        "imgsz": imgsz,
        "conf": 0.001,
        "iou": 0.7,
        "rect": False,
        "plots": False,
        "device": "cpu",
        "workers": CORES,
        "project": peer,
        "name": "run",
    }
    started = ultralytics(peer / "settings", str(CORES), "version")
    whole = ultralytics(peer / "settings", str(CORES), "val", **settings)
    return whole, whole - started


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=500, help="of the sample; seven in ten are measured on")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args(arguments)
    root = FOLDER / "evaluate"
    folder = exported(root / "flywheel", options.pictures, options.imgsz, options.epochs)
    measured = len((folder / ".work/peer/data/both.txt").read_text(encoding="utf-8").splitlines())
    both = in_turn(
        {
            "`python -m runner evaluate`": partial(ours, folder),
            "`yolo val` of the same ONNX": partial(theirs, folder, options.imgsz),
        },
        options.rounds,
    )
    title = f"{measured} pictures at {options.imgsz} px"
    for place, what in enumerate(("whole commands", "the work alone")):
        seconds = {name: [each[place] for each in ran] for name, ran in both.items()}
        print(table(f"{title}: {what}", seconds, amount=measured, of="pictures"))
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
