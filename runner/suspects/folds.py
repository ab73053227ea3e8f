"""Models for the pictures of train: for each fold of them, one that was trained on the other folds."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from runner.config.schema import Config, SplitConfig
from runner.dataset.entries import Entry, read_entries
from runner.errors import StageError
from runner.stages.evaluate.examples import Example, read_part
from runner.stages.picture_files import PictureFiles
from runner.stages.registry import PINS, seconds_file
from runner.stages.split import families_of
from runner.workspace import link, remove_stale, work_folder, write_text


def predict_folds(
    config: Config, folds: int, artifacts: Path, files: PictureFiles
) -> Iterator[tuple[list[tuple[str, Example]], Path]]:
    """Yield the pictures of each fold, each with its part, train, and the ONNX model that was trained on the others.

    A training has the settings of the last one, and the same val; it continues after a kill, and is not repeated while
    its inputs stay the same. StageError: a fold would be empty.
    """
    dataset, split = artifacts / "dataset", artifacts / "split"
    index = read_entries(dataset)
    images = set((split / "train.txt").read_text(encoding="utf-8").splitlines())
    parts = deal_folds([entry for entry in index if entry["image"] in images], config.split, folds)
    noted = seconds_file("train")
    cost = f", about {float(noted.read_text()) / 60 * (folds - 1):.0f} minutes in all" if noted.is_file() else ""
    print(f"{folds} trainings on {folds - 1} of {folds} parts of train{cost}; an interrupted one continues", flush=True)
    for number, held_out in enumerate(parts, 1):
        print(f"fold {number} of {folds}: {len(held_out)} pictures are judged", flush=True)
        own = work_folder() / "suspects" / f"fold-{number}"
        remove_stale(own)
        (lists := own / "split").mkdir(parents=True, exist_ok=True)
        write_text(lists / "train.txt", _lines(image for part in parts for image in part if part is not held_out))
        write_text(lists / "test.txt", _lines(held_out))
        for name in ("val.txt", "data.yaml"):
            (lists / name).unlink(missing_ok=True)
            link(split / name, lists / name)
        model = _train(config, dataset, lists, own, files)
        yield [("train", example) for example in read_part("test", dataset, lists, files)], model


def deal_folds(entries: list[Entry], settings: SplitConfig, folds: int) -> list[list[str]]:
    """Deal the pictures of train into folds, by the hash of a family's key: frames of one clip stay together."""
    dealt: list[list[str]] = [[] for _ in range(folds)]
    for key, places in families_of(entries, settings):
        number = int.from_bytes(hashlib.sha256(f"fold:{settings.seed}:{key}".encode()).digest()[:8], "big") % folds
        dealt[number] += [entries[place]["image"] for place in places]
    if not all(dealt):
        raise StageError(f"--folds {folds}: train has too few groups of pictures for it; choose fewer folds")
    return dealt


def _train(config: Config, dataset: Path, split: Path, folder: Path, files: PictureFiles) -> Path:
    from runner.dataset.weights import fetch_weights
    from runner.stages.export.export import export
    from runner.stages.train.train import train
    from runner.store import open_store
    from runner.workspace import project_root

    work, model, weights = work_folder(), config.model, None
    if model.sha256 is not None:
        weights = fetch_weights(model.base, model.sha256, open_store(project_root()), work)
    for name in ("model", "export"):
        (folder / name).mkdir(exist_ok=True)
    out = folder / "model"
    settings = (config.seed, model, config.train, config.augment)
    train(dataset, split, *settings, out, work=work, pins=PINS[model.trainer], weights=weights, files=files)
    exported = folder / "export"
    inputs = (out, dataset, split, model.trainer, model.imgsz, config.export, exported)
    print(export(*inputs, work=work, files=files), flush=True)
    return exported / "model.onnx"


def _lines(images: Iterator[str] | list[str]) -> str:
    return "".join(f"{image}\n" for image in images)
