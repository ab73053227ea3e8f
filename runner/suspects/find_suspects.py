"""`labels suspects`: boxes of the dataset that the model contradicts, ranked."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from runner.config.compose import compose
from runner.config.schema import EvaluateConfig
from runner.dataset.entries import read_entries
from runner.errors import StageError
from runner.stages.evaluate.examples import Example, class_ids, detect, load, read_part
from runner.stages.evaluate.metrics import Boxes
from runner.stages.picture_files import PictureFiles
from runner.suspects.folds import predict_folds
from runner.suspects.ranking import Suspect, rank_suspects, score_suspects
from runner.workspace import ARTIFACTS, sha256_of, work_folder

JUDGED = ("val", "test")  # parts that the model was not trained on


class JudgedPicture(NamedTuple):
    """A picture whose labels were compared with predictions."""

    example: Example
    part: str  # train, val or test
    sha256: str  # of its bytes, in hex
    size_px: tuple[int, int]  # width and height as a viewer shows it


class Judgement(NamedTuple):
    """The judged pictures, and every suspect in them, the most suspicious first."""

    classes: list[str]  # names in id order
    model: str  # sha256 of model.onnx, in hex
    folds: int  # trainings that judged train; 0: train was not judged
    pictures: list[JudgedPicture]
    suspects: list[Suspect]


def find_suspects(project: Path, *, parts: Sequence[str] = JUDGED, folds: int = 0) -> Judgement:
    """Compare labels with the predictions of a model that was not trained on their pictures; return the suspects.

    val and test are judged by model.onnx. `folds`, 2 or more, judges train too: for each fold of its pictures a model
    is trained on the others. StageError: there is no trained model, or its classes are not the dataset's.
    """
    if folds == 1 or folds < 0:
        raise StageError(f"--folds is {folds}, expected 2 or more: each fold is judged by a model of the others")
    config, _ = compose(project)
    artifacts = project / ARTIFACTS
    dataset, split, onnx = (artifacts / name for name in ("dataset", "split", "export/model.onnx"))
    if missing := next((path for path in (dataset, split, onnx) if not path.exists()), None):
        raise StageError(f"{missing} is missing; `dvc repro` makes it, `dvc pull` fetches it")
    names = (dataset / "classes.txt").read_text(encoding="utf-8").splitlines()
    index = {entry["image"]: entry for entry in read_entries(dataset)}
    files = PictureFiles.of(config, project, work_folder(project))
    own = [(part, example) for part in parts for example in read_part(part, dataset, split, files)]
    pictures: list[JudgedPicture] = []
    suspects: list[Suspect] = []
    for judged, model in chain([(own, onnx)], predict_folds(config, folds, artifacts, files) if folds else ()):
        examples = [example for _, example in judged]
        found = predict(model, names, examples, config.evaluate)
        scored = score_suspects([example.labelled for example in examples], found, len(names))
        suspects += [suspect._replace(picture=len(pictures) + suspect.picture) for suspect in scored]
        for part, example in judged:
            entry = index[example.image]
            pictures.append(JudgedPicture(example, part, entry["sha256"], (entry["width"], entry["height"])))
    return Judgement(names, sha256_of(onnx), folds, pictures, rank_suspects(suspects))


def predict(onnx: Path, names: Sequence[str], examples: Sequence[Example], settings: EvaluateConfig) -> list[Boxes]:
    """Return all predictions of each picture, as average precision counts them."""
    detector = load(onnx)
    return [found.everything for found in detect(detector, class_ids(detector.classes, names), examples, settings)]
